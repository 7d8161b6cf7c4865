package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

const explained = `graph: site
resources:
  file:
  - {name: /DIR/d/, state: exists}
  - name: /DIR/d/motd
    content: |
      be nice
    meta: {retry: 3, delay: 250ms}
  exec:
  - {name: count, cmd: "wc -c /DIR/d/motd", subscribe: "file[/DIR/d/motd]"}
edges:
- {name: first, from: {kind: exec, name: count}, to: {kind: print, name: end}}
- exec[count] ~> print[beside]
`

// site writes the graph of explained and returns its path, and the directory in it.
func site(t *testing.T) (graph, dir string) {
	dir = t.TempDir()
	text := strings.ReplaceAll(explained, "/DIR", dir)
	return write(t, "graph.yaml", strings.Replace(text, "edges:", "  print:\n  - {name: end}\n  - {name: beside}\nedges:", 1)), dir
}

func TestAskingUsage(t *testing.T) {
	graph, _ := site(t)
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"no resource to explain", []string{"explain"}, 2, "which resource? Name a graph file and one of its resources"},
		{"a graph file alone", []string{"explain", graph}, 2, "which resource of " + graph + "? Name it, as in 'file[/etc/motd]'"},
		{"two resources", []string{"explain", graph, "a", "b"}, 2, `unexpected argument "b"`},
		{"a graph file twice", []string{"explain", graph, "a", "--file", graph}, 2, "there is no need of --file and --socket"},
		{"a resource that the file does not have", []string{"explain", graph, "exec[cuont]"}, 1, graph + ": there is no resource exec[cuont] in the graph; did you mean exec[count]?"},
		{"a file that is not there", []string{"explain", "/proc/nowhere.yaml", "exec[count]"}, 2, "open /proc/nowhere.yaml: no such file or directory"},
		{"a file with a mistake", []string{"explain", write(t, "bad.yaml", "graph: g\nresources:\n  fiel: []\n"), "x"}, 2, `did you mean "file"?`},
		{"no run to explain with", []string{"explain", "exec[count]", "--prefix", t.TempDir()}, 1, "no run is under way below "},
		{"a bare name that is also that of a file", []string{"explain", "/etc/passwd", "--prefix", t.TempDir()}, 1, "no run is under way below "},
		{"no run to tap", []string{"tap", "--prefix", t.TempDir()}, 1, "mgmt tap: no run is under way below "},
		{"two resources to tap", []string{"tap", "a", "b"}, 2, `unexpected argument "b"; name one resource, or none for all`},
		{"a limit that is none", []string{"tap", "--limit=few"}, 2, `--limit: "few" is not a number of 0 or more`},
		{"no run at all", []string{"status", "--prefix", t.TempDir()}, 1, "start one with mgmt run --file FILE"},
		{"no run of a file", []string{"status", "--prefix", t.TempDir(), "--file", graph}, 1, "no run is keeping " + graph + " below "},
		{"nobody at a socket", []string{"status", "--socket", "/proc/nowhere"}, 1, "mgmt status: no run answers at /proc/nowhere"},
		{"a run that is given twice", []string{"status", "--socket", "/proc/nowhere", "--file", graph}, 2, "there is no need of --file and --prefix"},
		{"a status of something", []string{"status", "x"}, 2, `unexpected argument "x"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := mgmt(t, "", c.args...)
			out.expect(t, c.code, c.want)
			if out.stdout != "" {
				t.Errorf("standard output is not empty: %s", out.stdout)
			}
		})
	}
}

func TestAskingCompletion(t *testing.T) {
	graph, dir := site(t)
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"files to explain", []string{"explain", ""}, "yaml\nyml\njson\n:8"},
		{"resources of the file", []string{"explain", graph, ""}, "file[" + dir + "/d/motd]\n"},
		{"nothing after that", []string{"explain", graph, "x", ""}, ":4"},
		{"resources of a file with mistakes", []string{"explain", write(t, "bad.yaml", "graph: ["), ""}, ":4"},
		{"resources without a run", []string{"tap", ""}, ":4"},
		{"no files for a number", []string{"tap", "--limit", ""}, ":4"},
		{"the file of a run", []string{"status", "--file", ""}, "yaml\nyml\njson\n:8"},
		{"the prefix", []string{"status", "--prefix", ""}, ":16"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := mgmt(t, "", append([]string{cobra.ShellCompRequestCmd}, c.args...)...)
			if !strings.Contains(out.stdout, c.want) {
				t.Errorf("got %q, want %q in it", out.stdout, c.want)
			}
		})
	}
}

func TestExplainFile(t *testing.T) {
	graph, dir := site(t)
	out := mgmt(t, "", "explain", graph, "file["+dir+"/d/motd]")
	out.expect(t, 0)
	for _, want := range []string{
		"file[" + dir + "/d/motd]  (" + graph + ":5)\n",
		"\nparameters\n", `"be nice\n"`, "  not given ", "\nmeta-parameters\n  retry  3\n  delay  250ms\n",
		"\ncomes after 1 resource\n  file[" + dir + "/d/]  automatic: which holds it\n",
		"\ncomes before 1 resource, and through them 2 more\n  exec[count]  declared in line 10; notifies\n",
		"\nwatches\n  inotify  " + dir + "/d/motd\n",
		"\nplan\n  ",
	} {
		if !strings.Contains(out.stdout, want) {
			t.Errorf("there is no %q", want)
		}
	}
	if t.Failed() {
		t.Log(out.stdout)
	}
	if _, err := os.Stat(filepath.Join(dir, "d")); !os.IsNotExist(err) {
		t.Error("something was made")
	}
	out = mgmt(t, "", "explain", graph, "exec[count]", "--json")
	out.expect(t, 0)
	var x struct {
		Version  int
		Resource string
		After    []struct{ Resource string }
		Before   []struct {
			Resource, Name string
			Notify         bool
		}
		Plan struct{ State string }
		Now  *struct{}
	}
	if err := json.Unmarshal([]byte(out.stdout), &x); err != nil {
		t.Fatal(err)
	}
	if x.Version != 1 || x.Resource != "exec[count]" || len(x.After) != 1 || len(x.Before) != 2 || x.Before[0].Name != "first" || !x.Before[1].Notify || x.Plan.State == "" || x.Now != nil {
		t.Errorf("got %+v of %s", x, out.stdout)
	}
}
