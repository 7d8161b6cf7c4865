// Package examples_test holds what the pages of this repository say against what the
// program does: commands are run, graph files are loaded, Go code is looked up.
package examples_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/all"
	"github.com/mgmtproject/mgmt/sinks/params"
)

// pages are those that are written by hand and hold examples.
var pages = []string{"README.md", "docs/README.md", "docs/graph-file.md", "docs/composing.md"}

// root is the top of the repository.
const root = ".."

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// block is a fenced block of a page.
type block struct {
	lang string
	line int // of its first line in the page
	text string
}

func blocks(page string) []block {
	var list []block
	var open *block
	n := 0
	for line := range strings.Lines(page) {
		n++
		lang, fence := strings.CutPrefix(strings.TrimRight(line, "\n"), "```")
		switch {
		case fence && open == nil:
			open = &block{lang: lang, line: n + 1}
		case fence:
			list = append(list, *open)
			open = nil
		case open != nil:
			open.text += line
		}
	}
	return list
}

// TestGraphFiles loads each graph file that a page shows. A block of text that follows
// lists all that is wrong with it, or all that is to be noted of one that is right.
func TestGraphFiles(t *testing.T) {
	reg, err := sinks.NewRegistry(all.Specs...)
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		list := blocks(read(t, page))
		for i, b := range list {
			if b.lang != "yaml" {
				continue
			}
			want := ""
			if i+1 < len(list) && list[i+1].lang == "text" && strings.HasPrefix(list[i+1].text, "graph.yaml:") {
				want = list[i+1].text
			}
			g, err := pipeline.Load("graph.yaml", []byte(b.text), reg)
			if err == nil {
				err = g.Compile(sinks.Options{})
			}
			got := ""
			if err != nil {
				got = err.Error() + "\n"
			} else {
				for _, n := range g.Notes {
					got += pipeline.Problem{File: g.File, Pos: n.Pos, Message: "note: " + n.Text}.Error() + "\n"
				}
			}
			if got != want {
				t.Errorf("%s:%d: loading this graph file says\n%s\nbut the page says\n%s", page, b.line, got, want)
			}
		}
	}
}

// TestGoCode finds each piece of Go code of a page in a file that is compiled and tested.
func TestGoCode(t *testing.T) {
	var code []string
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") {
			text, err := os.ReadFile(path)
			code = append(code, flat(string(text)))
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		for _, b := range blocks(read(t, page)) {
			piece := flat(b.text)
			if b.lang == "go" && !slices.ContainsFunc(code, func(file string) bool { return strings.Contains(file, piece) }) {
				t.Errorf("%s:%d: no Go file holds this code:\n%s", page, b.line, b.text)
			}
		}
	}
}

// flat is code without indentation, blank lines and what follows them.
func flat(code string) string {
	var b strings.Builder
	for line := range strings.Lines(code) {
		if line = strings.TrimSpace(line); line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

var (
	link   = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	fenced = regexp.MustCompile("(?ms)^```.*?^```$")
)

// TestLinks follows the links from page to page.
func TestLinks(t *testing.T) {
	more, err := filepath.Glob(filepath.Join(root, "docs/*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(more, filepath.Join(root, "README.md")) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(fenced.ReplaceAllString(string(text), ""), -1) {
			target := filepath.Join(filepath.Dir(page), m[1])
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", page, m[1])
				continue
			}
			if m[2] != "" && !slices.Contains(anchors(t, target), m[2]) {
				t.Errorf("%s: %s has no heading %s", page, m[1], m[2])
			}
		}
	}
}

// anchors lists the headings of a page as links name them.
func anchors(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			heading := strings.ToLower(strings.TrimSpace(strings.TrimLeft(line, "#")))
			list = append(list, "#"+strings.Map(func(r rune) rune {
				switch {
				case r == ' ':
					return '-'
				case r == '-' || r == '_' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
					return r
				}
				return -1
			}, heading))
		}
	}
	return list
}

// TestTables finds every kind and every meta-parameter in the table that lists them.
func TestTables(t *testing.T) {
	readme := read(t, "README.md")
	for _, spec := range all.Specs {
		if row := fmt.Sprintf("| [`%s`](docs/reference/kinds/%[1]s.md) |", spec.Kind); !strings.Contains(readme, row) {
			t.Errorf("README.md has no row %s", row)
		}
	}
	page := read(t, "docs/graph-file.md")
	for _, f := range params.FieldsOf(new(pipeline.DefaultMeta())) {
		if row := fmt.Sprintf("\n| `%s` | ", f.Name); strings.Count(page, row) != 1 {
			t.Errorf("docs/graph-file.md has no row, or several, of the meta-parameter %s", f.Name)
		}
	}
}

