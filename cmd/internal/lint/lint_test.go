package lint_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/mgmtproject/mgmt"

// root is the top of the repository, seen from this package.
const root = "../../.."

// A tree holds the files of a repository by slash-separated path from its top.
type tree map[string]string

// paths lists the files in order, those for which keep is true.
func (t tree) paths(keep func(path string) bool) []string {
	var ps []string
	for p := range t {
		if keep(p) {
			ps = append(ps, p)
		}
	}
	slices.Sort(ps)
	return ps
}

func isGo(path string) bool   { return strings.HasSuffix(path, ".go") }
func isTest(path string) bool { return strings.HasSuffix(path, "_test.go") }
func isCode(path string) bool { return isGo(path) && !isTest(path) }

// repository reads the whole repository, without what .gitignore names: build output
// and the failures that rapid keeps.
var repository = func() tree {
	t := tree{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		switch {
		case d.IsDir() && (rel == ".git" || rel == "bin" || rel == "dist" || strings.HasSuffix(rel, "testdata/rapid")):
			return fs.SkipDir
		case !d.Type().IsRegular(), rel == "mgmt", isIgnored(rel):
			return nil
		}
		b, err := os.ReadFile(path)
		t[rel] = string(b)
		return err
	})
	if err != nil {
		panic(fmt.Sprintf("reading the repository: %v", err))
	}
	return t
}()

func isIgnored(path string) bool {
	return slices.Contains([]string{".test", ".prof", ".out"}, filepath.Ext(path))
}

// rules are what holds for the files of this repository.
var rules = []struct {
	name  string
	check func(tree) []string
}{
	{"only known entries lie at the top", topLevel},
	{"no file speaks of the place where it was written", workplace},
	{"nothing is left for later", leftForLater},
	{"no package has a name that says nothing", emptyNames},
	{"every package says what it is", packageComments},
	{"no code sleeps", sleeps},
	{"no code uses the broken parts of RxGo", brokenRxGo},
	{"every public package has an example", examples},
}

func TestRules(t *testing.T) {
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			for _, problem := range r.check(repository) {
				t.Error(problem)
			}
		})
	}
}

// Each rule finds what it is for, and nothing else.
func TestRulesFindWhatTheyAreFor(t *testing.T) {
	tests := []struct {
		name  string
		check func(tree) []string
		files tree
		want  []string // a part of each problem, in order
	}{
		{"a stranger at the top", topLevel, tree{"README.md": "", "streams/a.go": "", ".ci/run": "", "scripts/x": "", "notes.md": ""}, []string{"notes.md", "scripts"}},
		{"a path of the workplace", workplace, tree{"a.md": "see /wo" + "rk/main", "b.go": "// ../sha" + "red/design.md", "c.md": "GOPROXY=https://pro" + "xy.golang.org", "d.md": "shared state, the network/shared folder"}, []string{"a.md:1", "b.go:1", "c.md:1"}},
		{"a task left for later", leftForLater, tree{"a.go": "package a\n\n// TO" + "DO: more", "b.md": "FIX" + "ME", "c.md": "toDo"}, []string{"a.go:3", "b.md:1"}},
		{"a package called util", emptyNames, tree{"streams/util/a.go": "package util", "cmd/x/a.go": "package types", "b/a.go": "package b"}, []string{"cmd/x/a.go", "streams/util/a.go"}},
		{"a package without a comment", packageComments, tree{"a/a.go": "package a", "b/doc.go": "// Package b is fine.\npackage b", "b/b.go": "package b", "c/c.go": "//go:build linux\n\npackage c", "d/d.go": "// Something.\npackage d", "e/main.go": "// Command e is fine.\npackage main"}, []string{"a has", "c has", "d should begin"}},
		{"code that sleeps", sleeps, tree{"a.go": "package a\nimport \"time\"\nfunc f() { time.Sleep(1) }", "b.go": "package b\nimport clock \"time\"\nvar f = clock.Sleep", "a_test.go": "package a\nimport \"time\"\nfunc f() { time.Sleep(1) }", "c.go": "package c\nimport \"context\"\nvar x = context.Background"}, []string{"a.go:3", "b.go:3"}},
		{
			"calls of the broken parts of RxGo", brokenRxGo,
			tree{
				"a.go":                  "package a\nimport \"github.com/reactivex/rxgo/v2\"\nvar x = rxgo.Create(nil)",
				"b.go":                  "package b\nimport r \"github.com/reactivex/rxgo/v2\"\nvar x = r.Range(1, 2)",
				"c_test.go":             "package c\nimport \"" + module + "/streams\"\nvar x = streams.Of(1).Rx(0).Debounce(nil)",
				"d.go":                  "package d\nimport (\n\"" + module + "/operators\"\n\"" + module + "/streams\")\nvar x = operators.Debounce(streams.Of(1), 1)",
				"e.go":                  "package e\nimport . \"github.com/reactivex/rxgo/v2\"\nvar x = Just(1)",
				"f.go":                  "package f\nvar x = list.ForEach(nil)",
				"g.go":                  "package g\nimport \"github.com/reactivex/rxgo/v2\"\nvar f = rxgo.Just(1)().WindowWithCount",
				"streams/traps_test.go": "package s\nimport \"github.com/reactivex/rxgo/v2\"\nvar x = rxgo.Create(nil)",
			},
			[]string{"a.go:3: rxgo.Create", "b.go:3: rxgo.Range", "c_test.go:3: rxgo's Debounce", "e.go:2", "g.go:3: rxgo's WindowWithCount"},
		},
		{
			"a public package without an example", examples,
			tree{
				"streams/a.go": "package streams\nfunc New() {}", "streams/a_test.go": "package streams_test\nfunc ExampleNew() {}",
				"operators/a.go": "package operators\nfunc New() {}", "operators/a_test.go": "package operators_test\nfunc TestNew() {}",
				"sources/tick/a.go": "package tick\nfunc new() {}",
				"cmd/mgmt/a.go":     "package main\nfunc New() {}",
			},
			[]string{"operators has"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.check(tt.files)
			if len(got) != len(tt.want) {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
			for i := range got {
				if !strings.Contains(got[i], tt.want[i]) {
					t.Errorf("got %q, want something with %q", got[i], tt.want[i])
				}
			}
		})
	}
}
