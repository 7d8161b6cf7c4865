package exec_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"gopkg.in/yaml.v3"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/exec"
	"github.com/mgmtproject/mgmt/sinks/params"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/command"
	"github.com/mgmtproject/mgmt/sources/command/process"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const sh = "/bin/sh"

type values = map[string]any

func TestConformance(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	remove := func(name string) func() error { return func() error { return os.Remove(path(name)) } }
	state := func() (string, error) {
		var all []string
		entries, err := os.ReadDir(dir)
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				return "", err
			}
			all = append(all, fmt.Sprint(e.Name(), info.Size(), info.ModTime()))
		}
		return strings.Join(all, "\n"), err
	}
	if err := os.WriteFile(path("input"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	modify := func() error {
		f, err := os.OpenFile(path("input"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString("more")
		return errors.Join(err, f.Close(), os.Chtimes(path("input"), time.Time{}, time.Now()))
	}
	sinktest.Run(t, exec.Spec,
		sinktest.Case{Name: "a command that creates a file", Resource: "make", State: state, Disturb: remove("created"),
			Params: values{"cmd": "touch " + path("created"), "creates": path("created")}},
		sinktest.Case{Name: "a command that is not needed if another succeeds", Resource: "make", State: state, Disturb: remove("nif"),
			Params: values{"cmd": "touch " + path("nif"), "nifcmd": "test -e " + path("nif"), "watchfiles": path("nif")}},
		sinktest.Case{Name: "a command that is needed if another succeeds", Resource: "make", State: state, Disturb: remove("if"),
			Params: values{"cmd": "touch " + path("if"), "ifcmd": "! test -e " + path("if"), "ifshell": sh, "watchfiles": path("if")}},
		sinktest.Case{Name: "a command that is needed if another prints a word", Resource: "make", State: state, Disturb: remove("equals"),
			Params: values{"cmd": "touch " + path("equals"), "ifcmd": "test -e " + path("equals") + " || echo missing", "ifshell": sh, "ifequals": "missing", "watchfiles": path("equals")}},
		sinktest.Case{Name: "a command that reads a file", Resource: "make", State: state, Disturb: modify,
			Params: values{"cmd": "cp " + path("input") + " " + path("output"), "mtimes": path("input")}},
		sinktest.Case{Name: "a command that makes one file of another", Resource: "make", State: state, Disturb: modify,
			Params: values{"cmd": "cp " + path("input") + " " + path("copy"), "mtimes": path("input"), "creates": path("copy")}},
		sinktest.Case{Name: "a command that another one wakes", Resource: "make", State: state, Disturb: remove("woken"),
			Params: values{"cmd": "touch " + path("woken"), "nifcmd": "test -e " + path("woken"),
				"watchcmd": "while :; do test -e " + path("woken") + " || echo gone; sleep 0.02; done", "watchshell": sh}},
		sinktest.Case{Name: "a command that is always needed", Resource: "true", Acts: true},
	)
}

func TestInvalid(t *testing.T) {
	tests := []struct {
		name   string
		params values
		want   string
	}{
		{"a command with an open quote", values{"cmd": "echo it's"}, `cmd: "echo it's" can't be split into words: unterminated single-quoted string`},
		{"a blank command", values{"cmd": " "}, "cmd: the command is empty"},
		{"a guard with an open quote", values{"ifcmd": `test "a`}, `ifcmd: "test \"a" can't be split into words: unterminated double-quoted string`},
		{"another guard", values{"nifcmd": `test "a`}, "nifcmd: "},
		{"a command to watch", values{"watchcmd": "'"}, "watchcmd: "},
		{"a command afterwards", values{"donecmd": "'"}, "donecmd: "},
		{"a negative timeout", values{"timeout": -1}, "timeout: -1s is negative"},
		{"a negative interval", values{"pollint": -1}, "pollint: -1s is negative"},
		{"a relative file to create", values{"creates": "a"}, `creates: path "a" is not absolute`},
		{"a relative file to watch", values{"watchfiles": []string{"/a", "b"}}, `watchfiles: path "b" is not absolute`},
		{"a relative file to read", values{"mtimes": "b"}, `mtimes: path "b" is not absolute`},
		{"output that equals without a command", values{"ifequals": "a"}, "ifequals: there is no ifcmd, whose output it could equal"},
		{"another state", values{"state": "absent"}, "state"},
		{"a variable without a name", values{"env": map[string]string{"=": "a"}}, `"="="a" can't be an environment variable`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { sinktest.Invalid(t, exec.Spec, "true", tt.params, tt.want) })
	}
}

func build(t testing.TB, name string, params values) sinks.Resource {
	t.Helper()
	return sinktest.Build(t, exec.Spec, name, params)
}

func apply(t testing.TB, r sinks.Resource) sinks.Outcome {
	t.Helper()
	out, err := r.CheckApply(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestOldFile(t *testing.T) {
	const old = "{cmd: echo old, shell: '', timeout: 0, watchcmd: '', ifcmd: '', pollint: 0, state: present}"
	const short = "{cmd: echo old}"
	var made [2]sinks.Resource
	for i, text := range []string{old, short} {
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatal(err)
		}
		cfg := exec.Spec.New()
		if problems := params.Decode(doc.Content[0], cfg); len(problems) > 0 {
			t.Fatal(problems)
		}
		r, err := cfg.Build("exec1", sinks.Options{})
		if err != nil {
			t.Fatal(err)
		}
		made[i] = r
	}
	for _, r := range made {
		if w := r.Watches(); len(w) > 0 {
			t.Errorf("it watches %v", w)
		}
		if !r.(sinks.Actor).Acts() || !r.(sinks.Waiter).Waits() {
			t.Error("it does not act each time, or does not wait")
		}
		if out := apply(t, r); out.Values["stdout"] != "old\n" {
			t.Errorf("got %+v", out)
		}
	}
}

func TestWatches(t *testing.T) {
	tests := []struct {
		name   string
		params values
		want   []sources.Watch
	}{
		{"nothing", nil, nil},
		{"a command", values{"watchcmd": "tail -f x", "watchcwd": "/tmp", "env": map[string]string{"A": "b"}, "user": "nobody", "group": "daemon", "args": "x"},
			[]sources.Watch{command.Lines(process.Command{Cmd: "tail -f x", Dir: "/tmp", Env: map[string]string{"A": "b"}, User: "nobody", Group: "daemon"})}},
		{"a script", values{"watchcmd": "tail -f x", "watchshell": sh}, []sources.Watch{command.Lines(process.Command{Cmd: "tail -f x", Shell: sh})}},
		{"files, each once", values{"watchfiles": []string{"/a", "/b"}, "creates": "/c", "mtimes": []string{"/b", "/d"}},
			[]sources.Watch{inotify.Path("/a"), inotify.Path("/b"), inotify.Path("/c"), inotify.Path("/d")}},
		{"an interval", values{"pollint": 30}, []sources.Watch{sources.Interval{Every: 30 * time.Second}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := build(t, "true", tt.params).Watches(); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestWhatRuns(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name     string
		resource string
		params   values
		want     string
	}{
		{"the name", "echo 'a  b'", nil, "a  b\n"},
		{"cmd", "any", values{"cmd": "echo a"}, "a\n"},
		{"cmd with args", "any", values{"cmd": "printf", "args": []string{"%s|", "a b", "$c"}}, "a b|$c|"},
		{"a script", "any", values{"cmd": `echo "$1" | tr a b`, "shell": sh, "args": []string{"aaa"}}, "bbb\n"},
		{"in a directory", "pwd", values{"cwd": dir}, dir + "\n"},
		{"with variables", "printenv A", values{"env": map[string]string{"A": "b c"}}, "b c\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := build(t, tt.resource, tt.params)
			out := apply(t, r)
			if !out.Changed || out.Values["stdout"] != tt.want || out.Values["output"] != tt.want || out.Values["stderr"] != "" || out.Values["exit"] != int64(0) {
				t.Errorf("got %+v, want output %q", out, tt.want)
			}
		})
	}
	t.Run("as another user", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("needs root: only root may run commands as others")
		}
		ids := values{"cmd": "id -un; id -gn", "shell": sh, "user": "nobody", "group": "daemon", "cwd": "/",
			"ifcmd": `test "$(id -un)" = nobody`, "ifshell": sh, "nifcmd": `test "$(id -gn)" != daemon`, "nifshell": sh,
			"donecmd": `test "$(id -un)" = nobody`, "doneshell": sh}
		if got := apply(t, build(t, "any", ids)).Values["output"]; got != "nobody\ndaemon\n" {
			t.Errorf("got %q", got)
		}
	})
}

func TestFailures(t *testing.T) {
	tests := []struct {
		name    string
		params  values
		want    string
		is      error
		changed bool
		output  string
	}{
		{"a status", values{"cmd": "false"}, `cmd "false" exited with status 1`, nil, true, ""},
		{"a status and a message", values{"cmd": "echo a; echo b >&2; exit 7", "shell": sh}, `cmd "echo a; echo b >&2; exit 7" exited with status 7: b`, nil, true, "a\n"},
		{"a timeout", values{"cmd": "sleep 10", "timeout": "100ms"}, `cmd "sleep 10" timed out after 100ms`, nil, true, ""},
		{"no program", values{"cmd": "no-such-program a"}, `cmd "no-such-program": executable file not found in $PATH`, osexec.ErrNotFound, false, ""},
		{"no directory", values{"cmd": "true", "cwd": "/no/such"}, `cmd "true": working directory: stat /no/such: no such file or directory`, fs.ErrNotExist, false, ""},
		{"a guard that can't be started", values{"ifcmd": "no-such-program"}, `ifcmd "no-such-program": executable file not found in $PATH`, osexec.ErrNotFound, false, ""},
		{"another one", values{"nifcmd": "no-such-program"}, `nifcmd "no-such-program": executable file not found in $PATH`, osexec.ErrNotFound, false, ""},
		{"a guard that is killed", values{"ifcmd": "kill -9 $$", "ifshell": sh}, `ifcmd "kill -9 $$" was killed by SIGKILL`, nil, false, ""},
		{"a guard that takes too long", values{"nifcmd": "sleep 10", "timeout": "100ms"}, `nifcmd "sleep 10" timed out after 100ms`, nil, false, ""},
		{"a command afterwards", values{"donecmd": "false"}, `donecmd "false" exited with status 1`, nil, true, ""},
		{"a file that can't be looked at", values{"creates": "/" + strings.Repeat("x", 300)}, "stat /" + strings.Repeat("x", 300) + ": file name too long", syscall.ENAMETOOLONG, false, ""},
		{"a file to read that can't be looked at", values{"mtimes": "/" + strings.Repeat("x", 300)}, "stat /" + strings.Repeat("x", 300) + ": file name too long", syscall.ENAMETOOLONG, false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := build(t, "true", tt.params).CheckApply(t.Context(), true)
			if err == nil || err.Error() != tt.want || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("got error %v, want %s", err, tt.want)
			}
			if stdout, _ := out.Values["stdout"].(string); out.Changed != tt.changed || stdout != tt.output {
				t.Errorf("got %+v, want changed=%v and output %q", out, tt.changed, tt.output)
			}
		})
	}
}

// counter is a command that counts its runs.
type counter struct {
	t    *testing.T
	file string
}

func newCounter(t *testing.T) counter { return counter{t, filepath.Join(t.TempDir(), "runs")} }

func (c counter) cmd() string { return "sh -c 'echo x >>" + c.file + "'" }

func (c counter) want(n int) {
	c.t.Helper()
	b, err := os.ReadFile(c.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.t.Fatal(err)
	}
	if got := len(b) / 2; got != n {
		c.t.Fatalf("it ran %d times, want %d", got, n)
	}
}

func TestGuards(t *testing.T) {
	existing := filepath.Join(t.TempDir(), "existing")
	touch(t, existing, time.Now())
	const absent = "/no/such/file"
	tests := []struct {
		name   string
		params values
		runs   bool
	}{
		{"none", nil, true},
		{"all empty", values{"ifcmd": "", "nifcmd": "", "creates": "", "ifequals": "", "watchcmd": "", "donecmd": "", "mtimes": []string{}}, true},
		{"ifcmd yes", values{"ifcmd": "true"}, true},
		{"ifcmd no", values{"ifcmd": "false"}, false},
		{"ifcmd no with any status", values{"ifcmd": "exit 127", "ifshell": sh}, false},
		{"ifcmd in its directory", values{"ifcmd": "test -e passwd", "ifcwd": "/etc"}, true},
		{"ifcmd and what it prints", values{"ifcmd": "echo yes", "ifequals": "yes"}, true},
		{"ifcmd and what it prints with a newline", values{"ifcmd": "printf 'yes\\n\\n'", "ifshell": sh, "ifequals": "yes\n"}, true},
		{"ifcmd prints something else", values{"ifcmd": "echo no", "ifequals": "yes"}, false},
		{"ifcmd prints more", values{"ifcmd": "echo yes yes", "ifequals": "yes"}, false},
		{"ifcmd prints it on standard error", values{"ifcmd": "echo yes >&2", "ifshell": sh, "ifequals": "yes"}, false},
		{"ifcmd prints it and fails", values{"ifcmd": "echo yes; false", "ifshell": sh, "ifequals": "yes"}, false},
		{"ifcmd prints nothing, as it should", values{"ifcmd": "true", "ifequals": ""}, true},
		{"ifcmd prints something instead of nothing", values{"ifcmd": "echo a", "ifequals": ""}, false},
		{"nifcmd yes", values{"nifcmd": "true"}, false},
		{"nifcmd no", values{"nifcmd": "false"}, true},
		{"nifcmd in its directory", values{"nifcmd": "test -e passwd", "nifcwd": "/etc"}, false},
		{"nifcmd as a script", values{"nifcmd": "false || true", "nifshell": sh}, false},
		{"creates exists", values{"creates": existing}, false},
		{"creates is missing", values{"creates": absent}, true},
		{"creates is below a file", values{"creates": existing + "/x"}, true},
		{"mtimes of a file", values{"mtimes": existing}, true},
		{"mtimes of no file", values{"mtimes": absent}, false},
		{"mtimes of one of two files", values{"mtimes": []string{absent, existing}}, true},
		{"all for it", values{"ifcmd": "true", "nifcmd": "false", "creates": absent}, true},
		{"ifcmd against the others", values{"ifcmd": "false", "nifcmd": "false", "creates": absent}, false},
		{"nifcmd against the others", values{"ifcmd": "true", "nifcmd": "true", "creates": absent}, false},
		{"creates against the others", values{"ifcmd": "true", "nifcmd": "false", "creates": existing}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			runs := newCounter(t)
			params := values{"cmd": runs.cmd()}
			for k, v := range tt.params {
				params[k] = v
			}
			r := build(t, "any", params)
			out, err := r.CheckApply(t.Context(), false)
			if err != nil || out.Changed != tt.runs {
				t.Errorf("a check got %+v, %v; want changed=%v", out, err, tt.runs)
			}
			runs.want(0)
			want := 0
			if tt.runs {
				want = 1
			}
			if out := apply(t, r); out.Changed != tt.runs {
				t.Errorf("an apply got %+v, want changed=%v", out, tt.runs)
			}
			runs.want(want)
			if out, err := r.(sinks.Refresher).Refresh(t.Context(), false); err != nil || !out.Changed {
				t.Errorf("the check of a refresh got %+v, %v", out, err)
			}
			runs.want(want)
			if out, err := r.(sinks.Refresher).Refresh(t.Context(), true); err != nil || !out.Changed {
				t.Errorf("a refresh got %+v, %v", out, err)
			}
			runs.want(want + 1)
		})
	}
}

func touch(t *testing.T, file string, at time.Time) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), os.Chtimes(file, at, at)); err != nil {
		t.Fatal(err)
	}
}

