package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func right(b *bench) error {
	check, err := b.compile("check")
	if err != nil {
		return err
	}
	graph, dir, err := b.scene(files, true)
	if err != nil {
		return err
	}
	var ours, theirs sample
	for i := range b.rounds + 1 {
		a, err := b.timed(b.mgmt, "run", "--file", graph, "--converged-timeout", "0", "--log-level", "warn")
		if err != nil {
			return err
		}
		c, err := b.timed(check, dir, strconv.Itoa(files))
		if err != nil {
			return err
		}
		if i > 0 { // the first round warms the caches
			ours, theirs = append(ours, a), append(theirs, c)
		}
	}
	report("mgmt, 10,000 files that are right", ours)
	report("C, the same files", theirs)
	ratio("mgmt / C", ours, theirs)
	return nil
}

// create measures in memory, where the programs themselves count, and on the disk, which
// takes most of the time.
func create(b *bench) error {
	program, err := b.compile("create")
	if err != nil {
		return err
	}
	for _, base := range []string{"/dev/shm", b.scratch} {
		dir, err := os.MkdirTemp(base, "create")
		if err != nil {
			return err
		}
		where, rounds := "tmpfs", b.rounds
		if base == b.scratch {
			where, rounds = "disk", (b.rounds+1)/2
		}
		err = createIn(b, program, dir, where, rounds)
		if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
			return err
		}
	}
	return nil
}

func createIn(b *bench, program, scratch, where string, rounds int) error {
	graph, dir := filepath.Join(scratch, "graph.yaml"), filepath.Join(scratch, "files")
	if err := writeGraph(graph, dir, files); err != nil {
		return err
	}
	var ours, theirs sample
	for i := range rounds + 1 {
		for _, side := range []struct {
			into *sample
			args []string
		}{
			{&ours, []string{b.mgmt, "run", "--file", graph, "--converged-timeout", "0", "--log-level", "warn"}},
			{&theirs, []string{program, dir, strconv.Itoa(files)}},
		} {
			if err := os.Mkdir(dir, 0o755); err != nil {
				return err
			}
			took, err := b.timed(side.args[0], side.args[1:]...)
			if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
				return err
			}
			if i > 0 {
				*side.into = append(*side.into, took)
			}
		}
	}
	report("mgmt, 10,000 files to create, "+where, ours)
	report("C, the same files, "+where, theirs)
	ratio("mgmt / C", ours, theirs)
	return nil
}

func layers(b *bench) error {
	const depth, width, fanIn = 20, 50, 10
	graph, dir := filepath.Join(b.scratch, "graph.yaml"), filepath.Join(b.scratch, "files")
	var g strings.Builder
	g.WriteString("graph: layers\nresources:\n  file:\n")
	name := func(layer, i int) string { return fmt.Sprintf("%s/l%02d-%02d", dir, layer, i) }
	for l := range depth {
		for i := range width {
			fmt.Fprintf(&g, "  - {name: %s, state: exists, content: \"layer %d\\n\"}\n", name(l, i), l)
		}
	}
	g.WriteString("edges:\n")
	for l := 1; l < depth; l++ {
		for i := range width {
			for k := range fanIn {
				fmt.Fprintf(&g, "- file[%s] -> file[%s]\n", name(l-1, (i+k)%width), name(l, i))
			}
		}
	}
	if err := os.WriteFile(graph, []byte(g.String()), 0o644); err != nil {
		return err
	}
	var made, checked sample
	for range b.rounds {
		if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
			return err
		}
		for _, s := range []*sample{&made, &checked} {
			took, err := b.timed(b.mgmt, "run", "--file", graph, "--converged-timeout", "0", "--log-level", "warn")
			if err != nil {
				return err
			}
			*s = append(*s, took)
		}
	}
	report("mgmt, 1,000 files in layers, created", made)
	report("mgmt, the same, checked", checked)

	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		return err
	}
	p, err := b.start("--file", graph, "--converged-timeout", "200ms", "--events", "json", "--log-level", "warn")
	if err != nil {
		return err
	}
	runs, changes := 0, 0
	for l, err := range p.events() {
		if err != nil {
			return err
		}
		if l.Type == "end" {
			runs++
			if l.Changed == true {
				changes++
			}
		}
	}
	fmt.Printf("%-40s %d CheckApplys, %d changes, %d vertices\n", "mgmt, runs while creating them", runs, changes, depth*width)
	return p.cmd.Wait()
}

// line is what the measures read of the event stream.
type line struct {
	Type    string    `json:"type"`
	Time    time.Time `json:"time"`
	Changed any       `json:"changed"` // true in an end line, a number in a graph line
}

// process is a running mgmt.
type process struct {
	cmd    *exec.Cmd
	stdout io.Reader
	began  time.Time
}

func (b *bench) start(args ...string) (*process, error) {
	cmd := exec.CommandContext(b.ctx, b.mgmt, append([]string{"run"}, args...)...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, stdout: stdout, began: time.Now()}
	return p, cmd.Start()
}

