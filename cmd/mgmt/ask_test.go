package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/cmd/internal/instance"
)

// socket is where the run of a scene answers.
func (s *scene) socket() string {
	s.t.Helper()
	place, err := instance.At(os.Getenv("MGMT_PREFIX"), s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	return place.Socket()
}

// answer is what mgmt status and mgmt explain say.
type answer struct {
	Graph, File       string
	PID               int
	Converged         bool
	Counts            map[string]int
	Failed, Blocked   []struct{ Resource, Error, By string }
	Pending, Flapping []struct{ Resource, State string }
	Now               *struct {
		State string
		Last  *struct {
			Duration float64 `json:"duration_ms"`
			Changed  bool
			Cause    struct{ Kind, Source, Watch string }
			Changes  []struct{ Field, From, To string }
		}
	}
}

// ask runs a command that writes an answer.
func ask(t *testing.T, args ...string) (code int, a answer, stderr string) {
	t.Helper()
	code, stdout, stderr := inProcess(t, "", append(args, "--json")...)
	if stdout != "" {
		if err := json.Unmarshal([]byte(stdout), &a); err != nil {
			t.Fatalf("%v in %s", err, stdout)
		}
	}
	return code, a, stderr
}

// becomes asks for the status until it is as expected.
func becomes(t *testing.T, what string, holds func(code int, a answer) bool, args ...string) {
	t.Helper()
	var last answer
	defer func() {
		if t.Failed() {
			t.Logf("the last status was %+v", last)
		}
	}()
	eventually(t, what, func() bool {
		code, a, _ := ask(t, append([]string{"status"}, args...)...)
		last = a
		return holds(code, a)
	})
}

const troubled = twoFiles + `  - name: DIR/behind
    state: exists
    require: exec[broken]
  exec:
  - {name: broken, cmd: "test -e DIR/mended", watchfiles: [DIR/mended]}
  - {name: slow, cmd: sleep 1000}
`

func TestStatusOfARun(t *testing.T) {
	s := newScene(t, troubled)
	p := start(t, "run", "--file", s.file)
	becomes(t, "all is told", func(code int, a answer) bool {
		return code == 1 && a.Graph == "files" && a.File == s.file && a.PID == p.cmd.Process.Pid && !a.Converged &&
			a.Counts["right"] == 2 && a.Counts["failed"] == 1 && a.Counts["blocked"] == 1 && a.Counts["pending"] == 1 &&
			len(a.Failed) == 1 && a.Failed[0].Resource == "exec[broken]" && a.Failed[0].Error != "" &&
			len(a.Blocked) == 1 && a.Blocked[0].By == "exec[broken]" && len(a.Pending) == 1 && a.Pending[0].State == "running"
	}, "--file", s.file)
	code, stdout, _ := inProcess(t, "", "status", "--file", s.file)
	for _, want := range []string{" keeps " + s.file, "\nfailed\n  exec[broken]  ", "\nblocked\n  file[" + s.host("behind") + "]  by exec[broken]\n", "\npending\n  exec[slow]  runs now\n"} {
		if code != 1 || !strings.Contains(stdout, want) {
			t.Errorf("exit status %d, and there is no %q in\n%s", code, want, stdout)
		}
	}

	s.save(twoFiles)
	becomes(t, "all is well", func(code int, a answer) bool { return code == 0 && a.Converged && a.Counts["right"] == 2 }, "--file", s.file)
	info, err := os.Lstat(s.socket())
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	p.signal(syscall.SIGTERM)
	p.exits(0, 5*time.Second)
	if _, err := os.Lstat(s.socket()); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
	if code, _, stderr := ask(t, "status", "--file", s.file); code != 1 || !strings.Contains(stderr, "no run is keeping") {
		t.Errorf("after the end: %d, %s", code, stderr)
	}
}

func TestTwoRuns(t *testing.T) {
	prefix := t.TempDir()
	a, b := newScene(t, twoFiles), newScene(t, strings.Replace(twoFiles, "graph: files", "graph: others", 1))
	start(t, "run", "--file", a.file, "--prefix", prefix)
	becomes(t, "the only one answers", func(_ int, x answer) bool { return x.Graph == "files" }, "--prefix", prefix)
	start(t, "run", "--file", b.file, "--prefix", prefix)
	becomes(t, "the second answers", func(_ int, x answer) bool { return x.Graph == "others" }, "--prefix", prefix, "--file", b.file)
	becomes(t, "the first does still", func(_ int, x answer) bool { return x.Graph == "files" }, "--prefix", prefix, "--file", a.file)
	code, _, stderr := ask(t, "status", "--prefix", prefix)
	if code != 1 || !strings.Contains(stderr, "2 runs are under way") || !strings.Contains(stderr, "--file "+a.file) || !strings.Contains(stderr, "--file "+b.file) {
		t.Errorf("without saying which: %d, %s", code, stderr)
	}
}

func TestRunThatWasKilledLeavesNothingInTheWay(t *testing.T) {
	s := newScene(t, twoFiles)
	p := start(t, "run", "--file", s.file)
	becomes(t, "it answers", func(code int, _ answer) bool { return code == 0 }, "--file", s.file)
	tap := start(t, "tap", "--file", s.file)
	eventually(t, "it is tapped", func() bool { return strings.Contains(tap.stdout.String(), "tapped") })
	p.signal(syscall.SIGKILL)
	tap.exits(1, 5*time.Second)
	<-p.done
	if _, err := os.Lstat(s.socket()); err != nil {
		t.Fatalf("the kill leaves no socket: %v", err)
	}
	if code, _, stderr := ask(t, "status", "--file", s.file); code != 1 || !strings.Contains(stderr, "no run is keeping") {
		t.Errorf("after the kill: %d, %s", code, stderr)
	}
	if code, _, stderr := ask(t, "status", "--socket", s.socket()); code != 1 || !strings.Contains(stderr, "no run answers at ") {
		t.Errorf("at its socket: %d, %s", code, stderr)
	}
	start(t, "run", "--file", s.file)
	becomes(t, "another one answers", func(code int, a answer) bool { return code == 0 && a.PID != p.cmd.Process.Pid }, "--file", s.file)
}

func TestTapOfARun(t *testing.T) {
	s := newScene(t, twoFiles)
	p := start(t, "run", "--file", s.file, "--log-level=debug")
	p.settles()
	all := start(t, "tap", "--file", s.file)
	one := start(t, "tap", "file["+s.host("f1")+"]", "--file", s.file, "--json", "--limit", "3")
	for _, tap := range []*process{all, one} {
		eventually(t, "it is tapped", func() bool { return tap.stdout.String() != "" })
	}
	for _, name := range []string{"f2", "f1"} {
		if err := os.Remove(s.host(name)); err != nil {
			t.Fatal(err)
		}
		eventually(t, name+" is back", func() bool { _, err := os.Stat(s.host(name)); return err == nil })
	}
	one.exits(0, patience)
	list := events(t, one.stdout.String())
	// After these either the end comes, or the event that the repair itself makes.
	if len(list) != 4 || list[0].Stream != "mgmt-events" || list[1].Type != "event" || list[2].Type != "start" {
		t.Errorf("of one resource it is shown %+v", list)
	}
	for _, e := range list[1:] {
		if e.Resource != "file["+s.host("f1")+"]" {
			t.Errorf("of one resource it is shown %+v", e)
		}
	}
	for _, want := range []string{"INFO  changed       file[" + s.host("f2") + "]  state: absent -> exists", "DEBUG event         file[" + s.host("f1") + "]  inotify "} {
		eventually(t, "of all it is shown "+want, func() bool { return strings.Contains(all.stdout.String(), want) })
	}
	if code, _, stderr := inProcess(t, "", "tap", "file["+s.host("f3")+"]", "--file", s.file); code != 1 || !strings.Contains(stderr, "did you mean file["+s.host("f1")+"]?") {
		t.Errorf("of a resource that is not there: %d, %s", code, stderr)
	}
	p.settles()
	p.signal(syscall.SIGTERM)
	all.exits(0, 5*time.Second)
	if !strings.Contains(all.stdout.String(), "INFO  run ended     reason=signal  signal=SIGTERM  status=0") {
		t.Errorf("it is not told of the end: %s", all.stdout)
	}
}

func TestTapThatNobodyReads(t *testing.T) {
	s := newScene(t, busy)
	p := start(t, "run", "--file", s.file)
	p.says("converged")
	tap := exec.Command(os.Args[0], "tap", "--json", "--file", s.file)
	tap.Env = append(os.Environ(), asMgmt+"=1")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	tap.Stdout = w
	if err := tap.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	defer func() { _ = tap.Process.Kill(); _ = tap.Wait() }()
	lines := bufio.NewReader(r)
	if _, err := lines.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second) // what is not read meanwhile is the point
	if err := os.Remove(s.host("f1")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "f1 is back although nobody reads the tap", func() bool { return s.has("f1", "i am f1\n") })
	// Now it reads again, and finds each gap told of.
	var events, dropped, last uint64 = 0, 0, 1
	for events < 2000 || dropped == 0 && events < 200_000 {
		text, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		var e event
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatal(err)
		}
		if want := last + max(1, e.Count); e.Type == "dropped" && e.Seq != want || e.Type != "dropped" && e.Seq != last+1 {
			t.Fatalf("line %d follows %d: %s", e.Seq, last, text)
		}
		last = e.Seq
		events++
		if e.Type == "dropped" {
			dropped += e.Count
		}
	}
	t.Logf("%d lines read, %d dropped", events, dropped)
	p.signal(syscall.SIGTERM)
	select {
	case <-p.done: // with whatever status: something is pending most of the time
	case <-time.After(5 * time.Second):
		t.Error("it does not exit")
	}
}

