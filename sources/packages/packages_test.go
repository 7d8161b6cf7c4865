package packages_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sinks/sinktest/needs"
	"github.com/mgmtproject/mgmt/sinks/sinktest/testrepo"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
	"github.com/mgmtproject/mgmt/sources/packages"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// database makes a folder as dpkg's, with a status file of these paragraphs.
func database(t *testing.T, paragraphs ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, sub := range []string{"updates", "lists"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	replace(t, dir, paragraphs...)
	return dir
}

// replace writes the status file as dpkg does.
func replace(t *testing.T, dir string, paragraphs ...string) {
	t.Helper()
	if err := os.WriteFile(dir+"/status-new", []byte(strings.Join(paragraphs, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+"/status-new", dir+"/status"); err != nil {
		t.Fatal(err)
	}
}

func paragraph(name, version, state string) string {
	return "Package: " + name + "\nStatus: install ok " + state + "\nArchitecture: amd64\nVersion: " + version + "\nDescription: x\n Version: 9\n"
}

// observer takes the events of a source.
type observer struct {
	*packages.Source
	t      *testing.T
	cancel context.CancelFunc
	ended  chan error

	mu     sync.Mutex
	events []string
	came   chan struct{}
}

func observe(t *testing.T, o packages.Options, watches ...sources.Watch) *observer {
	t.Helper()
	s := &observer{Source: packages.New(o), t: t, ended: make(chan error, 1), came: make(chan struct{}, 1)}
	for _, w := range watches {
		if err := s.Add(w); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// start subscribes.
func (o *observer) start() {
	ctx, cancel := context.WithCancel(o.t.Context())
	o.cancel = cancel
	go func() { o.ended <- o.Events().Subscribe(ctx, o.take) }()
	o.t.Cleanup(o.stop)
}

func (o *observer) take(e sources.Event) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, e.String())
	select {
	case o.came <- struct{}{}:
	default:
	}
	return true
}

func (o *observer) stop() {
	o.cancel()
	select {
	case <-o.ended:
	case <-time.After(patience):
		o.t.Error("the source does not end")
	}
}

// flushed returns the events since the last call.
func (o *observer) flushed() []string {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), patience)
	defer cancel()
	if err := o.Flush(ctx); err != nil {
		o.t.Fatal(err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	events := o.events
	o.events = nil
	return events
}

// wait returns when there is an event.
func (o *observer) wait(limit time.Duration) []string {
	o.t.Helper()
	deadline := time.After(limit)
	for {
		o.mu.Lock()
		events := o.events
		o.events = nil
		o.mu.Unlock()
		if len(events) > 0 {
			return events
		}
		select {
		case <-o.came:
		case <-deadline:
			o.t.Fatal("no event comes")
		}
	}
}

func (o *observer) want(what string, want ...string) {
	o.t.Helper()
	if got := o.flushed(); !slices.Equal(got, want) {
		o.t.Errorf("%s: the events are %q, want %q", what, got, want)
	}
}

func TestOnlyThoseWakeWhosePackageHasChanged(t *testing.T) {
	dir := database(t, paragraph("a", "1", "installed"), paragraph("b", "1", "installed"))
	o := observe(t, packages.Options{Dpkg: dir, Lists: dir + "/lists"}, packages.Named("a"), packages.Named("b:i386"), packages.Named("c"), packages.Any(), packages.Offers())
	replace(t, dir, paragraph("a", "2", "installed"), paragraph("b", "1", "installed"))
	o.start() // what was before is not lost
	o.want("an upgrade before the subscription", "packages any package write", "packages a write")
	replace(t, dir, paragraph("a", "2", "installed"), paragraph("b", "1", "config-files"), paragraph("c", "1", "installed"))
	o.want("a removal and an installation", "packages any package write", "packages b write", "packages c write")
	replace(t, dir, paragraph("a", "2", "installed"), paragraph("b", "1", "config-files"), paragraph("c", "1", "installed"))
	o.want("a status file that says the same")
	if err := os.WriteFile(dir+"/lock", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	o.want("a lock file")
	replace(t, dir+"/lists", "x") // as apt puts its lists in place
	o.want("new lists", "packages package lists write")
	o.Remove(packages.Named("a"))
	o.Remove(packages.Any())
	replace(t, dir, paragraph("a", "3", "installed"), paragraph("b", "1", "installed"))
	o.want("what is not watched any more", "packages b write", "packages c write")
}

func TestWatchesOfOthersAreRefused(t *testing.T) {
	s := packages.New(packages.Options{Dpkg: t.TempDir(), Lists: t.TempDir()})
	for _, w := range []sources.Watch{inotify.Path("/x"), packages.Named("")} {
		if err := s.Add(w); err == nil {
			t.Errorf("%v is accepted", w)
		}
	}
	w := packages.Named("x")
	if err := s.Add(w); err != nil {
		t.Fatal(err)
	}
	s.Remove(w) // and nothing is open, as goleak and the next line see
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestRealPackages(t *testing.T) {
	needs.Systemd(t)
	a := testrepo.New(t, "/srv/watched")
	a.Add(testrepo.Package{Name: "sone"}, testrepo.Package{Name: "stwo"})
	a.Publish()
	o := observe(t, packages.Options{}, packages.Named("sone"))
	o.start()
	for _, command := range [][]string{
		{"apt-get", "-y", "install", "sone"}, {"dpkg", "--remove", "sone"}, {"dpkg", "--install", "/srv/watched/sone_1.0_all.deb"}, {"apt-get", "-y", "purge", "sone"},
	} {
		a.Run(command[0], command[1:]...)
		if len(o.flushed()) == 0 {
			t.Errorf("%q is not noticed by the time that it ends", command)
		}
	}
	a.Run("apt-get", "-y", "install", "stwo")
	o.want("another package")
}

// TestHearsPackageKit has no dpkg to look at.
func TestHearsPackageKit(t *testing.T) {
	needs.PackageKit(t)
	if out, err := exec.Command("sh", "-c", "ip link show br0 >/dev/null 2>&1 || { ip link add br0 up type bridge && ip route add default dev br0; }").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	a := testrepo.New(t, "/srv/heard")
	a.Add(testrepo.Package{Name: "hone"})
	a.Publish()
	var log safe
	o := observe(t, packages.Options{Dpkg: "/nowhere", Lists: "/nowhere", Log: slog.New(slog.NewTextHandler(&log, nil))}, packages.Named("hone"))
	o.start()
	a.Run("pkcon", "-y", "refresh", "force")
	a.Run("pkcon", "-y", "install", "hone")
	if got := o.wait(patience); got[0] != "packages all signal" {
		t.Errorf("%q", got)
	}
	if log.String() != "" {
		t.Errorf("it logs %s", log.String())
	}
	// It says that it was deaf, and that all may have changed meanwhile.
	a.Run("systemctl", "restart", "dbus")
	for deadline := time.Now().Add(2 * patience); !slices.Contains(o.wait(2*patience), "packages all reconnect"); {
		if time.Now().After(deadline) {
			t.Fatal("it does not connect again")
		}
	}
	if !strings.Contains(log.String(), "can't hear of packages") {
		t.Errorf("it logs %q", log.String())
	}
}

// safe is a buffer for a logger.
type safe struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safe) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *safe) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