// events yields the lines of the event stream until the process closes it.
func (p *process) events() func(func(line, error) bool) {
	return func(yield func(line, error) bool) {
		s := bufio.NewScanner(p.stdout)
		s.Buffer(nil, 1<<20)
		for s.Scan() {
			var l line
			if err := json.Unmarshal(s.Bytes(), &l); !yield(l, err) {
				return
			}
		}
	}
}

// converge waits for the first converged line, and leaves the rest to be discarded.
func (p *process) converge() error {
	for l, err := range p.events() {
		if err != nil {
			return err
		}
		if l.Type == "converged" {
			return nil
		}
	}
	return errors.New("the process ended before it had converged")
}

func start(b *bench) error {
	graph := filepath.Join(b.scratch, "graph.yaml")
	if err := os.WriteFile(graph, []byte("graph: one\nresources:\n  noop:\n  - name: one\n"), 0o644); err != nil {
		return err
	}
	var first, bare sample
	var rss []int
	for range b.rounds * 3 {
		p, err := b.start("--file", graph, "--events", "json", "--log-level", "warn")
		if err != nil {
			return err
		}
		for l, err := range p.events() {
			if err != nil {
				return err
			}
			if l.Type == "start" {
				first = append(first, l.Time.Sub(p.began))
				break
			}
		}
		time.Sleep(300 * time.Millisecond)
		kb, err := memory(p.cmd.Process.Pid)
		if err != nil {
			return err
		}
		rss = append(rss, kb)
		if err := p.end(); err != nil {
			return err
		}
		took, err := b.timed("true")
		if err != nil {
			return err
		}
		bare = append(bare, took)
	}
	report("mgmt, start to first CheckApply", first)
	report("true(1), start to exit", bare)
	most := 0
	for _, kb := range rss {
		most = max(most, kb)
	}
	fmt.Printf("%-40s %.1f MB at most\n", "mgmt, idle RSS", float64(most)/1024)
	return nil
}

// end sends SIGTERM and waits for the end.
func (p *process) end() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, p.stdout)
	return p.cmd.Wait()
}

func memory(pid int) (kb int, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for l := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(l, "VmRSS:"); ok {
			return strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return 0, errors.New("the process has no VmRSS")
}

func chain(b *bench) error {
	graph := filepath.Join(b.scratch, "graph.yaml")
	text := "graph: chain\nresources:\n  exec:\n"
	for i := range 4 {
		text += fmt.Sprintf("  - {name: exec%d, cmd: sleep 1s}\n", i+1)
	}
	text += "edges:\n- exec[exec1] -> exec[exec2] -> exec[exec3]\n"
	if err := os.WriteFile(graph, []byte(text), 0o644); err != nil {
		return err
	}
	var ours, theirs sample
	for range max(3, b.rounds/2) {
		a, err := b.timed(b.mgmt, "run", "--file", graph, "--converged-timeout", "500ms", "--log-level", "warn")
		if err != nil {
			return err
		}
		c, err := b.timed("sh", "-c", "sleep 1s; sleep 1s; sleep 1s; sleep 0.5s")
		if err != nil {
			return err
		}
		ours, theirs = append(ours, a-3500*time.Millisecond), append(theirs, c-3500*time.Millisecond)
	}
	report("mgmt, beyond the 3.5 s of sleep", ours)
	report("sh, the same four sleeps in a row", theirs)
	return nil
}

// cpu is the time that all threads of the process have run.
func cpu(pid int) (time.Duration, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	var total time.Duration
	for _, t := range tasks {
		data, err := os.ReadFile(t)
		if err != nil {
			return 0, err
		}
		ns, err := strconv.ParseInt(strings.Fields(string(data))[0], 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(ns)
	}
	return total, err
}

func idle(b *bench) error {
	graph, _, err := b.scene(files, true)
	if err != nil {
		return err
	}
	p, err := b.start("--file", graph, "--events", "json", "--log-level", "warn")
	if err != nil {
		return err
	}
	if err := p.converge(); err != nil {
		return err
	}
	time.Sleep(2 * time.Second) // the garbage collector's last round after the load
	before, err := cpu(p.cmd.Process.Pid)
	if err != nil {
		return err
	}
	runs := make(chan int)
	go func() {
		n := 0
		for l, err := range p.events() {
			if err == nil && l.Type == "start" {
				n++
			}
		}
		runs <- n
	}()
	time.Sleep(60 * time.Second)
	after, err := cpu(p.cmd.Process.Pid)
	if err != nil {
		return err
	}
	kb, err := memory(p.cmd.Process.Pid)
	if err != nil {
		return err
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	fmt.Printf("%-40s %v of CPU in 60 s, %d CheckApplys, RSS %.1f MB\n", "mgmt, converged, 10,000 files", rounded(after-before), <-runs, float64(kb)/1024)
	return p.cmd.Wait()
}

func stop(b *bench) error {
	graph, _, err := b.scene(files, true)
	if err != nil {
		return err
	}
	var s sample
	for range b.rounds {
		p, err := b.start("--file", graph, "--events", "json", "--log-level", "warn")
		if err != nil {
			return err
		}
		if err := p.converge(); err != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
		began := time.Now()
		if err := p.end(); err != nil {
			return err
		}
		s = append(s, time.Since(began))
	}
	report("mgmt, SIGTERM to exit, 10,000 files", s)
	return nil
}