func TestStopIsPromptWithTaps(t *testing.T) {
	s := newScene(t, twoFiles)
	p := start(t, "run", "--file", s.file, "--log-level=debug")
	p.settles()
	var taps []*process
	for range 5 {
		taps = append(taps, start(t, "tap", "--json", "--file", s.file))
	}
	for _, tap := range taps {
		eventually(t, "it is tapped", func() bool { return tap.stdout.String() != "" })
	}
	p.signal(syscall.SIGTERM)
	p.exits(0, 2*time.Second) // one of which the race detector takes at the end of a process
	for _, tap := range taps {
		tap.exits(0, 2*time.Second)
		list := events(t, tap.stdout.String())
		if last := list[len(list)-1]; last.Type != "exit" || last.Reason != "signal" {
			t.Errorf("the last line is %+v", last)
		}
	}
}

func TestTapIsInterrupted(t *testing.T) {
	s := newScene(t, twoFiles)
	start(t, "run", "--file", s.file)
	becomes(t, "it answers", func(code int, _ answer) bool { return code == 0 }, "--file", s.file)
	tap := start(t, "tap", "--file", s.file)
	eventually(t, "it is tapped", func() bool { return tap.stdout.String() != "" })
	tap.signal(os.Interrupt)
	<-tap.done
	if status := tap.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGINT {
		t.Errorf("it ends with %v", tap.cmd.ProcessState)
	}
}

