package lint_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// mayImport says which packages of this module a folder may import, besides its own
// sub-packages: the architecture in a few lines. The longest folder that a package is
// in counts; "x" is package x alone, "x/..." is also what lies below it.
var mayImport = map[string]string{
	"streams":        "",
	"operators":      "streams",
	"sources":        "streams operators sources",
	"sources/all":    "sources/...",
	"sinks":          "streams operators sources/... sinks/...",
	"pipeline":       "streams operators sources sources/mesh sinks sinks/params",
	"pipeline/state": "pipeline", // it keeps what pipeline defines
	"pipeline/peer":  "streams operators sources sources/mesh/... pipeline/peer/...",
	"cmd":            "streams operators sources/... sinks sinks/all sinks/params pipeline/... cmd/internal/...",
	"examples":       "streams operators sources/... sinks/... pipeline/...",

	// What is mounted over a directory hides what is watched in it.
	"sources/inotify": "streams operators sources sources/mounts/table",
	// The graph file is watched as any file is.
	"sources/graphfile": "streams operators sources sources/inotify",
	// Who keeps the store of a mesh, and who reaches it, implement what it is.
	"sources/mesh": "streams operators sources sources/mesh/...",
	// They measure parts of the program by themselves.
	"cmd/internal/swarm":   "streams operators sources/... sinks/... pipeline/...",
	"cmd/internal/figures": "streams operators sources/... sinks/... pipeline/...",
}

// onlyIn says where a module of others may be imported: what it brings stays behind
// the packages that are there to wrap it.
var onlyIn = map[string]string{
	"github.com/reactivex/rxgo/v2": "streams sources/graphfile examples", // inside a Via
	"github.com/spf13/cobra":       "cmd",
	"github.com/fsnotify/fsnotify": "sources/inotify",

	"github.com/vishvananda/netlink":    "sources/netlink sinks/net",
	"github.com/vishvananda/netlink/nl": "sources/netlink sinks/net",
	"github.com/moby/sys/mountinfo":     "sources/mounts sinks/mount",
	"testing":                           "sinks/sinktest sources/mesh/meshtest",
}

// imports is a package with what its code imports, its tests left out.
type imports struct {
	ImportPath string
	Imports    []string
}

func layers(packages []imports) []string {
	var problems []string
	for _, p := range packages {
		from := inModule(p.ImportPath)
		folder := longest(from)
		if folder == "" {
			problems = append(problems, fmt.Sprintf("%s is in no folder that the table knows", from))
			continue
		}
		for _, i := range p.Imports {
			to := inModule(i)
			switch {
			case to == "":
				if where, ok := onlyIn[i]; ok && !matches(where, from, true) {
					problems = append(problems, fmt.Sprintf("%s imports %s, which is for %s only", from, i, where))
				}
			case !strings.HasPrefix(to, from+"/") && !matches(mayImport[folder], to, false):
				problems = append(problems, fmt.Sprintf("%s imports %s, but %s may import %q only", from, to, folder, mayImport[folder]))
			}
		}
	}
	return problems
}

// inModule is a package's folder in this module, or "" if it is not from here.
func inModule(path string) string {
	rest, ok := strings.CutPrefix(path, module+"/")
	if !ok {
		return ""
	}
	return rest
}

// longest is the longest key of mayImport that pkg is, or is below.
func longest(pkg string) string {
	best := ""
	for folder := range mayImport {
		if (pkg == folder || strings.HasPrefix(pkg, folder+"/")) && len(folder) > len(best) {
			best = folder
		}
	}
	return best
}

// matches tells whether one of the patterns is for pkg; with below, "x" stands for
// "x/..." too.
func matches(patterns, pkg string, below bool) bool {
	return slices.ContainsFunc(strings.Fields(patterns), func(p string) bool {
		base, dots := strings.CutSuffix(p, "/...")
		return pkg == base || (dots || below) && strings.HasPrefix(pkg, base+"/")
	})
}

func TestLayers(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var packages []imports
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p imports
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	if len(packages) < 5 {
		t.Fatalf("go list found only %d packages", len(packages))
	}
	for _, problem := range layers(packages) {
		t.Error(problem)
	}
}

func TestLayersFindsWhatItIsFor(t *testing.T) {
	for _, tt := range []struct {
		name     string
		from, to string
		want     string // a part of the problem, or nothing
	}{
		{"upwards", "streams", module + "/operators", "streams may import"},
		{"sideways to another source", "sources/timer", module + "/sources/inotify", "sources may import"},
		{"the contract of its own folder", "sources/timer", module + "/sources", ""},
		{"the list of all sources", "sources/all", module + "/sources/inotify", ""},
		{"a kind to the watches of a source", "sinks/file", module + "/sources/inotify", ""},
		{"a kind to the pipeline", "sinks/file", module + "/pipeline", "sinks may import"},
		{"the pipeline to the contract", "pipeline", module + "/sinks", ""},
		{"the pipeline to one kind", "pipeline", module + "/sinks/file", "pipeline may import"},
		{"the pipeline to one source", "pipeline", module + "/sources/inotify", "pipeline may import"},
		{"the pipeline to all kinds", "pipeline/mesh", module + "/sinks/all", "pipeline may import"},
		{"the pipeline to a part of its own", "pipeline", module + "/pipeline/mesh", ""},
		{"the program to all kinds", "cmd/mgmt", module + "/sinks/all", ""},
		{"the program to one kind", "cmd/mgmt", module + "/sinks/file", "cmd may import"},
		{"a part of the program to another", "cmd/internal/cli", module + "/cmd/internal/console", ""},
		{"the watch of the graph file", "sources/graphfile", module + "/sources/inotify", ""},
		{"an example to the program", "examples/pipelines/monitor", module + "/cmd/internal/lint", "examples may import"},
		{"RxGo in streams", "streams", rxgoPath, ""},
		{"RxGo in an example", "examples/pipelines/merge", rxgoPath, ""},
		{"RxGo elsewhere", "pipeline", rxgoPath, "is for streams sources/graphfile examples only"},
		{"a package at an unknown place", "tools/x", "fmt", "no folder"},
		{"the standard library", "streams", "fmt", ""},
		{"testing in the program", "sinks/file", "testing", "is for sinks/sinktest sources/mesh/meshtest only"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := layers([]imports{{module + "/" + tt.from, []string{tt.to}}})
			if tt.want == "" && len(got) == 0 {
				return
			}
			if len(got) != 1 || !strings.Contains(got[0], tt.want) || tt.want == "" {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
