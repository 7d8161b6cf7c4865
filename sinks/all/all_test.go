package all_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/all"
	"github.com/mgmtproject/mgmt/sinks/params"
)

// notKinds are the packages below sinks that hold something else.
var notKinds = []string{"accounts", "all", "params", "sinktest"}

// TestKinds holds every kind to the same shape: it is listed, sound, and has a
// conformance test and a runnable example.
func TestKinds(t *testing.T) {
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, e := range entries {
		if e.IsDir() && !slices.Contains(notKinds, e.Name()) {
			kinds = append(kinds, e.Name())
		}
	}
	for _, problem := range examine(all.Specs, "..", kinds) {
		t.Error(problem)
	}
}

// examine returns what is wrong with the kinds, whose packages are folders of root.
func examine(specs []sinks.Spec, root string, kinds []string) []string {
	var problems []string
	report := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if _, err := sinks.NewRegistry(specs...); err != nil {
		report("%v", err)
	}
	byKind := func(a, b sinks.Spec) int { return strings.Compare(a.Kind, b.Kind) }
	if !slices.IsSortedFunc(specs, byKind) {
		report("the kinds are not in alphabetical order")
	}
	for _, s := range specs {
		if !slices.Contains(kinds, s.Kind) {
			report("%s is listed, but there is no package sinks/%s", s.Kind, s.Kind)
		}
	}
	for _, kind := range kinds {
		i := slices.IndexFunc(specs, func(s sinks.Spec) bool { return s.Kind == kind })
		if i < 0 {
			report("sinks/%s is not listed in Specs", kind)
			continue
		}
		for file, want := range map[string]string{kind + "_test.go": "sinktest.Run(", "example_test.go": "// Output:"} {
			src, err := os.ReadFile(filepath.Join(root, kind, file))
			if err != nil || !bytes.Contains(src, []byte(want)) {
				report("sinks/%s/%s has no %s", kind, file, want)
			}
		}
		problems = append(problems, examineConfig(specs[i], filepath.Join(root, kind))...)
	}
	return problems
}

// examineConfig looks at the Config of a kind: a fresh one each time, whose defaults are
// what a graph file without parameters gives, and whose parameters are all documented.
func examineConfig(s sinks.Spec, dir string) []string {
	var problems []string
	report := func(format string, args ...any) {
		problems = append(problems, fmt.Sprintf("the kind %s: ", s.Kind)+fmt.Sprintf(format, args...))
	}
	if s.New == nil {
		return nil // the registry has said so
	}
	one, two := s.New(), s.New()
	if reflect.TypeOf(one).Kind() != reflect.Pointer || reflect.TypeOf(one).Elem().Kind() != reflect.Struct {
		report("New returns a %T, want a pointer to a struct", one)
		return problems
	}
	if reflect.ValueOf(one).Pointer() == reflect.ValueOf(two).Pointer() && reflect.TypeOf(one).Elem().Size() > 0 {
		report("New returns the same Config twice")
	}
	if err := params.DecodeMap(one, nil); err != nil || !reflect.DeepEqual(one, two) {
		report("decoding no parameters makes %+v of the defaults %+v (%v)", one, two, err)
	}
	documented := documentedFields(dir)
	config := reflect.TypeOf(one).Elem()
	for i := range config.NumField() {
		f := config.Field(i)
		if f.Tag.Get("param") != "" && !documented[f.Name] {
			report("the parameter %s has no doc comment", f.Tag.Get("param"))
		}
	}
	return problems
}

// documentedFields names the fields with a doc comment of the struct Config in dir.
func documentedFields(dir string) map[string]bool {
	fields := map[string]bool{}
	files, _ := filepath.Glob(filepath.Join(dir, "*.go"))
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || spec.Name.Name != "Config" {
				return true
			}
			s, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			for _, field := range s.Fields.List {
				for _, name := range field.Names {
					fields[name.Name] = field.Doc.Text() != ""
				}
			}
			return false
		})
	}
	return fields
}

// undocumented is the Config of a kind that has next to nothing.
type undocumented struct {
	Text string `param:"text"`
}

func (*undocumented) Build(string, sinks.Options) (sinks.Resource, error) { return nil, nil }

// TestExamine sees each of the guards above fail once.
func TestExamine(t *testing.T) {
	root := t.TempDir()
	bare := sinks.Spec{Kind: "bare", New: func() sinks.Config { return &undocumented{} }}
	once := &undocumented{}
	tests := []struct {
		name  string
		specs []sinks.Spec
		kinds []string
		want  string
	}{
		{"a kind that is not listed", nil, []string{"bare"}, "sinks/bare is not listed in Specs"},
		{"a kind without a package", []sinks.Spec{bare}, nil, "bare is listed, but there is no package sinks/bare"},
		{"a kind without a conformance test", []sinks.Spec{bare}, []string{"bare"}, "sinks/bare/bare_test.go has no sinktest.Run("},
		{"a kind without an example", []sinks.Spec{bare}, []string{"bare"}, "sinks/bare/example_test.go has no // Output:"},
		{"a parameter without a comment", []sinks.Spec{bare}, []string{"bare"}, "the kind bare: the parameter text has no doc comment"},
		{"a kind that is listed twice", []sinks.Spec{bare, bare}, []string{"bare"}, "kind bare is listed twice"},
		{"kinds out of order", []sinks.Spec{bare, {Kind: "almost", New: bare.New}}, nil, "the kinds are not in alphabetical order"},
		{"a Config that is shared", []sinks.Spec{{Kind: "bare", New: func() sinks.Config { return once }}}, []string{"bare"}, "the kind bare: New returns the same Config twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := examine(tt.specs, root, tt.kinds); !slices.Contains(got, tt.want) {
				t.Errorf("it says %q, want %q among them", got, tt.want)
			}
		})
	}
}
