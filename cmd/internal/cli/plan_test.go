package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPlanExitStatus(t *testing.T) {
	dir := t.TempDir()
	there := filepath.Join(dir, "there")
	if err := os.WriteFile(there, []byte("hello\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const begin = "graph: g\nresources:\n"
	file := func(name, rest string) string {
		return "  file:\n  - {name: " + filepath.Join(dir, name) + ", " + rest + "}\n"
	}
	for _, c := range []struct {
		name, graph string
		args        []string
		code        int
		out         string // of standard output, or of standard error if that is empty
	}{
		{"nothing is to be done", begin + file("there", `content: "hello\n"`), nil, 0, "1 right\n"},
		{"a file is to be made", begin + file("new", `content: "hello\n"`), nil, 2, "1 to change, 0 right\n"},
		{"a command is to be run", begin + "  exec:\n  - name: touch " + filepath.Join(dir, "touched") + "\n", nil, 2, "1 to run, 0 right\n"},
		{"what is only reported is no change", begin + file("new", `content: "hello\n", meta: {noop: true}`), nil, 0, "1 noop, 0 right\n"},
		{"a resource would fail", begin + file("there/below", `content: x`), nil, 1, "1 failed, 0 right\n"},
		{"the graph file has a mistake", "graph: g\nresources:\n  fiel: []\n", nil, 1, `did you mean "file"?`},
		{"the graph file is not there", "", nil, 1, "no such file or directory"},
		{"a flag is misspelt", begin, []string{"--jsno"}, 1, "did you mean --json?"},
		{"two graphs are given", begin, []string{"other.yaml"}, 1, "one graph is planned at a time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, "nowhere.yaml")
			if c.graph != "" {
				path = write(t, "graph.yaml", c.graph)
			}
			out := mgmt(t, "", append([]string{"plan", path}, c.args...)...)
			if out.code != c.code || !strings.HasSuffix(out.stdout, c.out) && !strings.Contains(out.stderr, c.out) {
				t.Errorf("exit status %d, want %d; standard output:\n%sstandard error:\n%s", out.code, c.code, out.stdout, out.stderr)
			}
			if (out.stdout == "") == (out.stderr == "") {
				t.Errorf("there is something on both or none: %q, %q", out.stdout, out.stderr)
			}
			left, err := os.ReadDir(dir)
			if err != nil || len(left) != 1 {
				t.Errorf("something was made: %v, %v", left, err)
			}
		})
	}
	if out := mgmt(t, begin+file("new", `content: "hello\n"`), "plan", "-"); out.code != 2 {
		t.Errorf("a graph on standard input: %+v", out)
	}
	if out := mgmt(t, "", "plan"); out.code != 1 || !strings.Contains(out.stderr, "which graph file?") {
		t.Errorf("without a graph: %+v", out)
	}
}

func TestPlanJSON(t *testing.T) {
	dir := t.TempDir()
	graph := write(t, "graph.yaml", `
graph: site
resources:
  file:
  - {name: `+dir+`/a, content: "x\n", mode: "0600", notify: "exec[b]"}
  - {name: `+dir+`/copy, source: `+dir+`/a, require: "file[`+dir+`/a]"}
  exec:
  - {name: b, cmd: echo it, creates: /etc/passwd, require: "file[`+dir+`/copy]"}
  line:
  - {name: c, file: `+dir+`/a/b/c, content: x}
  noop:
  - {name: d, require: "line[c]"}
  - {name: e}
`)
	out := mgmt(t, "", "plan", graph, "--json")
	var got struct {
		Plan, File, Graph string
		Version           int
		Steps             []struct {
			Resource, State, By, Error string
			Notified                   bool
			Changes                    []struct{ Field, From, To string }
			After                      []string
		}
		Totals map[string]int
	}
	if err := json.Unmarshal([]byte(out.stdout), &got); err != nil {
		t.Fatal(err, out)
	}
	if got.Plan != "mgmt-plan" || got.Version != 1 || got.File != graph || got.Graph != "site" {
		t.Errorf("got %+v", got)
	}
	states := map[string]string{}
	for _, s := range got.Steps {
		states[strings.ReplaceAll(s.Resource, dir, "")] = s.State
		switch s.Resource {
		case "file[" + dir + "/a]":
			if len(s.Changes) == 0 || s.Changes[0].Field != "state" || s.Changes[0].To != "exists" {
				t.Errorf("got the changes %+v", s.Changes)
			}
		case "file[" + dir + "/copy]":
			if len(s.After) != 1 || s.After[0] != "file["+dir+"/a]" || !strings.Contains(s.Error, "no such file") {
				t.Errorf("got %+v", s)
			}
		case "exec[b]":
			if !s.Notified {
				t.Errorf("got %+v", s)
			}
		}
	}
	want := map[string]string{"file[/a]": "change", "file[/copy]": "after", "exec[b]": "run", "line[c]": "change", "noop[d]": "right", "noop[e]": "right"}
	for name, state := range want {
		if states[name] != state {
			t.Errorf("%s is %q, want %q", name, states[name], state)
		}
	}
	if got.Totals["change"] != 2 || got.Totals["right"] != 2 || got.Totals["failed"] != 0 || len(got.Totals) != 9 {
		t.Errorf("got the totals %v", got.Totals)
	}
	if out.code != 2 {
		t.Errorf("the exit status is %d", out.code)
	}
}

func TestPlanHidesSecrets(t *testing.T) {
	dir := t.TempDir()
	const secret = "Tr0ub4dor+3x"
	if err := os.WriteFile(filepath.Join(dir, "password"), []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "made"), []byte("something else\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	graph := write(t, "graph.yaml", strings.ReplaceAll(`
graph: site
resources:
  password:
  - {name: p, length: 12, saved: true, path: $DIR/password}
  file:
  - {name: $DIR/made, mode: "0644", content: {from: "password[p]", output: password}}
  exec:
  - {name: says, env: {PASS: {from: "password[p]", output: password}}}
  http_client:
  - {name: $DIR/fails, url: "http://127.0.0.1:1/", sha256: {from: "password[p]", output: password}}
  line:
  - {name: l, file: $DIR/made, content: {from: "password[p]", output: password}}
`, "$DIR", dir))
	for _, args := range [][]string{{"plan", graph}, {"plan", graph, "--json"}} {
		out := mgmt(t, "", args...)
		if !strings.Contains(out.stdout, "exec[says]") || strings.Count(out.stdout, "(secret)") < 4 {
			t.Errorf("%q: exit status %d:\n%s%s", args, out.code, out.stdout, out.stderr)
		}
		if strings.Contains(out.stdout+out.stderr, secret) {
			t.Errorf("%q shows the secret:\n%s%s", args, out.stdout, out.stderr)
		}
	}
}
