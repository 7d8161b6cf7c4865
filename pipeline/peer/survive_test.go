package peer_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/pipeline/peer"
	"github.com/mgmtproject/mgmt/pipeline/peer/members"
	"github.com/mgmtproject/mgmt/sources/mesh"
)

// city is a town whose hosts are processes, and a host of this process that only looks on.
type city struct {
	*town
	hosts map[string]*process
}

// newCity has five hosts, three of which serve, and "x" that looks on.
func newCity(t *testing.T, grace time.Duration) *city {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a mesh of processes")
	}
	c := &city{town: newTown(t), hosts: map[string]*process{}}
	c.grace = grace
	for i, host := range []string{"a", "b", "c", "d", "e"} {
		var seeds []string
		if i > 0 {
			seeds = c.town.hosts["x"].Status().Servers
		}
		c.hosts[host] = c.spawn(host, seeds...)
		c.hosts[host].open()
		if i == 0 {
			c.look()
			c.put("x", members.IdealKey, "3")
		}
	}
	c.settles("a b c")
	return c
}

// look opens the host that looks on, with the addresses that the others keep.
func (c *city) look() {
	c.t.Helper()
	c.open(peer.Options{Host: "x", Seeds: c.kept("a"), NoServer: true})
}

// kept is where a host will listen for clients, by its notes.
func (c *city) kept(host string) []string {
	c.t.Helper()
	n := struct {
		URLs []string `json:"client_urls"`
	}{}
	c.read(filepath.Join(c.dir, host, "peer.json"), &n)
	return n.URLs
}

// leader is the host that leads.
func (c *city) leader() string {
	c.t.Helper()
	l, err := c.town.hosts["x"].Store().List(c.t.Context(), members.LeaderPrefix)
	if err != nil || len(l.Entries) == 0 {
		c.t.Fatalf("nobody leads: %v", err)
	}
	first := slices.MinFunc(l.Entries, func(a, b mesh.Entry) int { return int(a.Created - b.Created) })
	return string(first.Value)
}

// write has x write a key every 50 ms until the returned function is called, which checks
// that none was refused, all are there, and says how long the slowest took.
func (c *city) write() (stop func() time.Duration) {
	c.t.Helper()
	ended, done := make(chan struct{}), make(chan struct{})
	prefix := fmt.Sprintf("%swritten/%d/", mesh.KVPrefix, time.Now().UnixNano())
	store := c.town.hosts["x"].Store()
	slowest, n := time.Duration(0), 0
	var failed error
	go func() {
		defer close(done)
		for ; ; n++ {
			select {
			case <-ended:
				return
			case <-time.After(50 * time.Millisecond):
			}
			began := time.Now()
			op := mesh.Put(fmt.Sprintf("%s%06d", prefix, n), []byte("x"))
			if _, err := store.Write(c.t.Context(), mesh.Txn{Ops: []mesh.Op{op}}); err != nil {
				failed = fmt.Errorf("write %d: %w", n, err)
				return
			}
			slowest = max(slowest, time.Since(began))
		}
	}()
	return func() time.Duration {
		c.t.Helper()
		close(ended)
		<-done
		if failed != nil {
			c.t.Error(failed)
		}
		l, err := store.List(c.t.Context(), prefix)
		if err != nil || len(l.Entries) != n {
			c.t.Errorf("%d keys of %d that were written are there: %v", len(l.Entries), n, err)
		}
		return slowest
	}
}

func TestAServerThatIsKilledIsReplaced(t *testing.T) {
	c := newCity(t, 2*time.Second)
	leader := c.leader()
	stop := c.write()
	c.hosts[leader].kill()
	left := without([]string{"a", "b", "c", "d"}, leader)
	t.Logf("the leader %s was replaced after %v", leader, c.settles(left))
	t.Logf("the slowest write took %v", stop())

	// It comes back with the data that it had.
	c.hosts[leader] = c.spawn(leader)
	t.Logf("it was back after %v", c.hosts[leader].open())
	c.eventually("its old data is set aside", func() bool {
		aside, err := filepath.Glob(filepath.Join(c.dir, leader, "server", "aside-*"))
		return err == nil && len(aside) == 1
	})
	c.settles(left)
	stop = c.write()
	other := strings.Fields(left)[0]
	c.hosts[other].kill()
	t.Logf("%s was replaced after %v", other, c.settles(without([]string{"a", "b", "c", "d"}, other)))
	t.Logf("the slowest write took %v", stop())
}

func TestALeaderThatIsPausedLosesNothing(t *testing.T) {
	c := newCity(t, peer.DefaultGrace)
	leader := c.leader()
	before, err := c.town.hosts["x"].Client().MemberList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stop := c.write()
	c.hosts[leader].signal(syscall.SIGSTOP)
	pause := time.After(15 * time.Second)
	c.eventually("another host leads", func() bool { return c.leader() != leader })
	<-pause
	c.hosts[leader].signal(syscall.SIGCONT)
	c.eventually("it is there again", func() bool { return c.get("x", mesh.AlivePrefix+leader) != "" })
	t.Logf("the slowest write took %v", stop())
	c.settles("a b c")
	after, err := c.town.hosts["x"].Client().MemberList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range before.Members {
		if after.Members[i].ID != m.ID {
			t.Errorf("member %v was replaced", m)
		}
	}
}

func TestAllKilledAndStartedInAnotherOrder(t *testing.T) {
	c := newCity(t, 2*time.Second)
	c.put("x", mesh.KVPrefix+"kept", "1")
	for _, p := range c.hosts {
		p.kill()
	}
	began := time.Now()
	for _, host := range []string{"e", "c", "b", "d", "a"} {
		c.hosts[host] = c.spawn(host)
	}
	for _, p := range c.hosts {
		p.open()
	}
	t.Logf("all are there again after %v", time.Since(began))
	c.settles("a b c")
	if got := c.get("x", mesh.KVPrefix+"kept"); got != "1" {
		t.Errorf("what was kept is %q", got)
	}
}

// Any host is killed or stopped at any time, and comes back a while later.
// PEER_TEST_ROUNDS says how often.
func TestHostsDieAtAnyTime(t *testing.T) {
	c := newCity(t, 2*time.Second)
	rounds, err := strconv.Atoi(os.Getenv("PEER_TEST_ROUNDS"))
	if err != nil {
		rounds = 5
	}
	stop := c.write()
	var took []time.Duration
	for range rounds {
		host := string("abcde"[rand.N(5)])
		time.Sleep(rand.N(2 * time.Second))
		stopped := rand.N(3) == 0
		t.Logf("%s is stopped: %v, or else killed", host, stopped)
		if stopped {
			c.hosts[host].signal(syscall.SIGSTOP)
		} else {
			c.hosts[host].kill()
		}
		began := time.Now()
		c.put("x", mesh.KVPrefix+"last", host)
		took = append(took, time.Since(began))
		time.Sleep(rand.N(4 * time.Second))
		if stopped {
			c.hosts[host].signal(syscall.SIGCONT)
			continue
		}
		c.hosts[host] = c.spawn(host)
		c.hosts[host].open()
	}
	slices.Sort(took)
	t.Logf("after a kill the mesh took a write within %v at the median and %v at most", took[len(took)/2], took[len(took)-1])
	t.Logf("the slowest write took %v", stop())
	c.eventually("there are three voters", func() bool {
		return len(strings.Fields(c.voters())) == 3 && !strings.Contains(c.voters(), "+")
	})
}

// without are all hosts but one, as settles wants them.
func without(hosts []string, host string) string {
	return strings.Join(slices.DeleteFunc(hosts, func(h string) bool { return h == host }), " ")
}
