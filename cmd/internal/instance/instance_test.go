package instance_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mgmtproject/mgmt/cmd/internal/instance"
)

// asHolder is set in the environment of a copy of the test program that holds the place of a
// graph file, the first of its arguments, below a prefix, the second, until its input ends.
const asHolder = "TEST_BINARY_HOLDS"

func TestMain(m *testing.M) {
	if os.Getenv(asHolder) != "" {
		os.Exit(hold(os.Args[1], os.Args[2]))
	}
	os.Exit(m.Run())
}

func hold(prefix, file string) int {
	p, err := instance.At(prefix, file)
	if err == nil {
		_, err = p.Take()
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("held")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// start starts another process that takes a place, and returns what it says of that.
func start(t *testing.T, prefix, file string) (*exec.Cmd, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], prefix, file)
	cmd.Env = append(os.Environ(), asHolder+"=1", "GORACE=atexit_sleep_ms=0")
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kill(cmd) })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return cmd, strings.TrimSpace(line)
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

func at(t *testing.T, prefix, file string) instance.Place {
	t.Helper()
	p, err := instance.At(prefix, file)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func take(t *testing.T, p instance.Place) *instance.Lock {
	t.Helper()
	l, err := p.Take()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Release() })
	return l
}

func release(t *testing.T, l *instance.Lock) {
	t.Helper()
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestAt(t *testing.T) {
	for _, c := range []struct{ name, file, want string }{
		{"a path can be read in the name", "/etc/mgmt/graph.yaml", "/p/etc-mgmt-graph.yaml-a2e382a1"},
		{"of a long path the end", "/srv/" + strings.Repeat("deep/", 20) + "graph.yaml", "/p/deep-deep-deep-deep-graph.yaml-1dc7cf10"},
		{"names that are not plain are made so", "/etc/../etc/mgmt/a graph\n\xffµ.yaml", "/p/etc-mgmt-a-graph---.yaml-5c3690bd"},
		{"a path of nothing else", "/\n\n", "/p/graph-4d8bf728"},
		{"standard input", "-", "/p/stdin"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := at(t, "/p", c.file)
			if p.Dir != c.want {
				t.Errorf("got %s, want %s", p.Dir, c.want)
			}
			if name := filepath.Base(p.Dir); len(name) > 41 {
				t.Errorf("%s has %d bytes, too many for the path of a socket", name, len(name))
			}
		})
	}
	if a, b := at(t, "/p", "/etc/a-b"), at(t, "/p", "/etc/a/b"); a.Dir == b.Dir {
		t.Errorf("two files have the same place %s", a.Dir)
	}
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if a, b := at(t, "p", "g.yaml"), at(t, here+"/p", here+"/g.yaml"); a != b || !filepath.IsAbs(a.File) {
		t.Errorf("a relative path leads to %v, and the absolute one to %v", a, b)
	}
}

func TestFor(t *testing.T) {
	for _, c := range []struct{ name, file, host, want string }{
		{"without a name nothing changes", "/etc/mgmt/graph.yaml", "", "/p/etc-mgmt-graph.yaml-a2e382a1"},
		{"a host has a place of its own", "/etc/mgmt/graph.yaml", "web1", "/p/etc-mgmt-graph.yaml-web1-59cdc0ac"},
		{"on standard input too", "-", "web1", "/p/stdin-web1-98b12451"},
		{"a long name makes it no longer", "/etc/mgmt/graph.yaml", strings.Repeat("web", 30), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := at(t, "/p", c.file).For(c.host)
			if p.Dir != c.want && c.want != "" || len(p.Dir) > 45 {
				t.Errorf("got %s, want %s", p.Dir, c.want)
			}
			if p.Host != c.host || p.File != at(t, "/p", c.file).File {
				t.Errorf("it is that of %q on %q", p.File, p.Host)
			}
		})
	}
}

func TestTake(t *testing.T) {
	prefix := filepath.Join(t.TempDir(), "there", "is", "none")
	file := filepath.Join(t.TempDir(), "graph.yaml")
	p := at(t, prefix, file)
	if p.Held() || exists(t, prefix) {
		t.Fatal("to ask makes a place, or finds one")
	}
	l := take(t, p)
	if info, err := os.Lstat(p.Dir); err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("the place has mode %v (%v)", info.Mode(), err)
	}
	want := fmt.Sprintf("another run (pid %d) is keeping %s already; stop it, or give this one a place of its own with --prefix DIR or --tmp-prefix", os.Getpid(), file)
	if _, said := start(t, prefix, file); said != want {
		t.Errorf("another process is told\n%s\nwant\n%s", said, want)
	}
	_, err := p.Take()
	if busy, ok := errors.AsType[*instance.BusyError](err); !ok || busy.PID != os.Getpid() || busy.File != file {
		t.Errorf("this process is told %v", err)
	}
	if _, said := start(t, prefix, file+".other"); said != "held" {
		t.Errorf("another file is refused: %s", said)
	}
	release(t, l)
	if p.Held() {
		t.Error("it is held after its release")
	}
	cmd, said := start(t, prefix, file)
	if said != "held" || !p.Held() {
		t.Fatalf("after its release it can't be taken: %s", said)
	}
	kill(cmd)
	release(t, take(t, p))
}