func TestMtimes(t *testing.T) {
	noon := time.Date(2020, 1, 1, 12, 0, 0, 0, time.UTC)
	type env struct {
		t              *testing.T
		runs           counter
		a, b, creates  string
		alone, withOut sinks.Resource // without creates and with it
	}
	tests := []struct {
		name string
		run  func(e env)
	}{
		{"it runs once for files that are there", func(e env) {
			touch(e.t, e.a, noon)
			apply(e.t, e.alone)
			apply(e.t, e.alone)
			e.runs.want(1)
		}},
		{"it runs when a file has been modified", func(e env) {
			touch(e.t, e.a, noon)
			touch(e.t, e.b, noon.Add(time.Hour))
			apply(e.t, e.alone)
			touch(e.t, e.a, noon.Add(time.Minute)) // newer than it was, older than the other
			apply(e.t, e.alone)
			apply(e.t, e.alone)
			e.runs.want(2)
		}},
		{"it runs when a file has come into being", func(e env) {
			apply(e.t, e.alone)
			e.runs.want(0)
			touch(e.t, e.b, noon)
			apply(e.t, e.alone)
			apply(e.t, e.alone)
			e.runs.want(1)
			if err := os.Remove(e.b); err != nil {
				e.t.Fatal(err)
			}
			apply(e.t, e.alone)
			e.runs.want(1)
		}},
		{"a file that is older than before does not count", func(e env) {
			touch(e.t, e.a, noon)
			apply(e.t, e.alone)
			touch(e.t, e.a, noon.Add(-time.Hour))
			apply(e.t, e.alone)
			e.runs.want(1)
		}},
		{"a refresh counts as a run", func(e env) {
			touch(e.t, e.a, noon)
			if _, err := e.alone.(sinks.Refresher).Refresh(e.t.Context(), true); err != nil {
				e.t.Fatal(err)
			}
			apply(e.t, e.alone)
			e.runs.want(1)
		}},
		{"a check does not count as a run", func(e env) {
			touch(e.t, e.a, noon)
			if out, err := e.alone.CheckApply(e.t.Context(), false); err != nil || !out.Changed {
				e.t.Fatal(out, err)
			}
			apply(e.t, e.alone)
			e.runs.want(1)
		}},
		{"what is newer than the result runs", func(e env) {
			touch(e.t, e.a, noon)
			touch(e.t, e.creates, noon.Add(-time.Minute))
			apply(e.t, e.withOut)
			e.runs.want(1)
			apply(e.t, e.withOut) // the result is still older, but nothing has been modified
			e.runs.want(1)
		}},
		{"what is older than the result or of its age does not run", func(e env) {
			touch(e.t, e.a, noon)
			touch(e.t, e.b, noon.Add(-time.Minute))
			touch(e.t, e.creates, noon)
			apply(e.t, e.withOut)
			e.runs.want(0)
			touch(e.t, e.b, noon.Add(time.Minute))
			apply(e.t, e.withOut)
			e.runs.want(1)
		}},
		{"a missing result runs, whatever the files are", func(e env) {
			apply(e.t, e.withOut)
			apply(e.t, e.withOut)
			e.runs.want(2)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			e := env{t: t, runs: newCounter(t), a: filepath.Join(dir, "a"), b: filepath.Join(dir, "b"), creates: filepath.Join(dir, "creates")}
			params := values{"cmd": e.runs.cmd(), "mtimes": []string{e.a, e.b}}
			e.alone = build(t, "alone", params)
			params["creates"] = e.creates
			e.withOut = build(t, "with", params)
			tt.run(e)
		})
	}
}

