package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const twoFiles = `
graph: files
resources:
  file:
  - name: DIR/f1
    state: exists
    content: |
      i am f1
  - name: DIR/f2
    state: exists
    content: |
      one
      two
      three
`

func TestConvergesAndExits(t *testing.T) {
	s := newScene(t, twoFiles)
	for _, timeout := range []string{"0", "250ms", "0.1", "0.2s"} {
		code, stdout, stderr := inProcess(t, "", "run", "--file", s.file, "--converged-timeout="+timeout)
		if code != 0 || !s.has("f1", "i am f1\n") || !s.has("f2", "one\ntwo\nthree\n") {
			t.Fatalf("exit status %d, standard error:\n%s", code, stderr)
		}
		if stdout != "" {
			t.Errorf("standard output is not empty: %s", stdout)
		}
		if !strings.Contains(stderr, "INFO  converged") {
			t.Errorf("the log does not say that it has converged:\n%s", stderr)
		}
	}
}

func TestConvergedHostIsSilent(t *testing.T) {
	s := newScene(t, twoFiles)
	inProcess(t, "", "run", "--file", s.file, "--converged-timeout=0")
	code, _, stderr := inProcess(t, "", "run", "--file", s.file, "--converged-timeout=0")
	if code != 0 || strings.Count(stderr, "\n") != 2 || strings.Contains(stderr, "changed") {
		t.Errorf("exit status %d, want the graph and convergence in the log and nothing else:\n%s", code, stderr)
	}
}

func TestConvergedTimeoutIsWaited(t *testing.T) {
	s := newScene(t, twoFiles)
	began := time.Now()
	inProcess(t, "", "run", "--file", s.file, "--converged-timeout=0.4")
	if took := time.Since(began); took < 400*time.Millisecond {
		t.Errorf("it ended after %v, before the timeout", took)
	}
}

func TestExitStatus(t *testing.T) {
	for _, c := range []struct {
		name  string
		graph string
		args  []string
		code  int
		last  []string // the last lines of standard error, or their beginnings
	}{
		{"all is right", "graph: g\nresources:\n  noop:\n  - name: a\n", nil, 0, nil},
		{"an empty graph", "graph: g\n", nil, 0, nil},
		{
			"a resource fails, and what comes after it is not run",
			"graph: g\nresources:\n  exec:\n  - {name: x, cmd: \"false\"}\n  - {name: y, cmd: \"true\"}\nedges:\n- exec[x] -> exec[y]\n", nil, 1,
			[]string{"exec[x]: ", "exec[y]: not run, because exec[x] has failed"},
		},
		{
			"two resources fail", "graph: g\nresources:\n  exec:\n  - {name: z, cmd: \"false\"}\n  - {name: x, cmd: /no/such/program}\n", nil, 1,
			[]string{"exec[x]: ", "exec[z]: "},
		},
		{"a check fails under noop", "graph: g\nresources:\n  exec:\n  - {name: x, cmd: \"false\"}\n", []string{"--noop"}, 0, nil},
		{
			"a broken graph file, all of it", "graph: g\nresources:\n  fiel: []\n  noop:\n  - {name: a, colour: red}\n  - {name: a}\n", nil, 2,
			[]string{"FILE:3:3: unknown kind \"fiel\"", "FILE:5:15: unknown parameter \"colour\"", "FILE:6:"},
		},
		{"a broken graph file as JSON logs", "graph: [\n", []string{"--log-format=json"}, 2, []string{`{"time":`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t, c.graph)
			code, _, stderr := inProcess(t, "", append([]string{"run", "--file", s.file, "--converged-timeout=0"}, c.args...)...)
			if code != c.code {
				t.Errorf("exit status %d, want %d", code, c.code)
			}
			lines := strings.Split(strings.TrimSpace(stderr), "\n")
			tail := lines[max(0, len(lines)-len(c.last)):]
			for i, want := range c.last {
				want = strings.ReplaceAll(want, "FILE", s.file)
				if i >= len(tail) || !strings.HasPrefix(tail[i], want) {
					t.Errorf("the last lines of standard error have no %q:\n%s", want, stderr)
				}
			}
		})
	}
	t.Run("a graph file that is not there", func(t *testing.T) {
		code, _, stderr := inProcess(t, "", "run", "--file", filepath.Join(t.TempDir(), "nowhere.yaml"))
		if code != 2 || !strings.Contains(stderr, "nowhere.yaml: no such file or directory") || strings.Count(stderr, "\n") != 1 {
			t.Errorf("exit status %d, standard error:\n%s", code, stderr)
		}
	})
}

