package cli_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/cli"
)

func TestUsageErrors(t *testing.T) {
	graph := write(t, "graph.yaml", "graph: empty\n")
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"no command", nil, "mgmt COMMAND"},
		{"a command that does not exist", []string{"rnu"}, `mgmt: unknown command "rnu"; did you mean "run"?`},
		{"a command unlike any", []string{"frobnicate"}, `mgmt: unknown command "frobnicate"; there are run, plan, explain, status, tap, validate, graph, mesh, version, completion`},
		{"help about a command that does not exist", []string{"help", "vaildate"}, `mgmt help: unknown command "vaildate"; did you mean "validate"?`},
		{"a misspelt flag", []string{"run", "--flie", "x"}, "mgmt run: unknown flag --flie; did you mean --file?\nTry 'mgmt run --help'."},
		{"a flag unlike any", []string{"run", "--xyzzy"}, "mgmt run: unknown flag --xyzzy\n"},
		{"a short flag that does not exist", []string{"run", "-x"}, "mgmt run: unknown flag -x\n"},
		{"a flag of another command", []string{"validate", "--noop", graph}, "mgmt validate: unknown flag --noop\n"},
		{"a flag without its value", []string{"run", "--file"}, "mgmt run: --file needs a value"},
		{"no graph file", []string{"run"}, "which graph? Give it with --file FILE"},
		{"the graph file as an argument", []string{"run", "g.yaml"}, `unexpected argument "g.yaml"; a graph file is given with --file g.yaml`},
		{"a time that is none", []string{"run", "--file", graph, "--converged-timeout=soon"}, `--converged-timeout: "soon" is not a duration; give seconds, such as 5, or a number with a unit, such as 250ms or 2m`},
		{"a negative time", []string{"run", "--file", graph, "--max-runtime=-1"}, `--max-runtime: "-1" is negative; give 0 or more`},
		{"a time beyond all bounds", []string{"run", "--file", graph, "--resync=1e30"}, `--resync: "1e30" is too long a time`},
		{"no time to run", []string{"run", "--file", graph, "--max-runtime=0"}, "--max-runtime: 0 leaves no time for anything"},
		{"a negative number", []string{"run", "--file", graph, "--max-parallel=-1"}, `--max-parallel: "-1" is not a number of 0 or more`},
		{"a word that is not among those allowed", []string{"run", "--file", graph, "--log-level=inof"}, `--log-level: "inof" is not one of debug, info, warn, error; did you mean "info"?`},
		{"an event format that is not known", []string{"run", "--file", graph, "--events=xml"}, `--events: "xml" is not one of json`},
		{"a picture in a directory that is not there", []string{"run", "--file", graph, "--graphviz", "/proc/nowhere/g.dot"}, "--graphviz: there is no directory /proc/nowhere"},
		{"a picture over a device", []string{"run", "--file", graph, "--graphviz", "/dev/null"}, "--graphviz: /dev/null is not a regular file"},
		{"two prefixes", []string{"run", "--file", graph, "--prefix", "x", "--tmp-prefix"}, "mgmt run: --prefix and --tmp-prefix: give one of them\n"},
		{"a prefix without a name", []string{"run", "--file", graph, "--prefix="}, "mgmt run: --prefix: give a directory\n"},
		{"nothing to validate", []string{"validate"}, "which graph file? Name at least one"},
		{"nothing to draw", []string{"graph"}, "which graph file? Name one"},
		{"two to draw", []string{"graph", "a", "b"}, `unexpected argument "b"; one graph is drawn at a time`},
		{"a version of something", []string{"version", "x"}, `mgmt version: unexpected argument "x"`},
		{"no shell", []string{"completion"}, "name one shell: bash, zsh, fish"},
		{"a shell that is not supported", []string{"completion", "fihs"}, `"fihs" is not one of bash, zsh, fish; did you mean "fish"?`},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := mgmt(t, "", c.args...)
			out.expect(t, 2, c.want)
			if out.stdout != "" {
				t.Errorf("standard output is not empty: %s", out.stdout)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{}, {"run"}, {"plan"}, {"explain"}, {"status"}, {"tap"}, {"validate"}, {"graph"}, {"version"}, {"completion"}} {
		name := strings.Join(append([]string{"mgmt"}, args...), "-")
		t.Run(name, func(t *testing.T) {
			out := mgmt(t, "", append(args, "--help")...)
			out.expect(t, 0)
			golden := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(out.stdout), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if out.stdout != string(want) {
				t.Errorf("the help has changed; if it is meant to, run the test with -update. It is now:\n%s", out.stdout)
			}
			for line := range strings.Lines(out.stdout) {
				if len(line) > 101 {
					t.Errorf("a line has %d characters, too many for a narrow terminal: %s", len(line)-1, line)
				}
			}
			if same := mgmt(t, "", append([]string{"help"}, args...)...); same.stdout != out.stdout {
				t.Errorf("mgmt help %s prints something else:\n%s", strings.Join(args, " "), same.stdout)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	out := mgmt(t, "", "version")
	out.expect(t, 0)
	if !strings.HasPrefix(out.stdout, "mgmt v1.2.3\ngo1.") {
		t.Errorf("got %s", out.stdout)
	}
	if flag := mgmt(t, "", "--version"); flag != out {
		t.Errorf("mgmt --version says %+v, and mgmt version %+v", flag, out)
	}
	var unknown bytes.Buffer
	if code := cli.Run(t.Context(), cli.Program{Out: &unknown, Err: &unknown}, []string{"version"}); code != 0 || !strings.HasPrefix(unknown.String(), "mgmt development") {
		t.Errorf("without a version of the linker: %d, %s", code, unknown.String())
	}
}

func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			out := mgmt(t, "", "completion", shell)
			out.expect(t, 0)
			if !strings.Contains(out.stdout, "mgmt") || len(out.stdout) < 1000 {
				t.Fatalf("this is no script: %s", out.stdout)
			}
			if _, err := exec.LookPath(shell); err != nil {
				t.Skipf("needs the program %s to check the script", shell)
			}
			check := exec.CommandContext(t.Context(), shell, "-n", write(t, "script", out.stdout))
			if complaint, err := check.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, complaint)
			}
		})
	}
}