// TestFailedRunIsRepeated has a command that fails on its first run.
func TestFailedRunIsRepeated(t *testing.T) {
	for _, failing := range []string{"cmd", "donecmd"} {
		t.Run(failing, func(t *testing.T) {
			dir := t.TempDir()
			input, mark := filepath.Join(dir, "input"), filepath.Join(dir, "mark")
			touch(t, input, time.Now())
			params := values{"cmd": "true", "mtimes": input}
			params[failing] = fmt.Sprintf("sh -c 'test -e %s || { touch %[1]s; false; }'", mark)
			r := build(t, "any", params)
			if _, err := r.CheckApply(t.Context(), true); err == nil {
				t.Fatal("the first run did not fail")
			}
			if out := apply(t, r); !out.Changed {
				t.Error("it was not run again")
			}
			if out := apply(t, r); out.Changed {
				t.Error("it was run after it had succeeded")
			}
		})
	}
}

// TestModifiedWhileRunning modifies a file after the command has read it.
func TestModifiedWhileRunning(t *testing.T) {
	dir := t.TempDir()
	input, mark := filepath.Join(dir, "input"), filepath.Join(dir, "mark")
	touch(t, input, time.Now().Add(-time.Hour))
	r := build(t, "any", values{"cmd": fmt.Sprintf("test -e %s || touch %[1]s %s", mark, input), "shell": sh, "mtimes": input})
	for i, want := range []bool{true, true, false} {
		if out := apply(t, r); out.Changed != want {
			t.Errorf("apply %d: changed is %v, want %v", i, out.Changed, want)
		}
	}
}