func TestBusyOnStandardInput(t *testing.T) {
	p := at(t, t.TempDir(), instance.Stdin)
	take(t, p)
	if _, err := p.Take(); err == nil || !strings.Contains(err.Error(), "is keeping a graph from standard input already") {
		t.Errorf("got %v", err)
	}
}

func TestList(t *testing.T) {
	prefix := t.TempDir()
	if list, err := instance.List(filepath.Join(prefix, "none")); err != nil || len(list) > 0 {
		t.Errorf("without a prefix there are %v, %v", list, err)
	}
	b := take(t, at(t, prefix, "/b.yaml"))
	c := take(t, at(t, prefix, "/c.yaml"))
	named := take(t, at(t, prefix, "/b.yaml").For("host"))
	cmd, _ := start(t, prefix, "/a.yaml")
	// What else may lie there.
	if err := errors.Join(os.WriteFile(filepath.Join(prefix, "file"), nil, 0o600), os.Mkdir(filepath.Join(prefix, "dir"), 0o700)); err != nil {
		t.Fatal(err)
	}
	list := func() []instance.Running {
		list, err := instance.List(prefix)
		if err != nil {
			t.Error(err)
		}
		return list
	}
	want := fmt.Sprintf("[{{%s /a.yaml } %d} {{%s /b.yaml } %d} {{%s /b.yaml host} %[4]d} {{%[6]s /c.yaml } %[4]d}]", at(t, prefix, "/a.yaml").Dir, cmd.Process.Pid, b.Dir, os.Getpid(), named.Dir, c.Dir)
	if got := fmt.Sprint(list()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	kill(cmd)
	release(t, b)
	release(t, named)
	if got := list(); len(got) != 1 || got[0].File != "/c.yaml" || got[0].Socket() != filepath.Join(c.Dir, "socket") {
		t.Errorf("after the ends of two of them there are %v", got)
	}
}

func TestPlacesOfFilesThatAreGone(t *testing.T) {
	prefix, dir := t.TempDir(), t.TempDir()
	file := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	place := map[string]instance.Place{"stdin": at(t, prefix, instance.Stdin)}
	for _, name := range []string{"empty", "stale", "there", "left", "held"} {
		place[name] = at(t, prefix, file(name))
	}
	for name, p := range place {
		l := take(t, p)
		var err error
		switch name {
		case "stale":
			err = os.WriteFile(p.Socket(), nil, 0o600)
		case "left":
			err = os.MkdirAll(p.Kinds(), 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
		if name != "held" {
			release(t, l)
		}
	}
	for _, name := range []string{"empty", "stale", "left", "held"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	release(t, take(t, place["there"])) // which is not new
	if !exists(t, place["empty"].Dir) {
		t.Error("places are looked through although none is made")
	}
	release(t, take(t, at(t, prefix, file("new"))))
	for name, want := range map[string]bool{"empty": false, "stale": false, "there": true, "left": true, "held": true, "stdin": true} {
		if exists(t, place[name].Dir) != want {
			t.Errorf("the place %q is there: %v, want %v", name, !want, want)
		}
	}
}

// TestTakeAndPrune has many take places that others prune at the same time: no place is ever
// taken twice.
func TestTakeAndPrune(t *testing.T) {
	prefix := t.TempDir()
	var taking sync.WaitGroup
	var held [3]sync.Mutex
	for g := range 6 {
		taking.Go(func() {
			for i := range 60 {
				n := (g + i) % len(held)
				l, err := at(t, prefix, fmt.Sprintf("/nowhere/%d", n)).Take()
				if _, ok := errors.AsType[*instance.BusyError](err); ok {
					continue
				} else if err != nil {
					t.Error(err)
					return
				}
				if !held[n].TryLock() {
					t.Error("it is taken twice")
					return
				}
				fresh, err := at(t, prefix, fmt.Sprintf("/nowhere/%d-%d", g, i)).Take()
				if err != nil {
					t.Error(err)
					return
				}
				held[n].Unlock()
				if err := errors.Join(fresh.Release(), l.Release()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	taking.Wait()
}

func TestPlaceThatCannotBeTrusted(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(dir string) error
		want  string
		root  bool
	}{
		{"it is a file", func(dir string) error { return os.WriteFile(dir, nil, 0o600) }, "is not a directory: remove it", false},
		{"it is a link", func(dir string) error { return os.Symlink(os.TempDir(), dir) }, "is not a directory: remove it", false},
		{"it is a link to nothing", func(dir string) error { return os.Symlink("/nowhere", dir) }, "is not a directory: remove it", false},
		{"the prefix is a link to nothing", func(dir string) error {
			return errors.Join(os.Remove(filepath.Dir(dir)), os.Symlink("/nowhere/at/all", filepath.Dir(dir)))
		}, "file exists", false},
		{"everybody may write there", func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, 0o777))
		}, "can be written by others (mode 0777), so what is in it can't be trusted", false},
		{"it belongs to somebody else", func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, 1, 1))
		}, "belongs to user 1, and this is user 0: use another --prefix, or give it to user 0 with chown -R", true},
		{"the lock is a link", func(dir string) error {
			return errors.Join(os.Mkdir(dir, 0o700), os.Symlink("/dev/null", filepath.Join(dir, "lock")))
		}, "too many levels of symbolic links", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.root && os.Geteuid() != 0 {
				t.Skip("needs root: it gives a directory to somebody else")
			}
			p := at(t, t.TempDir(), "/g.yaml")
			if err := c.spoil(p.Dir); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Take(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}