func TestStandardInputIsReadOnce(t *testing.T) {
	s := newScene(t, "")
	text := strings.ReplaceAll(twoFiles, "DIR", s.host(""))
	code, _, stderr := inProcess(t, text, "run", "--file", "-", "--converged-timeout=0.1")
	if code != 0 || !s.has("f1", "i am f1\n") {
		t.Errorf("exit status %d, standard error:\n%s", code, stderr)
	}
	code, _, stderr = inProcess(t, "graph: [", "run", "--file", "-")
	if code != 2 || !strings.HasPrefix(stderr, "standard input:") {
		t.Errorf("a broken graph: exit status %d, standard error:\n%s", code, stderr)
	}
}

func TestRepairs(t *testing.T) {
	s := newScene(t, twoFiles)
	p := start(t, "run", "--file", s.file, "--log-level=debug")
	p.says("converged")
	for range 20 {
		if err := os.Remove(s.host("f1")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "f1 is back", func() bool { return s.has("f1", "i am f1\n") })
		if err := os.WriteFile(s.host("f2"), []byte("blah"), 0o644); err != nil {
			t.Fatal(err)
		}
		eventually(t, "f2 is right again", func() bool { return s.has("f2", "one\ntwo\nthree\n") })
	}
	p.settles()
	p.signal(os.Interrupt)
	p.exits(0, 5*time.Second)
	if n := strings.Count(p.stderr.String(), "INFO  converged"); n != 1 {
		t.Errorf("it says %d times that it has converged, want once", n)
	}
}

