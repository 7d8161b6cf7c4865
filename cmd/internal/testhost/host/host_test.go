package host_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/cmd/internal/testhost/host"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// boot boots a host that ends with the test.
func boot(t testing.TB, opts host.Options) *host.Host {
	t.Helper()
	h, err := host.Boot(t.Context(), opts)
	if errors.Is(err, host.ErrImpossible) {
		t.Skipf("needs a test host: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Kill(); err != nil {
			t.Errorf("killing the host: %v", err)
		}
	})
	return h
}

func output(t testing.TB, h *host.Host, args ...string) string {
	t.Helper()
	out, err := h.Output(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// until waits for a condition.
func until(t testing.TB, what string, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !met(); {
		if time.Now().After(deadline) {
			t.Fatalf("ten seconds, and still not: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// What of systemd and its friends tests rely on.
func TestWhatAHostHas(t *testing.T) {
	h := boot(t, host.Options{Name: "tree"})
	for _, tt := range []struct {
		name, script, want string
	}{
		{"the system runs, and all of its units", "systemctl is-system-running; systemctl --failed --quiet --plain --no-legend", "running\n"},
		{"process 1 is systemd", "cat /proc/1/comm", "systemd\n"},
		{"a unit that is written is started", "printf '[Service]\nExecStart=sleep 1000\n' >/etc/systemd/system/s.service; systemctl daemon-reload; systemctl start s; systemctl is-active s", "active\n"},
		{"a transient unit is started", "systemd-run -q --unit=u sleep 1000; systemctl is-active u", "active\n"},
		{"hostnamed tells and sets the name", "hostnamectl hostname; hostnamectl set-hostname bush; uname -n; cat /etc/hostname", "tree\nbush\nbush\n"},
		{"timedated sets the time zone", "timedatectl set-timezone Europe/Oslo; timedatectl show -p Timezone", "Timezone=Europe/Oslo\n"},
		{"logind has a seat and users", "loginctl enable-linger root; loginctl list-users --no-legend | wc -l", "1\n"},
		{"the journal keeps what is logged", "echo birds | systemd-cat -t song; journalctl --sync; journalctl -t song -o cat", "birds\n"},
		{"the system bus answers", "busctl get-property org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager Virtualization", "s \"systemd-nspawn\"\n"},
		{"a user has a systemd and a bus", `useradd -m ada; uid=$(id -u ada); loginctl enable-linger ada; systemctl start user@$uid
			run() { setpriv --reuid=ada --regid=ada --init-groups env XDG_RUNTIME_DIR=/run/user/$uid "$@"; }
			run systemctl --user is-system-running; run busctl --user call org.freedesktop.DBus / org.freedesktop.DBus.Peer Ping; run systemd-run --user -q --wait true; echo $?`, "running\n0\n"},
		{"it is not the machine of somebody", "id -u ada >&2; ls /etc/systemd/system/*.wants 2>&1 | wc -l; wc -c </etc/fstab; wc -c </etc/machine-id", "1\n0\n33\n"},
		{"its network is loopback, and its own", "ls /sys/class/net; ip link add br0 type bridge; ls /sys/class/net; sysctl -w net.ipv4.ip_forward=1", "lo\nbr0\nlo\nnet.ipv4.ip_forward = 1\n"},
		{"the rest of /proc/sys is the real machine's", "touch /proc/sys/kernel/panic 2>&1; true", "touch: cannot touch '/proc/sys/kernel/panic': Read-only file system\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := output(t, h, "sh", "-c", tt.script); got+"\n" != tt.want {
				t.Errorf("%s\nprinted\n%s\nwant\n%s", tt.script, got, tt.want)
			}
		})
	}
	if _, err := os.Stat("/home/ada"); err == nil {
		t.Error("what was made in the host is on this machine")
	}
}

func TestAHostComesBackWithItsDisk(t *testing.T) {
	network, err := host.NewNetwork(t.Context())
	if errors.Is(err, host.ErrImpossible) {
		t.Skipf("needs a test host: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { network.Close() })
	for _, tt := range []struct {
		name  string
		again func(*host.Host, context.Context) error
		ended string // what a service has written that ends in order
	}{
		{"after a reboot", (*host.Host).Reboot, "it has ended"},
		{"when its power was away", (*host.Host).Reset, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := boot(t, host.Options{Name: "tree", Network: network, Address: "10.98.0.1/24"})
			first := output(t, h, "sh", "-ec", `
				printf '[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=sh -c "echo it runs >>/root/log"\nExecStop=sh -c "echo it has ended >>/root/ended"\n[Install]\nWantedBy=mgmt-testhost.target\n' >/etc/systemd/system/s.service
				systemctl daemon-reload; systemctl enable --now s 2>/dev/null; touch /tmp/t /run/r; cat /proc/sys/kernel/random/boot_id /etc/machine-id`)
			for n := 2; n <= 3; n++ {
				leader := h.Leader
				if err := tt.again(h, t.Context()); err != nil {
					t.Fatal(err)
				}
				if h.Leader == leader {
					t.Error("process 1 is the same")
				}
				if got, want := output(t, h, "sh", "-c", "systemctl is-active s; cat /root/log; sort -u /root/ended 2>/dev/null; true"), "active\n"+strings.Repeat("it runs\n", n)+tt.ended; got != strings.TrimSpace(want) {
					t.Errorf("there is %q, want %q", got, want)
				}
				if got := output(t, h, "sh", "-c", "ls /tmp/t /run/r 2>/dev/null; cat /etc/machine-id; ip -o -4 addr show dev host0 | grep -o 10.98.0.1/24"); !strings.HasSuffix(first, strings.TrimSuffix(got, "\n10.98.0.1/24")) || !strings.HasSuffix(got, "/24") {
					t.Errorf("there is %q, and it was %q", got, first)
				}
			}
			if err := h.Stop(); err != nil {
				t.Error(err)
			}
			if err := tt.again(h, t.Context()); err == nil || !strings.Contains(err.Error(), "ended") {
				t.Errorf("of a host that was stopped, got %v", err)
			}
		})
	}
}

func TestRunHandsOverAllOfAProgram(t *testing.T) {
	h := boot(t, host.Options{})
	var stdout, stderr bytes.Buffer
	err := h.Run(t.Context(), host.Command{
		Args: []string{"sh", "-c", `pwd; echo "$A" "$1"; cat; echo oh >&2; exit 7`, "sh", "$HOME ${A} a$"},
		Dir:  "/usr/share", Env: []string{"A=b c"},
		Stdin: strings.NewReader("in\n"), Stdout: &stdout, Stderr: &stderr,
	})
	if ee, ok := errors.AsType[*exec.ExitError](err); !ok || ee.ExitCode() != 7 {
		t.Errorf("got %v, want the exit status 7", err)
	}
	if got, want := stdout.String(), "/usr/share\nb c $HOME ${A} a$\nin\n"; got != want {
		t.Errorf("standard output is %q, want %q", got, want)
	}
	if got := stderr.String(); got != "oh\n" {
		t.Errorf("standard error is %q", got)
	}

	if _, err := h.Output(t.Context(), "sh", "-c", "echo why >&2; exit 3"); err == nil || !strings.HasSuffix(err.Error(), "exit status 3: why") {
		t.Errorf("got %v", err)
	}
	if _, err := h.Output(t.Context(), "sh", "-c", "kill -9 $$"); err == nil || !strings.Contains(err.Error(), "exit status 255") {
		t.Errorf("of a killed program, got %v", err)
	}
	if _, err := h.Output(t.Context(), "/no/such/program"); err == nil {
		t.Error("a program that is not there is no error")
	}
	if out := output(t, h, "systemctl", "list-units", "--no-legend", "testhost-run-[0-3].service"); out != "" {
		t.Errorf("units are left: %s", out)
	}
}

func TestRunPassesSignalsOn(t *testing.T) {
	h := boot(t, host.Options{})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	signals := make(chan int, 1)
	go func() {
		defer r.Close()
		buf := make([]byte, 100)
		r.Read(buf) // it has set its trap
		signals <- 3
	}()
	err = h.Run(t.Context(), host.Command{
		Args:   []string{"sh", "-c", "trap 'exit 9' QUIT; echo; while :; do sleep 0.01; done"},
		Stdout: w, Signals: signals,
	})
	w.Close()
	if ee, ok := errors.AsType[*exec.ExitError](err); !ok || ee.ExitCode() != 9 {
		t.Errorf("got %v, want the exit status 9", err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	h := boot(t, host.Options{})
	for _, wait := range []time.Duration{0, 200 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		start := time.Now()
		if err := h.Run(ctx, host.Command{Args: []string{"sleep", "1000"}}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		cancel()
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("it took %v", took)
		}
		if _, err := h.Output(t.Context(), "pgrep", "-x", "sleep"); err == nil {
			t.Error("the program still runs")
		}
	}
}

func TestRunTellsThatTheHostEnded(t *testing.T) {
	h := boot(t, host.Options{})
	_, err := h.Output(t.Context(), "systemctl", "poweroff", "--force", "--force")
	if err != nil && !strings.Contains(err.Error(), "the test host ended") {
		t.Errorf("got %v", err)
	}
	select {
	case <-h.Exited():
	case <-time.After(10 * time.Second):
		t.Error("the host has not ended")
	}
	if err := h.Run(t.Context(), host.Command{Args: []string{"true"}}); err == nil {
		t.Error("a program ran in a host that has ended")
	}
}

func TestRunKnowsHowAProgramEndedThatTookTheBusAway(t *testing.T) {
	h := boot(t, host.Options{})
	for _, restart := range []string{"systemctl restart dbus.service", "systemctl daemon-reexec", "systemctl daemon-reexec; systemctl stop dbus.socket dbus.service; sleep 0.2; systemctl start dbus.socket"} {
		for status, want := range map[string]bool{"0": true, "3": false} {
			err := h.Run(t.Context(), host.Command{Args: []string{"sh", "-c", restart + "; sleep 0.5; exit " + status}})
			if (err == nil) != want {
				t.Errorf("%s: a program that has ended with %s: %v", restart, status, err)
			}
		}
	}
}

func TestAClientThatHearsNothingOfTheEndIsNotWaitedForForEver(t *testing.T) {
	h := boot(t, host.Options{})
	done := make(chan error, 1)
	go func() {
		done <- h.Run(t.Context(), host.Command{Args: []string{"sh", "-c", "touch /run/begun; sleep 1"}})
	}()
	until(t, "there is a client, which is stopped", func() bool {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/run/begun", h.Leader)); err != nil {
			return false
		}
		lists, _ := filepath.Glob("/proc/self/task/*/children")
		for _, list := range lists {
			children, _ := os.ReadFile(list)
			for _, child := range strings.Fields(string(children)) {
				args, _ := os.ReadFile("/proc/" + child + "/cmdline")
				clients, _ := os.ReadFile("/proc/" + child + "/task/" + child + "/children")
				if strings.Contains(string(args), fmt.Sprintf("--target=%d\x00", h.Leader)) && len(clients) > 0 {
					return exec.Command("kill", "-STOP", strings.TrimSpace(string(clients))).Run() == nil
				}
			}
		}
		return false
	})
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it is still waited for")
	}
}

func TestBinds(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"given", "a:b"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h := boot(t, host.Options{Binds: []host.Bind{
		{Source: dir},
		{Source: filepath.Join(dir, "given"), Writable: true},
		{Source: filepath.Join(dir, "a:b"), Target: "/mnt/x:y", Writable: true},
	}})
	if out, err := h.Output(t.Context(), "touch", filepath.Join(dir, "new")); err == nil {
		t.Errorf("a read-only folder was written: %s", out)
	}
	output(t, h, "touch", filepath.Join(dir, "given/new"), "/mnt/x:y/new")
	for _, path := range []string{"given/new", "a:b/new"} {
		if _, err := os.Stat(filepath.Join(dir, path)); err != nil {
			t.Error(err)
		}
	}
}

func TestHostsOfANetworkReachEachOther(t *testing.T) {
	n, err := host.NewNetwork(t.Context())
	if errors.Is(err, host.ErrImpossible) {
		t.Skipf("needs a test host: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	a := boot(t, host.Options{Name: "a", Network: n, Address: "10.99.0.1/24"})
	b := boot(t, host.Options{Name: "b", Network: n, Address: "10.99.0.2/24"})
	for _, tt := range []struct {
		from *host.Host
		to   string
	}{{a, "10.99.0.2"}, {b, "10.99.0.1"}} {
		// Nothing listens on port 1, so one who is there refuses, and says so at once.
		out, err := tt.from.Output(t.Context(), "bash", "-c", "exec 3<>/dev/tcp/"+tt.to+"/1")
		if err == nil || !strings.Contains(err.Error(), "Connection refused") {
			t.Errorf("to %s: %q, %v, want a refusal", tt.to, out, err)
		}
	}
	output(t, a, "systemd-run", "-q", "--unit=hello", "systemd-socket-activate", "--accept", "--inetd", "--listen=10.99.0.1:7", "echo", "from a")
	var got string
	until(t, "b reads from a", func() bool {
		got, err = b.Output(t.Context(), "bash", "-c", "cat </dev/tcp/10.99.0.1/7")
		return err == nil
	})
	if got != "from a" {
		t.Errorf("b read %q", got)
	}
}

func TestHostIsInTheNetworkNamespaceThatItIsGiven(t *testing.T) {
	boot(t, host.Options{}) // skips where no host is possible
	cmd := exec.CommandContext(t.Context(), "unshare", "--net", "sh", "-c", "ip link add br7 type bridge && echo && exec sleep 1000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	h := boot(t, host.Options{NetNS: fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)})
	output(t, h, "ip", "link", "add", "br8", "type", "bridge")
	if got := output(t, h, "ls", "/sys/class/net"); got != "br7\nbr8\nlo" {
		t.Errorf("its network has %q", got)
	}
}

func TestABadRequestIsTold(t *testing.T) {
	boot(t, host.Options{}) // skips where no host is possible
	link := t.TempDir()
	for _, tt := range []struct {
		name string
		opts host.Options
		want string
	}{
		{"a base without systemd", host.Options{Base: link}, "there is no lib/systemd/systemd in " + link},
		{"a bind of nothing", host.Options{Binds: []host.Bind{{Source: "/no/such"}}}, "stat /no/such: no such file"},
		{"a bind of what it cleans", host.Options{Binds: []host.Bind{{Source: t.TempDir(), Target: "/tmp", Writable: true}}}, "which it would clean"},
		{"a bind below /run", host.Options{Binds: []host.Bind{{Source: "/run/lock"}}}, "not below /run"},
		{"a namespace that is not there", host.Options{NetNS: "/run/netns/nowhere"}, "open /run/netns/nowhere: no such file"},
		{"a namespace of another kind", host.Options{NetNS: "/proc/self/ns/mnt"}, "/proc/self/ns/mnt is no network namespace"},
		{"a namespace that is a file", host.Options{NetNS: "/etc/passwd"}, "/etc/passwd is no network namespace"},
		{"an argument that nspawn refuses", host.Options{Nspawn: []string{"--frobnicate"}}, "unrecognized option '--frobnicate'"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, err := host.Boot(t.Context(), tt.opts)
			if err == nil {
				h.Kill()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestBootEndsWithItsContext(t *testing.T) {
	why := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, why)
	defer cancel()
	_, err := host.Boot(ctx, host.Options{})
	if errors.Is(err, host.ErrImpossible) {
		t.Skipf("needs a test host: %v", err)
	}
	if !errors.Is(err, why) {
		t.Errorf("got %v, want %v", err, why)
	}
	children, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range children {
		if pids, _ := os.ReadFile(path); len(pids) > 0 { // a thread may have ended
			t.Errorf("processes are left: %s", pids)
		}
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(locks), fmt.Sprintf(" WRITE %d ", os.Getpid())) {
		t.Errorf("the note of the host is still held:\n%s", locks)
	}
}

// traces lists what there is of a host on this machine, besides processes.
func traces(t *testing.T, id string) []string {
	t.Helper()
	note := filepath.Join("/run/mgmt-testhost", id)
	text, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	return append(strings.Fields(string(text)), note)
}

func existing(paths []string) []string {
	var there []string
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			there = append(there, path)
		}
	}
	return there
}

func TestStopLeavesNothing(t *testing.T) {
	for _, tt := range []struct {
		name string
		stop func(*host.Host) error
	}{{"Stop", (*host.Host).Stop}, {"Kill", (*host.Host).Kill}} {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			h, err := host.Boot(t.Context(), host.Options{})
			if errors.Is(err, host.ErrImpossible) {
				t.Skipf("needs a test host: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("the boot took %v", took)
			}
			traces := traces(t, h.ID())
			if got := existing(traces); len(got) < 2 || len(got) != len(traces) {
				t.Fatalf("the traces of a host are %q, but only %q exist", traces, got)
			}
			start = time.Now()
			if err := tt.stop(h); err != nil {
				t.Error(err)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
			if left := existing(traces); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
			if err := tt.stop(h); err != nil {
				t.Errorf("the second time: %v", err)
			}
		})
	}
}

func BenchmarkBootAndKill(b *testing.B) {
	for b.Loop() {
		h, err := host.Boot(b.Context(), host.Options{})
		if errors.Is(err, host.ErrImpossible) {
			b.Skipf("needs a test host: %v", err)
		}
		if err != nil {
			b.Fatal(err)
		}
		if err := h.Kill(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRun(b *testing.B) {
	h := boot(b, host.Options{})
	for b.Loop() {
		output(b, h, "true")
	}
}
