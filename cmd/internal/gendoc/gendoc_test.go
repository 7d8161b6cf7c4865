package main

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mgmtproject/mgmt/cmd/internal/cli"
	"github.com/mgmtproject/mgmt/sinks/all"
)

func pages(t *testing.T) (root string, pages map[string][]byte) {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	if pages, err = Pages(root); err != nil {
		t.Fatal(err)
	}
	return root, pages
}

func TestEveryKindHasAPage(t *testing.T) {
	_, pages := pages(t)
	for _, spec := range all.Specs {
		page := string(pages["docs/reference/kinds/"+spec.Kind+".md"])
		for _, want := range []string{"# " + spec.Kind + "\n", "\n## Parameters\n", "| --- |", "```yaml\n", "resources:\n", "```go\n", ".Build("} {
			if !strings.Contains(page, want) {
				t.Errorf("the page of %s has no %q:\n%s", spec.Kind, want, page)
			}
		}
		if strings.Contains(page, "// Output:") {
			t.Errorf("the example of %s has the comment for go test", spec.Kind)
		}
	}
	if old := string(pages["docs/reference/kinds/exec.md"]); !strings.Contains(old, "of old files") {
		t.Error("the page of exec does not set its old parameters apart")
	}
	for kind, want := range map[string]string{
		"exec":     "\n## Outputs\n",
		"password": "| `password` | string | The password. It is secret. |",
		"print":    "No secret can be received here, since it is shown. |",
	} {
		if page := string(pages["docs/reference/kinds/"+kind+".md"]); !strings.Contains(page, want) {
			t.Errorf("the page of %s has no %q:\n%s", kind, want, page)
		}
	}
	if noop := string(pages["docs/reference/kinds/noop.md"]); strings.Contains(noop, "## Outputs") {
		t.Error("the page of noop has outputs")
	}
	if run := string(pages["docs/reference/cli/mgmt-run.md"]); !strings.Contains(run, "--converged-timeout") {
		t.Error("the page of mgmt run does not have its flags")
	}
	if meta := string(pages["docs/reference/meta-parameters.md"]); !strings.Contains(meta, "| `retry` | whole number | `0` | `retry` is how often") {
		t.Errorf("the page of the meta-parameters lacks retry:\n%s", meta)
	}
}

var link = regexp.MustCompile(`\]\(([^)#]+)`)

func TestLinksLeadSomewhere(t *testing.T) {
	root, pages := pages(t)
	for name, text := range pages {
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			to := filepath.Join(filepath.Dir(name), m[1])
			if _, err := os.Stat(filepath.Join(root, to)); err != nil && pages[to] == nil {
				t.Errorf("%s has a link to %s, which is not there", name, to)
			}
		}
	}
}

func TestExampleGraphsAreValid(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	graphs, err := filepath.Glob(filepath.Join(root, "examples", "kinds", "*.yaml"))
	if err != nil || len(graphs) < len(all.Specs) {
		t.Fatalf("%d graphs, %v", len(graphs), err)
	}
	var out strings.Builder
	if code := cli.Run(t.Context(), cli.Program{Out: &out, Err: &out}, append([]string{"validate"}, graphs...)); code != 0 {
		t.Error(out.String())
	}
}

func TestCheckFindsWhatIsOutOfDate(t *testing.T) {
	_, pages := pages(t)
	for _, c := range []struct {
		name string
		do   func(root string) error
		want string
	}{
		{"nothing", func(string) error { return nil }, ""},
		{"a page that was edited", func(root string) error {
			return os.WriteFile(filepath.Join(root, "docs/reference/kinds/file.md"), []byte("mine"), 0o644)
		}, `["docs/reference/kinds/file.md"]`},
		{"a page that is missing", func(root string) error {
			return os.Remove(filepath.Join(root, "docs/reference/cli/mgmt-run.md"))
		}, `["docs/reference/cli/mgmt-run.md"]`},
		{"a page of a kind that is gone", func(root string) error {
			return os.WriteFile(filepath.Join(root, "docs/reference/kinds/gone.md"), nil, 0o644)
		}, `["docs/reference/kinds/gone.md"]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			if err := Write(root, pages); err != nil {
				t.Fatal(err)
			}
			if err := c.do(root); err != nil {
				t.Fatal(err)
			}
			err := Check(root, pages)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.HasSuffix(err.Error(), c.want)):
				t.Errorf("got %v, want it to name %s", err, c.want)
			}
			if err := Write(root, pages); err != nil {
				t.Fatal(err)
			}
			if err := Check(root, pages); err != nil {
				t.Errorf("after it was written: %v", err)
			}
		})
	}
}

func TestParameterWithoutACommentIsRefused(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	src, err := sourceOf(root, all.Specs[0].New())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := src.fieldDoc("Nonsense"); err == nil || !strings.Contains(err.Error(), "the field Nonsense of Config has no comment") {
		t.Errorf("got %v", err)
	}
}

func TestPagesAreTheSameEachTime(t *testing.T) {
	_, one := pages(t)
	_, two := pages(t)
	if !maps.EqualFunc(one, two, func(a, b []byte) bool { return slices.Equal(a, b) }) {
		t.Error("two runs make different pages")
	}
}