// print of the modification times and contents of all that is in a directory.
func fingerprint(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		b.WriteString(path + " " + info.Mode().String() + " " + info.ModTime().String())
		if info.Mode().IsRegular() {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			b.Write(text)
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const manyKinds = `
graph: noop
resources:
  file:
  - {name: DIR/new, state: exists, content: "a\nb\n"}
  - {name: DIR/wrong, content: "one\nTWO\nthree\n", mode: "0755"}
  - {name: DIR/unwanted, state: absent}
  - {name: DIR/dir/, state: exists}
  - {name: DIR/tree/, state: exists, recurse: true, purge: true}
  - {name: DIR/link, symlink: wrong}
  line:
  - {name: l, file: DIR/lines, state: exists, content: "four"}
  exec:
  - {name: x, cmd: "touch DIR/touched"}
  - {name: guarded, cmd: "touch DIR/touched", creates: DIR/touched}
  print:
  - {name: p, msg: hello}
  timer:
  - {name: t, interval: 1}
edges:
- file[DIR/new] ~> exec[x]
- exec[x] -> print[p]
`

func disturbed(t *testing.T, text string) *scene {
	t.Helper()
	s := newScene(t, text)
	for name, text := range map[string]string{"wrong": "one\ntwo\nthree\n", "unwanted": "x\n", "lines": "three\n"} {
		if err := os.WriteFile(s.host(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(s.host("tree/below"), 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNoopShowsTheDifferenceAndChangesNothing(t *testing.T) {
	s := disturbed(t, manyKinds)
	before := fingerprint(t, s.host(""))
	code, _, stderr := inProcess(t, "", "run", "--file", s.file, "--converged-timeout=0", "--noop")
	if code != 0 {
		t.Errorf("exit status %d", code)
	}
	if after := fingerprint(t, s.host("")); after != before {
		t.Errorf("something was changed:\n%swas\n%s", after, before)
	}
	for _, want := range []string{
		"would change  file[" + s.host("new") + "]",
		"would change  file[" + s.host("unwanted") + "]",
		"would change  line[l]",
		"would change  exec[x]",
		"\n one\n-two\n+TWO\n three\n",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("the log has no %q", want)
		}
	}
	if strings.Contains(stderr, "INFO  changed") {
		t.Error("the log says that something was changed")
	}
	if t.Failed() {
		t.Log(stderr)
	}
}

// changing are the system calls that change files, and not merely their descriptors.
const changing = "creat,open,openat,openat2,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat,symlink,symlinkat," +
	"mknod,mknodat,chmod,fchmod,fchmodat,chown,fchown,lchown,fchownat,truncate,ftruncate,utimensat,setxattr,lsetxattr,fsetxattr,execve"

func TestNoopUnderATracer(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("needs the program strace")
	}
	s := disturbed(t, manyKinds)
	trace := filepath.Join(s.dir, "trace")
	p := command(t, "run", "--file", s.file, "--converged-timeout=0", "--noop")
	p.cmd.Args = append([]string{"strace", "-f", "-qq", "-y", "-e", "trace=" + changing, "-o", trace}, append([]string{os.Args[0]}, p.cmd.Args[1:]...)...)
	p.cmd.Path, _ = exec.LookPath("strace")
	p.start().exits(0, patience)
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	for line := range strings.Lines(string(text)) {
		_, call, _ := strings.Cut(strings.TrimSpace(line), " ")
		call = strings.TrimSpace(call)
		reading := strings.HasPrefix(call, "open") && !strings.Contains(call, "O_WRONLY") && !strings.Contains(call, "O_RDWR") && !strings.Contains(call, "O_CREAT")
		first := strings.HasPrefix(call, "execve(") && strings.Contains(call, os.Args[0])
		other := strings.HasPrefix(call, "---") || strings.HasPrefix(call, "<...") || strings.HasPrefix(call, "+++")
		own := strings.Contains(call, `"/dev/null"`) || strings.Contains(call, "</memfd:") // memory that no one else sees
		calls++
		if !reading && !first && !other && !own {
			t.Errorf("under noop it calls %s", call)
		}
	}
	if calls < 10 {
		t.Errorf("the tracer has seen %d calls only:\n%s", calls, text)
	}
}

func TestRunBoundedInTime(t *testing.T) {
	t.Run("is a failure that says what was pending", func(t *testing.T) {
		s := newScene(t, `
graph: slow
resources:
  exec:
  - {name: a, cmd: sleep 1000}
  - {name: b, cmd: "true"}
  - {name: c, cmd: "false"}
  - {name: d, cmd: "true"}
edges:
- exec[a] -> exec[b]
- exec[c] -> exec[d]
`)
		p := start(t, "run", "--file", s.file, "--max-runtime=1", "--converged-timeout=0")
		p.exits(1, 5*time.Second)
		for _, want := range []string{
			"mgmt run: not converged within 1s (--max-runtime); still running: exec[a]; not begun: exec[b]",
			"\nexec[c]: ",
		} {
			if !strings.Contains(p.stderr.String(), want) {
				t.Errorf("standard error has no %q", want)
			}
		}
	})
	t.Run("is all right when all has converged", func(t *testing.T) {
		s := newScene(t, twoFiles)
		code, _, stderr := inProcess(t, "", "run", "--file", s.file, "--max-runtime=1")
		if code != 0 {
			t.Errorf("exit status %d:\n%s", code, stderr)
		}
	})
	t.Run("is a failure if resources have failed", func(t *testing.T) {
		s := newScene(t, "graph: g\nresources:\n  exec:\n  - {name: x, cmd: \"false\"}\n")
		code, _, stderr := inProcess(t, "", "run", "--file", s.file, "--max-runtime=1")
		if code != 1 || strings.Contains(stderr, "not converged") || !strings.Contains(stderr, "\nexec[x]: ") {
			t.Errorf("exit status %d:\n%s", code, stderr)
		}
	})
}

func TestEdits(t *testing.T) {
	s := newScene(t, twoFiles)
	p := start(t, "run", "--file", s.file, "--events", "json", "--log-level=debug")
	p.says("converged")

	s.save("graph: g\nresources:\n  fiel: []\n  noop:\n  - {nam: a}\n")
	p.says("unknown kind \"fiel\"")
	p.says("graph kept")
	if log := p.stderr.String(); !strings.Contains(log, "unknown parameter \"nam\"") && !strings.Contains(log, "nam") {
		t.Error("the log does not list all problems")
	}
	if err := os.Remove(s.host("f1")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the last good graph is in force", func() bool { return s.has("f1", "i am f1\n") })

	s.save(strings.Replace(twoFiles, "i am f1", "i am new", 1))
	eventually(t, "a good graph is put in force", func() bool { return s.has("f1", "i am new\n") })
	p.says("graph swapped")
	if !strings.Contains(p.stderr.String(), "changed=1  removed=0  kept=1") {
		t.Error("the log does not count what the swap did")
	}

	// What a touch would lead to comes before what the removal does, since the graph
	// file and the files are watched by the same source.
	now := time.Now()
	if err := os.Chtimes(s.file, now, now); err != nil {
		t.Fatal(err)
	}
	ends := strings.Count(p.stdout.String(), `"type":"end"`)
	if err := os.Remove(s.host("f2")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "f2 is back", func() bool { return s.has("f2", "one\ntwo\nthree\n") })
	eventually(t, "its end is in the stream", func() bool { return strings.Count(p.stdout.String(), `"type":"end"`) > ends })
	p.settles()
	p.signal(os.Interrupt)
	p.exits(0, 5*time.Second)

	types := map[string]int{}
	for _, e := range events(t, p.stdout.String()) {
		types[e.Type]++
	}
	if types["graph"] != 2 || types["rejected"] != 1 {
		t.Errorf("%d graphs were put in force and %d rejected, want 2 and 1", types["graph"], types["rejected"])
	}
}

func TestGraphIsDrawnAtEachSwap(t *testing.T) {
	s := newScene(t, "graph: first\nresources:\n  noop:\n  - name: a\n")
	picture := filepath.Join(s.dir, "graph.dot")
	if code, _, stderr := inProcess(t, "", "run", "--file", s.file, "--graphviz", picture, "--converged-timeout=0"); code != 0 {
		t.Fatal(code, stderr)
	}
	shows := func(text string) bool {
		got, err := os.ReadFile(picture)
		if err != nil {
			return false
		}
		if !strings.HasPrefix(string(got), "digraph") || !strings.HasSuffix(strings.TrimSpace(string(got)), "}") {
			t.Errorf("the drawing is not complete: %s", got)
		}
		return strings.Contains(string(got), text)
	}
	if !shows("noop[a]") {
		t.Error("it was not drawn before the end")
	}
	p := start(t, "run", "--file", s.file, "--graphviz", picture, "--log-level=debug")
	p.says("converged")
	s.save("graph: second\nresources:\n  noop:\n  - name: b\n")
	eventually(t, "the new graph is drawn", func() bool { return shows("noop[b]") })
	p.settles()
	p.signal(os.Interrupt)
	p.exits(0, 5*time.Second)
	if left, _ := filepath.Glob(picture + "*tmp"); len(left) > 0 {
		t.Errorf("it leaves %s behind", left)
	}
}

func TestGraphIsDrawnAsPicture(t *testing.T) {
	s := newScene(t, "graph: first\nresources:\n  noop:\n  - name: a\n")
	picture := filepath.Join(s.dir, "graph.svg")
	if _, err := exec.LookPath("dot"); err != nil {
		code, _, stderr := inProcess(t, "", "run", "--file", s.file, "--graphviz", picture)
		if code != 2 || !strings.Contains(stderr, "install graphviz") {
			t.Errorf("without dot: exit status %d:\n%s", code, stderr)
		}
		t.Skip("needs the program dot")
	}
	code, _, stderr := inProcess(t, "", "run", "--file", s.file, "--graphviz", picture, "--converged-timeout=0")
	text, err := os.ReadFile(picture)
	if code != 0 || err != nil || !strings.Contains(string(text), "</svg>") {
		t.Errorf("exit status %d, %v, %s\n%s", code, err, text, stderr)
	}
}

func TestEventStream(t *testing.T) {
	s := newScene(t, twoFiles+"  exec:\n  - {name: x, cmd: \"false\"}\n")
	code, stdout, stderr := inProcess(t, "", "run", "--file", s.file, "--converged-timeout=0", "--events=json", "--log-level=error")
	list := events(t, stdout)
	if first := list[0]; first.Stream != "mgmt-events" || first.Version != 1 {
		t.Errorf("the first line is %+v", first)
	}
	types := map[string]int{}
	for i, e := range list {
		if e.Seq != uint64(i+1) {
			t.Errorf("line %d has the number %d", i+1, e.Seq)
		}
		types[e.Type]++
	}
	// What mgmt itself has written makes it look again, if it is still there.
	if types["start"] < 3 || types["start"] != types["end"] || types["graph"] != 1 || types["converged"] != 1 || types["exit"] != 1 {
		t.Errorf("the lines are %v", types)
	}
	last := list[len(list)-1]
	if code != 1 || last.Type != "exit" || last.Code != 1 || last.Reason != "converged" || len(last.Failures) != 1 || !strings.HasPrefix(last.Failures[0], "exec[x]: ") {
		t.Errorf("exit status %d, and the last line is %+v", code, last)
	}
	if strings.Contains(stderr, "INFO") {
		t.Errorf("the log has more than errors:\n%s", stderr)
	}
	t.Run("a broken graph is in it", func(t *testing.T) {
		s := newScene(t, "graph: g\nresources:\n  fiel: []\n")
		code, stdout, _ := inProcess(t, "", "run", "--file", s.file, "--events=json")
		list := events(t, stdout)
		if code != 2 || len(list) != 3 || list[1].Type != "rejected" || len(list[1].Problems) != 1 || list[2].Reason != "graph" || list[2].Code != 2 {
			t.Errorf("exit status %d, %+v", code, list)
		}
	})
}

func TestMaxParallel(t *testing.T) {
	s := newScene(t, "graph: g\nresources:\n  exec:\n  - {name: a, cmd: sleep 0.5}\n  - {name: b, cmd: sleep 0.5}\n  - {name: c, cmd: sleep 0.5}\n")
	atOnce := func(args ...string) int {
		code, stdout, stderr := inProcess(t, "", append([]string{"run", "--file", s.file, "--converged-timeout=0", "--events=json"}, args...)...)
		if code != 0 {
			t.Fatal(code, stderr)
		}
		running, most := 0, 0
		for _, e := range events(t, stdout) {
			switch e.Type {
			case "start":
				running++
				most = max(most, running)
			case "end":
				running--
			}
		}
		return most
	}
	if n := atOnce("--max-parallel=1"); n != 1 {
		t.Errorf("with --max-parallel=1 there ran %d at once", n)
	}
	if n := atOnce(); n != 3 {
		t.Errorf("of three independent commands there ran %d at once", n)
	}
}

func TestLogFormats(t *testing.T) {
	s := newScene(t, twoFiles)
	_, _, stderr := inProcess(t, "", "run", "--file", s.file, "--converged-timeout=0", "--log-format=json", "--log-level=debug")
	for line := range strings.Lines(stderr) {
		if !strings.HasPrefix(line, `{"time":"`) || !strings.HasSuffix(line, "}\n") {
			t.Errorf("this is no JSON: %s", line)
		}
	}
	if !strings.Contains(stderr, `"level":"DEBUG"`) || !strings.Contains(stderr, `"msg":"changed","res":"file[`) {
		t.Errorf("the log is\n%s", stderr)
	}
	if strings.Contains(stderr, "\x1b") {
		t.Error("the log has colours")
	}
}