func TestExplainWithARun(t *testing.T) {
	s := newScene(t, twoFiles)
	p := start(t, "run", "--file", s.file, "--log-level=debug")
	p.settles()
	resource := "file[" + s.host("f1") + "]"
	if err := os.WriteFile(s.host("f1"), []byte("blah\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "f1 is right again", func() bool { return s.has("f1", "i am f1\n") })
	p.settles()
	for name, args := range map[string][]string{"from the file": {s.file, resource}, "from the run": {resource, "--file", s.file}, "at the socket": {resource, "--socket", s.socket()}} {
		code, x, stderr := ask(t, append([]string{"explain"}, args...)...)
		if code != 0 || x.Now == nil || x.Now.State != "right" || x.Now.Last == nil || x.Now.Last.Cause.Source != "inotify" || x.Now.Last.Duration <= 0 {
			t.Errorf("%s: %d, %+v, %s", name, code, x.Now, stderr)
		}
	}
	_, stdout, _ := inProcess(t, "", "explain", s.file, resource)
	for _, want := range []string{"\nplan\n  all is as desired\n", "\nin the run\n  is        right\n", "  cause     event inotify ", "  changed   2 times in this run\n"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("there is no %q in\n%s", want, stdout)
		}
	}
	other := filepath.Join(s.dir, "other.yaml")
	if err := os.WriteFile(other, []byte(strings.ReplaceAll(twoFiles, "DIR", s.host(""))), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, x, stderr := ask(t, "explain", other, resource); code != 0 || x.Now != nil {
		t.Errorf("of a file that no run keeps: %d, %+v, %s", code, x.Now, stderr)
	}
}

func TestRunThatCanNotBeAsked(t *testing.T) {
	s := newScene(t, twoFiles)
	if err := os.MkdirAll(s.socket(), 0o700); err != nil { // something is in the way
		t.Fatal(err)
	}
	p := start(t, "run", "--file", s.file)
	p.says("the run can't be asked")
	eventually(t, "it does its work all the same", func() bool { return s.has("f1", "i am f1\n") })
}
