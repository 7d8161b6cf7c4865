package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/cmd/internal/instance"
	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/pipeline/state"
)

// keptGraph is a graph of one file.
const keptGraph = "graph: kept\nresources:\n  file:\n  - name: DIR/motd\n    content: be nice\n"

// with sets variables of the environment of a process; an empty one is not there.
func (p *process) with(variables ...string) *process {
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		p.cmd.Env = slices.DeleteFunc(p.cmd.Env, func(have string) bool { return strings.HasPrefix(have, name+"=") })
		if value != "" {
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	return p
}

// openUp lets everybody into the directories of a test.
func openUp(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		for ; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestPrefixIsWhereItIsSaidToBe(t *testing.T) {
	const nobody = 65534
	for _, c := range []struct {
		name string
		env  []string // P is a directory
		args []string
		uid  uint32
		want string // below P
	}{
		{"by the flag, whatever the environment says", []string{"MGMT_PREFIX=P/a", "STATE_DIRECTORY=P/b"}, []string{"--prefix=P/flag"}, 0, "flag"},
		{"by the environment", []string{"MGMT_PREFIX=P/a", "STATE_DIRECTORY=P/b"}, nil, 0, "a"},
		{"by systemd", []string{"MGMT_PREFIX=", "STATE_DIRECTORY=P/b:P/c", "XDG_STATE_HOME=P/d"}, nil, 0, "b"},
		{"for a user by the XDG state directory", []string{"MGMT_PREFIX=", "XDG_STATE_HOME=P/d", "HOME=P/e"}, nil, nobody, "d/mgmt"},
		{"for a user in the home directory", []string{"MGMT_PREFIX=", "XDG_STATE_HOME=relative", "HOME=P/e"}, nil, nobody, "e/.local/state/mgmt"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, keptGraph)
			dir := t.TempDir()
			for _, args := range [][]string{c.env, c.args} {
				for i := range args {
					args[i] = strings.ReplaceAll(args[i], "P/", dir+"/")
				}
			}
			p := command(t, append([]string{"run", "--file", s.file, "--converged-timeout=0"}, c.args...)...).with(c.env...)
			if c.uid != 0 {
				if os.Geteuid() != 0 {
					t.Skip("needs root: it runs as somebody else")
				}
				p.asUser(s, c.uid, dir)
			}
			p.start().exits(0, patience)
			place, err := instance.At(filepath.Join(dir, c.want), s.file)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(place.Dir); err != nil {
				t.Errorf("it is not there: %v", err)
			}
			if all, _ := filepath.Glob(dir + "/*"); len(all) != 1 {
				t.Errorf("there is more than one: %v", all)
			}
		})
	}
}

// asUser makes a process that of another user, who may write to some directories.
func (p *process) asUser(s *scene, uid uint32, dirs ...string) {
	s.t.Helper()
	openUp(s.t, append(dirs, s.host(""))...)
	program := filepath.Join(s.t.TempDir(), "mgmt") // that of the test may be out of reach
	text, err := os.ReadFile(os.Args[0])
	if err == nil {
		err = os.WriteFile(program, text, 0o755)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	openUp(s.t, filepath.Dir(program))
	for _, dir := range append(dirs, s.host("")) {
		if err := os.Chown(dir, int(uid), -1); err != nil {
			s.t.Fatal(err)
		}
	}
	p.cmd.Path = program
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
}

// TestPrefixOfRoot looks for the default in a mount namespace, where it is nobody else's.
func TestPrefixOfRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it mounts a file system")
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip("needs the program unshare")
	}
	s := newScene(t, keptGraph)
	p := command(t, "run", "--file", s.file, "--converged-timeout=0").with("MGMT_PREFIX=", "STATE_DIRECTORY=", "XDG_STATE_HOME="+t.TempDir())
	script := `mount -t tmpfs none /var/lib && "$@" && ls -d /var/lib/mgmt/*`
	p.cmd.Args = append([]string{"unshare", "-m", "sh", "-c", script, "sh", p.cmd.Path}, p.cmd.Args[1:]...)
	p.cmd.Path = unshare
	p.start().exits(0, patience)
	place, err := instance.At("/var/lib/mgmt", s.file)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(p.stdout.String()); got != place.Dir {
		t.Errorf("it is %q, want %s", got, place.Dir)
	}
}