// TestSessions runs the commands of the console blocks of each page, one after the other
// in one shell, and compares what is printed. They work in /tmp/tour.
func TestSessions(t *testing.T) {
	program := filepath.Join(t.TempDir(), "mgmt")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, "github.com/mgmtproject/mgmt/cmd/mgmt").CombinedOutput(); err != nil {
		t.Fatalf("building mgmt: %v\n%s", err, out)
	}
	for _, page := range pages {
		t.Run(page, func(t *testing.T) {
			var sh *shell
			for _, b := range blocks(read(t, page)) {
				if b.lang != "console" {
					continue
				}
				if sh == nil {
					sh = newShell(t, filepath.Dir(program))
				}
				for _, s := range steps(b) {
					if got := sh.run(s); got != neutral(s.output) {
						t.Fatalf("%s:%d: %s prints\n%s\nbut the page says\n%s", page, s.line, s.command, got, s.output)
					}
				}
			}
		})
	}
}

// step is a command of a session and what it prints.
type step struct {
	line            int
	command, output string
}

func steps(b block) []step {
	var list []step
	end := "" // of a here-document
	for i, line := range strings.Split(strings.TrimRight(b.text, "\n"), "\n") {
		command, begins := strings.CutPrefix(line, "$ ")
		switch last := len(list) - 1; {
		case end != "":
			list[last].command += line + "\n"
			if line == end {
				end = ""
			}
		case begins:
			list = append(list, step{line: b.line + i, command: command + "\n"})
			if _, word, here := strings.Cut(command, "<<'"); here {
				end, _, _ = strings.Cut(word, "'")
			}
		default:
			list[last].output += line + "\n"
		}
	}
	return list
}

var (
	clock    = regexp.MustCompile(`\d\d:\d\d:\d\d\.\d{3} `)
	duration = regexp.MustCompile(`after=[0-9.]+[µmn]?s`)
	stamp    = regexp.MustCompile(`"(time|seq|duration_ms)":("[^"]*"|[0-9.]+)`)
)

// neutral is output without what differs from run to run.
func neutral(output string) string {
	output = clock.ReplaceAllString(output, "TIME ")
	output = duration.ReplaceAllString(output, "after=TIME")
	return stamp.ReplaceAllString(output, `"$1":TIME`)
}

// shell is a bash that works in a directory in place of /tmp/tour.
type shell struct {
	t     *testing.T
	dir   string
	in    io.Writer
	lines chan string
	n     int // of steps
}

const tour = "/tmp/tour"

func newShell(t *testing.T, path string) *shell {
	t.Helper()
	cmd := exec.Command("bash")
	cmd.Env = append(os.Environ(), "PATH="+path+":"+os.Getenv("PATH"), "MGMT_PREFIX="+t.TempDir())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &shell{t: t, dir: t.TempDir(), in: in, lines: make(chan string, 1000)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			s.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		fmt.Fprintln(in, "kill $(jobs -p) 2>/dev/null; wait; exit 0")
		_ = in.Close()
		<-read
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// run returns what is printed until the command has ended and there are as many lines as
// are expected: what a program in the background prints may come later.
func (s *shell) run(step step) string {
	s.t.Helper()
	s.n++
	mark := fmt.Sprintf("end of step %d", s.n)
	fmt.Fprintf(s.in, "%s\necho %s\n", strings.ReplaceAll(step.command, tour, s.dir), mark)
	var got []string
	late := time.After(10 * time.Second)
	for ended := false; !ended || len(got) < strings.Count(step.output, "\n"); {
		select {
		case line := <-s.lines:
			if line == mark {
				ended = true
				continue
			}
			got = append(got, strings.ReplaceAll(line, s.dir, tour))
		case <-late:
			got = append(got, "(and nothing more within ten seconds)")
			return neutral(strings.Join(got, "\n") + "\n")
		}
	}
	if len(got) == 0 {
		return ""
	}
	return neutral(strings.Join(got, "\n") + "\n")
}