func TestDoneRunsAfterSuccess(t *testing.T) {
	runs := newCounter(t)
	done := func(params values) sinks.Resource {
		params["donecmd"], params["doneshell"], params["donecwd"] = "pwd >>/dev/null; echo x >>./runs", sh, filepath.Dir(runs.file)
		return build(t, "any", params)
	}
	if _, err := done(values{"cmd": "false"}).CheckApply(t.Context(), true); err == nil {
		t.Error("false succeeded")
	}
	apply(t, done(values{"cmd": "true", "ifcmd": "false"}))
	if _, err := done(values{"cmd": "true"}).CheckApply(t.Context(), false); err != nil {
		t.Error(err)
	}
	runs.want(0)
	apply(t, done(values{"cmd": "true"}))
	runs.want(1)
}

// TestCancel cancels a command with children, and looks whether they are gone when
// CheckApply has returned.
func TestCancel(t *testing.T) {
	for _, param := range []string{"cmd", "ifcmd", "nifcmd", "donecmd"} {
		t.Run(param, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "pid")
			params := values{"cmd": "true", param: []string{"sh -c 'echo $$ >" + file + "; sleep 1000 & sleep 1000'"}[0]}
			r := build(t, "any", params)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			done := make(chan error, 1)
			go func() {
				_, err := r.CheckApply(ctx, true)
				done <- err
			}()
			pid := 0
			for deadline := time.Now().Add(10 * time.Second); pid == 0 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
				b, _ := os.ReadFile(file)
				pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
			}
			enough := errors.New("enough")
			cancel(enough)
			err := <-done
			if !errors.Is(err, enough) || !strings.HasPrefix(err.Error(), param+` "sh -c `) {
				t.Errorf("got %v", err)
			}
			if left := members(t, pid); pid == 0 || len(left) > 0 {
				t.Errorf("of the group %d are left %v", pid, left)
			}
		})
	}
}