func TestPrefixThatCannotBeUsed(t *testing.T) {
	for _, c := range []struct {
		name   string
		env    []string
		args   []string
		code   int
		stderr string
	}{
		{"is an error if the flag asks for it", nil, []string{"--prefix=/proc/nowhere"}, 1, "mgmt run: the prefix /proc/nowhere can't be used: mkdir /proc/nowhere: no such file or directory\n"},
		{"is an error if the environment does", []string{"MGMT_PREFIX=/proc/nowhere"}, nil, 1, "mgmt run: the prefix /proc/nowhere can't be used: mkdir /proc/nowhere: no such file or directory\n"},
		{"is an error if there shall be a temporary one", []string{"TMPDIR=/proc/nowhere"}, []string{"--tmp-prefix"}, 1, "mgmt run: making a temporary prefix: stat /proc/nowhere: no such file or directory\n"},
		{"is a warning if nobody does", []string{"MGMT_PREFIX=", "STATE_DIRECTORY=/proc/nowhere"}, nil, 0, `WARN  nothing survives this run  mkdir /proc/nowhere: no such file or directory  hint="say where with --prefix DIR, or that it need not with --tmp-prefix"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, keptGraph)
			p := command(t, append([]string{"run", "--file", s.file, "--converged-timeout=0"}, c.args...)...).with(c.env...).start()
			p.exits(c.code, patience)
			if !strings.Contains(p.stderr.String(), c.stderr) {
				t.Errorf("standard error has no %q", c.stderr)
			}
			if s.has("motd", "be nice") != (c.code == 0) {
				t.Errorf("the graph has run, or not, with exit status %d", c.code)
			}
		})
	}
}

func TestHomelessUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it runs as somebody else")
	}
	s := newScene(t, keptGraph)
	p := command(t, "run", "--file", s.file, "--converged-timeout=0").with("MGMT_PREFIX=", "STATE_DIRECTORY=", "XDG_STATE_HOME=", "HOME=")
	p.asUser(s, 65534)
	p.start().exits(0, patience)
	p.says("nothing survives this run  neither XDG_STATE_HOME nor HOME says where the state directory is")
}

func TestTwoRunsOfOneGraph(t *testing.T) {
	s := newScene(t, keptGraph)
	first := start(t, "run", "--file", s.file)
	first.says("converged")
	second := start(t, "run", "--file", s.file, "--converged-timeout=0")
	second.exits(1, patience)
	want := fmt.Sprintf("mgmt run: another run (pid %d) is keeping %s already; stop it, or give this one a place of its own with --prefix DIR or --tmp-prefix\n", first.cmd.Process.Pid, s.file)
	if second.stderr.String() != want {
		t.Errorf("the second says\n%swant\n%s", second.stderr, want)
	}
	for _, arg := range []string{"--tmp-prefix", "--prefix=" + t.TempDir(), "--noop"} {
		start(t, "run", "--file", s.file, "--converged-timeout=0", arg).exits(0, patience)
	}
	first.signal(syscall.SIGKILL)
	<-first.done
	start(t, "run", "--file", s.file, "--converged-timeout=0").exits(0, patience)
}

func TestTemporaryPrefixIsRemoved(t *testing.T) {
	for _, c := range []struct {
		name    string
		signals []syscall.Signal
		graph   string
		args    []string
		code    int
	}{
		{"at the end", nil, keptGraph, []string{"--converged-timeout=0"}, 0},
		{"after a noop run", nil, keptGraph, []string{"--converged-timeout=0", "--noop"}, 0},
		{"after a graph with a mistake", nil, "grahp: x\n", nil, 2},
		{"after a signal", []syscall.Signal{syscall.SIGTERM}, keptGraph, nil, 0},
		{"after a second signal", []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}, strings.Replace(sleeper, "TRAP", "trap '' TERM INT", 1), nil, 143},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, c.graph)
			tmp, prefix := t.TempDir(), t.TempDir()
			p := command(t, append([]string{"run", "--file", s.file, "--tmp-prefix"}, c.args...)...).with("TMPDIR="+tmp, "MGMT_PREFIX="+prefix).start()
			if c.signals != nil {
				if c.graph == keptGraph {
					p.says("converged")
				} else {
					s.pids()
				}
				running, err := instance.List(only(t, tmp))
				if err != nil || len(running) != 1 || running[0].PID != p.cmd.Process.Pid || running[0].File != s.file {
					t.Errorf("what runs is %v, %v", running, err)
				}
			}
			for _, signal := range c.signals {
				p.signal(signal)
				if len(c.signals) > 1 {
					p.says("stopping")
				}
			}
			p.exits(c.code, 5*time.Second)
			for _, dir := range []string{tmp, prefix} {
				if entries, _ := os.ReadDir(dir); len(entries) > 0 {
					t.Errorf("%s has %v", dir, entries)
				}
			}
		})
	}
}

// only returns the one entry of a directory.
func only(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("there is %v (%v), want one", entries, err)
	}
	return filepath.Join(dir, entries[0].Name())
}

// left saves a notification as a run that was killed would have, and returns the file.
func left(t *testing.T, prefix string, s *scene, refresh string) string {
	t.Helper()
	place, err := instance.At(prefix, s.file)
	if err != nil {
		t.Fatal(err)
	}
	store, err := state.Open(place.Dir)
	if err == nil {
		err = store.Save(pipeline.StateChanges{AddRefreshes: []string{refresh}})
	}
	if err == nil {
		err = store.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(place.Dir, state.FileName)
}

func TestDamagedStateIsSetAside(t *testing.T) {
	s := newScene(t, keptGraph)
	prefix := t.TempDir()
	path := left(t, prefix, s, "file[/x]")
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) *process {
		p := start(t, append([]string{"run", "--file", s.file, "--converged-timeout=0", "--prefix", prefix}, args...)...)
		p.exits(0, patience)
		return p
	}
	if p := run("--noop"); !strings.Contains(p.stderr.String(), "WARN  state not read") {
		t.Error("a noop run does not warn")
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "nonsense" {
		t.Fatalf("a noop run has changed it: %q, %v", text, err)
	}
	if p := run(); !strings.Contains(p.stderr.String(), "WARN  state lost    the state in "+path+" can't be read: invalid database  kept_as="+path+".2") {
		t.Error("there is no warning")
	}
	if kept, _ := filepath.Glob(path + ".2*"); len(kept) != 1 {
		t.Errorf("it is kept as %v", kept)
	}
	if p := run(); strings.Contains(p.stderr.String(), "WARN") {
		t.Error("there is a warning once more")
	}
}

func TestNoopMakesNoPlace(t *testing.T) {
	s := newScene(t, keptGraph)
	prefix := filepath.Join(t.TempDir(), "prefix")
	start(t, "run", "--file", s.file, "--converged-timeout=0", "--noop", "--prefix", prefix).exits(0, patience)
	if _, err := os.Lstat(prefix); !os.IsNotExist(err) {
		t.Errorf("the prefix is there (%v)", err)
	}
}

func TestNoopShowsWhatIsLeftToDo(t *testing.T) {
	s := newScene(t, strings.ReplaceAll(notifying, "VERSION", "v1"))
	prefix := t.TempDir()
	run := func(args ...string) string {
		p := start(t, append([]string{"run", "--file", s.file, "--converged-timeout=0", "--prefix", prefix}, args...)...)
		p.exits(0, patience)
		return p.stderr.String()
	}
	run()
	if err := os.Remove(s.host("reload")); err != nil {
		t.Fatal(err)
	}
	path := left(t, prefix, s, "exec[reload]")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if log := run("--noop"); !strings.Contains(log, "would change  exec[reload]") {
			t.Error("it does not show what the notification leads to")
		}
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the state is not as it was: %v", err)
	}
	if run(); !s.has("reload", "begin v1\nend v1\n") {
		t.Error("the command has not run")
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("there is still a state, though nothing is left to do: %v", err)
	}
}