func TestCompletion(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want string // a part of what the shell is told
	}{
		{"commands", []string{""}, "validate\t"},
		{"flags", []string{"run", "--con"}, "--converged-timeout\t"},
		{"values of a flag", []string{"run", "--log-level", ""}, "debug\ninfo\nwarn\nerror\n:4"},
		{"another's values", []string{"run", "--events", ""}, "json\n:4"},
		{"no files for a time", []string{"run", "--resync", ""}, ":4"},
		{"files for --file", []string{"run", "--file", ""}, "yaml\nyml\njson\n:8"},
		{"pictures for --graphviz", []string{"run", "--graphviz", ""}, "dot\nsvg\n:8"},
		{"directories for --prefix", []string{"run", "--prefix", ""}, ":16\n"},
		{"files to validate", []string{"validate", ""}, "yaml\nyml\njson\n:8"},
		{"files to draw", []string{"graph", ""}, "yaml\nyml\njson\n:8"},
		{"formats to draw", []string{"graph", "--format", ""}, "dot\nsvg\n:4"},
		{"shells", []string{"completion", ""}, "bash\nzsh\nfish\n:4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := mgmt(t, "", append([]string{cobra.ShellCompRequestCmd}, c.args...)...)
			if !strings.Contains(out.stdout, c.want) {
				t.Errorf("got %q, want %q in it", out.stdout, c.want)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	good := write(t, "good.yaml", "graph: g\nresources:\n  noop:\n  - name: a\n  - name: b\nedges:\n- noop[a] -> noop[b]\n")
	bad := write(t, "bad.yaml", "graph: g\nresources:\n  fiel:\n  - name: a\n  noop:\n  - {name: b, comment: [x]}\n  - {name: b}\n")
	worse := write(t, "worse.yaml", "graph: [\n")

	out := mgmt(t, "", "validate", good)
	out.expect(t, 0)
	if want := good + ": ok, 2 resources, 1 edge\n"; out.stdout != want || out.stderr != "" {
		t.Errorf("got %q and %q, want %q", out.stdout, out.stderr, want)
	}

	out = mgmt(t, "", "validate", bad, good, worse, "/proc/nowhere.yaml")
	out.expect(t, 2, bad+`:3:3: unknown kind "fiel"`, `did you mean "file"?`, bad+":7:", worse+":", "open /proc/nowhere.yaml: no such file or directory")
	if out.stdout != good+": ok, 2 resources, 1 edge\n" {
		t.Errorf("standard output is %q", out.stdout)
	}

	out = mgmt(t, "graph: g\nresources:\n  noop:\n  - name: a\n", "validate", "-")
	out.expect(t, 0)
	if out.stdout != "-: ok, 1 resource, 0 edges\n" {
		t.Errorf("standard output is %q", out.stdout)
	}
	mgmt(t, "graph: [", "validate", "-").expect(t, 2, "standard input:")
}

// The file b is declared to come before the directory that holds it.
const otherWayRound = `graph: g
resources:
  file:
  - {name: /srv/d/, state: exists}
  - {name: /srv/d/a, state: exists}
  - {name: /srv/d/b, state: exists, before: "file[/srv/d/]"}
`

func TestAutomaticEdges(t *testing.T) {
	const note = "standard input:6:5: note: file[/srv/d/b] is not automatically after file[/srv/d/], which holds it: file[/srv/d/b] -> file[/srv/d/] is declared\n"
	out := mgmt(t, otherWayRound, "validate", "-")
	out.expect(t, 0)
	if want := "-: ok, 3 resources, 2 edges, 1 of them automatic\n"; out.stdout != want || out.stderr != note {
		t.Errorf("got %q and %q, want %q and %q", out.stdout, out.stderr, want, note)
	}
	out = mgmt(t, otherWayRound, "graph", "-")
	out.expect(t, 0)
	if !strings.Contains(out.stdout, `style="dashed",tooltip="after file[/srv/d/], which holds it"`) || out.stderr != note {
		t.Errorf("got %q and %q, want a dashed arrow, and %q", out.stdout, out.stderr, note)
	}

	only := strings.Replace(otherWayRound, `, before: "file[/srv/d/]"`, "", 1)
	out = mgmt(t, only, "validate", "-")
	out.expect(t, 0)
	if want := "-: ok, 3 resources, 2 edges, automatic\n"; out.stdout != want || out.stderr != "" {
		t.Errorf("got %q and %q, want %q", out.stdout, out.stderr, want)
	}

	var many strings.Builder
	many.WriteString("graph: g\nresources:\n  file:\n  - {name: /srv/d/, state: exists}\n")
	for i := range 60 {
		fmt.Fprintf(&many, "  - {name: /srv/d/%d, state: exists, before: \"file[/srv/d/]\"}\n", i)
	}
	out = mgmt(t, many.String(), "validate", "-")
	out.expect(t, 0)
	if n := strings.Count(out.stderr, "\n"); n != 51 || !strings.HasSuffix(out.stderr, "\nand 10 more\n") {
		t.Errorf("%d lines on standard error, want 50 and the rest:\n%s", n, out.stderr)
	}
}

func TestGraph(t *testing.T) {
	const text = "graph: g\nresources:\n  noop:\n  - name: a\n  - name: b\nedges:\n- noop[a] ~> noop[b]\n"
	out := mgmt(t, text, "graph", "-")
	out.expect(t, 0)
	for _, want := range []string{"digraph", "noop[a]", "noop[b]", "->"} {
		if !strings.Contains(out.stdout, want) {
			t.Errorf("the drawing has no %s:\n%s", want, out.stdout)
		}
	}
	mgmt(t, "graph: [", "graph", "-").expect(t, 2, "standard input:")
	mgmt(t, "", "graph", "/proc/nowhere.yaml").expect(t, 2, "mgmt graph: open /proc/nowhere.yaml: no such file or directory")

	t.Run("as a picture", func(t *testing.T) {
		if _, err := exec.LookPath("dot"); err != nil {
			t.Setenv("PATH", t.TempDir())
			mgmt(t, text, "graph", "-", "--format", "svg").expect(t, 1, "install graphviz")
			t.Skip("needs the program dot")
		}
		out := mgmt(t, text, "graph", "-", "--format", "svg")
		out.expect(t, 0)
		if !strings.Contains(out.stdout, "<svg") {
			t.Errorf("this is no picture: %s", out.stdout)
		}
	})
}

// explosive panics when it is read.
type explosive struct{}

func (explosive) Read([]byte) (int, error) { panic("the sky is falling") }

func TestPanicIsReportedWithoutItsStack(t *testing.T) {
	var stderr bytes.Buffer
	code := cli.Run(t.Context(), cli.Program{In: explosive{}, Out: &stderr, Err: &stderr}, []string{"validate", "-"})
	output{code: code, stderr: stderr.String()}.expect(t, 70, "mgmt: internal error: the sky is falling; please report it\n")
}

func TestRunLeavesNothingRunning(t *testing.T) { // as goleak will see
	graph := write(t, "graph.yaml", "graph: g\nresources:\n  exec:\n  - {name: a, cmd: sleep 100, meta: {poll: 1}}\n  - {name: b, cmd: \"false\"}\n")
	picture := filepath.Join(filepath.Dir(graph), "graph.dot")
	mgmt(t, "", "run", "--file", graph, "--max-runtime=0.2", "--events=json", "--graphviz", picture).expect(t, 1, "not converged within 200ms")
	mgmt(t, "graph: g\n", "run", "--file", "-", "--converged-timeout=0").expect(t, 0)
	mgmt(t, "graph: [\n", "run", "--file", "-", "--events=json").expect(t, 2)
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestOutputThatCanNotBeWritten(t *testing.T) {
	graph := write(t, "graph.yaml", "graph: empty\n")
	for _, args := range [][]string{{"validate", graph}, {"graph", graph}, {"version"}, {"completion", "bash"}} {
		var stderr bytes.Buffer
		code := cli.Run(t.Context(), cli.Program{Out: full{}, Err: &stderr}, args)
		output{code: code, stderr: stderr.String()}.expect(t, 1, "mgmt "+args[0]+": ", "no space left")
	}
}