func TestCancelledWhenThereIsNothingToDo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := build(t, "any", values{"creates": "/"})
	if _, err := r.CheckApply(ctx, true); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// members are the living processes of a group.
func members(t *testing.T, pgid int) (pids []string) {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range stats {
		b, _ := os.ReadFile(file)
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); len(f) > 2 && f[0] != "Z" && f[2] == strconv.Itoa(pgid) {
			pids = append(pids, file)
		}
	}
	return pids
}

func TestOutput(t *testing.T) {
	out := apply(t, build(t, "echo a; echo b >&2; echo c", values{"shell": sh}))
	if len(out.Values) != 4 || out.Values["stdout"] != "a\nc\n" || out.Values["stderr"] != "b\n" || out.Values["exit"] != int64(0) {
		t.Errorf("got %q", out.Values)
	}
	// The two streams are two pipes, so that only the order within each is sure.
	if got := out.Values["output"]; got != "a\nb\nc\n" && got != "a\nc\nb\n" && got != "b\na\nc\n" {
		t.Errorf("got output %q", got)
	}
}

// BenchmarkExec compares the time of a command run by a resource with that of the same
// command run by package os/exec, in turns, so that both see the same machine.
func BenchmarkExec(b *testing.B) {
	r := build(b, "/bin/true", nil)
	var ours, bare time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := r.CheckApply(b.Context(), true); err != nil {
			b.Fatal(err)
		}
		between := time.Now()
		if err := osexec.CommandContext(b.Context(), "/bin/true").Run(); err != nil {
			b.Fatal(err)
		}
		ours += between.Sub(start)
		bare += time.Since(between)
	}
	b.ReportMetric(float64(ours.Microseconds())/float64(b.N), "µs/exec")
	b.ReportMetric(float64(bare.Microseconds())/float64(b.N), "µs/bare")
	b.ReportMetric(float64((ours-bare).Microseconds())/float64(b.N), "µs/added")
}
