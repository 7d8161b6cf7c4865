package survival_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/cmd/internal/lab"
)

// leader is the machine whose server leads.
func (f *field) leader() *machine {
	f.t.Helper()
	client := f.machines[0].mesh()
	defer client.Close()
	var found *machine
	f.eventually("a server leads", func() bool {
		for _, m := range f.machines {
			ctx, cancel := context.WithTimeout(f.t.Context(), time.Second)
			status, err := client.Status(ctx, m.client())
			cancel()
			if err == nil && status.Leader == status.Header.MemberId {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

// votes says whether a server of the machine votes.
func (m *machine) votes() bool {
	client := m.mesh()
	defer client.Close()
	ctx, cancel := context.WithTimeout(m.field.t.Context(), 5*time.Second)
	defer cancel()
	list, err := client.MemberList(ctx)
	if err != nil {
		m.field.t.Fatal(err)
	}
	for _, member := range list.Members {
		if member.Name == m.Name {
			return !member.IsLearner
		}
	}
	return false
}

// drift changes a file that the machine keeps, and waits until it is put right.
func (m *machine) drift() {
	m.field.t.Helper()
	path := m.in(m.Name + "-0")
	if err := os.WriteFile(path, []byte("drift\n"), 0o644); err != nil {
		m.field.t.Fatal(err)
	}
	m.field.eventually(m.Name+" repairs what has drifted", func() bool {
		text, err := os.ReadFile(path)
		return err == nil && string(text) == m.content(0)
	})
}

func others(f *field, m *machine) []*machine {
	return slices.DeleteFunc(slices.Clone(f.machines), func(o *machine) bool { return o == m })
}

func TestALeaderThatIsPausedCostsNothing(t *testing.T) {
	for range rounds(t, 1, 5) {
		f := newField(t, 5, 3)
		f.up()
		f.settled(3)
		c := f.check()
		leader := f.leader()
		left := others(f, leader)
		if err := leader.process.Pause(); err != nil {
			t.Fatal(err)
		}
		end := time.After(15 * time.Second)
		began := time.Now()
		left[0].export()
		f.exchanged(left...)
		t.Logf("the others exchange again after %v", time.Since(began))
		<-end
		if err := leader.process.Resume(); err != nil {
			t.Fatal(err)
		}
		leader.export()
		f.exchanged(f.machines...)
		c.end()
	}
}

func TestAMinorityKeepsItsMachinesAndCatchesUp(t *testing.T) {
	for range rounds(t, 1, 5) {
		f := newField(t, 5, 3)
		f.up()
		f.settled(3)
		c := f.check()
		minority := []*machine{f.leader()} // one of three that vote, and one that doesn't
		for _, m := range f.machines {
			if !m.votes() {
				minority = append(minority, m)
				break
			}
		}
		majority := slices.DeleteFunc(slices.Clone(f.machines), func(m *machine) bool { return slices.Contains(minority, m) })
		f.net.Part(addrs(minority...), addrs(majority...))
		majority[0].export()
		f.exchanged(majority...)
		for _, m := range minority {
			m.drift()
		}
		minority[0].export() // nobody else can know
		for _, m := range minority {
			m.kill() // not even a new start without the mesh loses what was known
			_ = os.Remove(m.in(majority[0].Name + "-0"))
			m.start()
			f.eventually("what was known is applied without the mesh", func() bool {
				_, err := os.Stat(m.in(majority[0].Name + "-0"))
				return err == nil
			})
		}
		f.net.SetAll(lab.Link{})
		f.exchanged(f.machines...)
		c.end()
	}
}

func TestAllMayDieAndComeBackInAnotherOrder(t *testing.T) {
	for range rounds(t, 1, 5) {
		f := newField(t, 5, 3)
		f.up()
		f.settled(3)
		c := f.check()
		f.eventually("something is written", func() bool { return c.count() > 100 })
		for _, m := range f.machines {
			m.kill()
		}
		f.machines[4].export()
		for _, m := range slices.Backward(f.machines) {
			m.start()
		}
		f.exchanged(f.machines...)
		c.end()
	}
}

func TestAServerThatTheOthersWaitForComesBackByItself(t *testing.T) {
	rounds(t, 1, 1)
	f := newField(t, 4, 3)
	f.up()
	f.settled(3)
	var servers, agents []*machine
	for _, m := range f.machines {
		if m.votes() {
			servers = append(servers, m)
		} else {
			agents = append(agents, m)
		}
	}
	servers[0].kill()
	servers[1].kill()
	servers[0].start(agents[0]) // which it has never heard of, and which serves nothing
	servers[0].export()
	f.exchanged(others(f, servers[1])...)
}

func TestAHostThatLeavesInOrderHandsOver(t *testing.T) {
	for _, test := range []struct {
		name                 string
		hosts, before, after int
	}{
		{"one of three servers, and a fourth host takes its place", 4, 3, 3},
		{"the only server of two hosts", 2, 1, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			rounds(t, 1, 1)
			f := newField(t, test.hosts, 3)
			f.up()
			f.settled(test.before)
			c := f.check()
			leader := f.leader()
			left := others(f, leader)
			leader.stop()
			began := time.Now()
			left[0].export()
			f.exchanged(left...)
			t.Logf("the others exchange again after %v", time.Since(began))
			f.settled(test.after)
			c.end()
		})
	}
}

func TestTheFirstSeedMayBeDown(t *testing.T) {
	rounds(t, 1, 1)
	f := newField(t, 4, 3)
	late := f.machines[3]
	f.machines = f.machines[:3]
	f.up()
	f.settled(3)
	f.machines[0].kill()
	f.machines = append(f.machines, late)
	late.start(f.machines[0], f.machines[1])
	f.exchanged(f.machines[1:]...)
}

func TestADiskThatIsFull(t *testing.T) {
	for range rounds(t, 1, 3) {
		f := newField(t, 3, 3)
		full := f.machines[2]
		disk := filepath.Join(full.dir, "state")
		if err := errors.Join(os.Mkdir(disk, 0o700), unix.Mount("mgmt", disk, "tmpfs", 0, "size=320m")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			full.kill()
			if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		f.up()
		f.settled(3)
		c := f.check()
		ballast := filepath.Join(disk, "ballast")
		fill(t, ballast)
		for range 10 {
			f.machines[0].export()
			f.exchanged(f.machines[:2]...)
		}
		full.drift()
		if os.Getenv("MGMT_SOAK") != "" {
			f.eventually("the host leaves it to others to serve", func() bool {
				return strings.Contains(full.log.String(), "doesn't serve for a while")
			})
		}
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		f.exchanged(f.machines...)
		f.settled(3)
		c.end()
	}
}

// fill writes until the disk takes no more.
func fill(t *testing.T, path string) {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for size := 1 << 20; size > 0; {
		if _, err := file.Write(make([]byte, size)); err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Fatal(err)
			}
			size /= 2
		}
	}
}

func TestSlowLinksThatLosePackets(t *testing.T) {
	for range rounds(t, 1, 5) {
		f := newField(t, 5, 3)
		f.up()
		f.settled(3)
		c := f.check()
		f.net.SetAll(lab.Link{Delay: 200 * time.Millisecond, Loss: 0.05})
		var took []time.Duration
		for i := range 5 {
			began := time.Now()
			f.machines[i].export()
			f.exchanged(f.machines...)
			took = append(took, time.Since(began))
		}
		t.Logf("a change reaches all within %v (median), %v (worst)", median(took), slices.Max(took))
		f.machines[1].kill()
		f.machines[0].export()
		f.exchanged(others(f, f.machines[1])...)
		f.machines[1].start(f.machines[0])
		f.exchanged(f.machines...)
		c.end()
	}
}

// TestAClockThatIsStepped changes the clock of this machine, for some seconds.
func TestAClockThatIsStepped(t *testing.T) {
	if os.Getenv("MGMT_STEP_CLOCK") == "" {
		t.Skip("steps the clock of this machine: MGMT_STEP_CLOCK=1")
	}
	f := newField(t, 3, 3)
	f.up()
	f.settled(3)
	c := f.check()
	for _, step := range []time.Duration{time.Hour, -2 * time.Hour, time.Hour} {
		now := unix.NsecToTimespec(time.Now().Add(step).UnixNano())
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
			t.Skip("the clock can't be set:", err)
		}
		f.machines[0].export()
		f.exchanged(f.machines...)
		<-time.After(3 * time.Second)
	}
	c.end()
}
