// The figures command measures the program as a whole, beside the least that any program
// could do for the same work, and prints medians and ratios: make bench calls it. Each
// measure interleaves the two, since the speed of a machine drifts.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A measure prints figures about the program at bench.mgmt.
type measure struct {
	name string
	what string
	run  func(b *bench) error
}

var measures = []measure{
	{"repair", "a change of one of 10,000 watched files to its repair, against a bare inotify loop", repair},
	{"right", "10,000 files that are right, whole process, against a C program that compares them", right},
	{"create", "10,000 files to create, whole process, against a C program that writes and renames them", create},
	{"layers", "20 layers of 50 files, each after ten of the layer above, created and checked", layers},
	{"start", "start of the process to the first CheckApply, and its memory when idle", start},
	{"chain", "execs of a second, three in a chain: what the engine adds", chain},
	{"idle", "CPU and CheckApplys of a converged host of 10,000 files over 60 seconds", idle},
	{"mesh", "three hosts on one machine that exchange files, each with a peer", exchange},
	{"stop", "SIGTERM to exit with 10,000 files under watch", stop},
}

// bench is what a measure works with.
type bench struct {
	ctx     context.Context
	mgmt    string // the program
	scratch string // an empty directory of its own
	rounds  int
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	mgmt := flag.String("mgmt", "bin/mgmt", "the program to measure")
	rounds := flag.Int("rounds", 11, "how often each process is run; the median is quoted")
	base := flag.String("dir", "", "where scratch directories are made (default: the system's)")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: figures [flags] [measure ...]")
		flag.PrintDefaults()
		for _, m := range measures {
			fmt.Fprintf(os.Stderr, "  %-8s %s\n", m.name, m.what)
		}
	}
	flag.Parse()
	program, err := filepath.Abs(*mgmt)
	if err != nil {
		return err
	}
	for _, m := range measures {
		if flag.NArg() > 0 && !slices.Contains(flag.Args(), m.name) {
			continue
		}
		dir, err := os.MkdirTemp(*base, "figures")
		if err != nil {
			return err
		}
		if err := os.Setenv("MGMT_PREFIX", filepath.Join(dir, "prefix")); err != nil {
			return err
		}
		fmt.Printf("# %s: %s\n", m.name, m.what)
		err = m.run(&bench{ctx: ctx, mgmt: program, scratch: dir, rounds: *rounds})
		if rm := os.RemoveAll(dir); err == nil {
			err = rm
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

// sample is a set of durations of one thing.
type sample []time.Duration

func (s sample) at(percent int) time.Duration {
	sorted := slices.Sorted(slices.Values(s))
	return sorted[min(len(sorted)-1, len(sorted)*percent/100)]
}

func (s sample) String() string {
	return fmt.Sprintf("p50 %-10v p99 %-10v min %-10v max %v", rounded(s.at(50)), rounded(s.at(99)), rounded(s.at(0)), rounded(s.at(100)))
}

func rounded(d time.Duration) time.Duration {
	switch {
	case d > time.Second:
		return d.Round(time.Millisecond)
	case d > time.Millisecond:
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(100 * time.Nanosecond)
}

func report(name string, s sample) { fmt.Printf("%-40s %v\n", name, s) }

func ratio(name string, a, b sample) {
	fmt.Printf("%-40s %.2f (ratio of the medians)\n", name, float64(a.at(50))/float64(b.at(50)))
}

// timed runs a command to its end and returns how long that took.
func (b *bench) timed(name string, args ...string) (time.Duration, error) {
	cmd := exec.CommandContext(b.ctx, name, args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	err := cmd.Run()
	took := time.Since(began)
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out.String())
	}
	return took, err
}

// compile builds a program of baseline/ into the scratch directory.
func (b *bench) compile(name string) (string, error) {
	program := filepath.Join(b.scratch, name)
	_, err := b.timed("cc", "-O2", "-o", program, filepath.Join("cmd", "internal", "figures", "baseline", name+".c"))
	return program, err
}

func content(i int) string {
	return fmt.Sprintf("file %05d\nis managed, and has a second line of text\n", i)
}

// writeGraph describes n files in dir.
func writeGraph(file, dir string, n int) error {
	var g strings.Builder
	fmt.Fprintf(&g, "graph: files\nresources:\n  file:\n")
	for i := range n {
		fmt.Fprintf(&g, "  - name: %s/f%05d\n    state: exists\n    content: |\n", dir, i)
		for line := range strings.Lines(content(i)) {
			fmt.Fprintf(&g, "      %s", line)
		}
	}
	return os.WriteFile(file, []byte(g.String()), 0o644)
}

const files = 10_000

// scene lays out a graph of n files; with made, the files are there already.
func (b *bench) scene(n int, made bool) (graph, dir string, err error) {
	graph, dir = filepath.Join(b.scratch, "graph.yaml"), filepath.Join(b.scratch, "files")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", "", err
	}
	for i := range n {
		if made {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%05d", i)), []byte(content(i)), 0o644); err != nil {
				return "", "", err
			}
		}
	}
	return graph, dir, writeGraph(graph, dir, n)
}
