package lint_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

const rxgoPath = "github.com/reactivex/rxgo/v2"

// parsed is a Go file with the names under which it imports packages.
type parsed struct {
	*ast.File
	fset    *token.FileSet
	imports map[string]string // path by name
}

// parse panics at a file that does not compile, which other tests tell better.
func parse(name, src string) parsed {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		panic(err)
	}
	p := parsed{f, fset, map[string]string{}}
	for _, spec := range f.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value)
		name := path.Base(imported)
		if imported == rxgoPath {
			name = "rxgo"
		}
		if spec.Name != nil {
			name = spec.Name.Name
		}
		p.imports[name] = imported
	}
	return p
}

func (p parsed) imported(path string) bool {
	for _, i := range p.imports {
		if i == path {
			return true
		}
	}
	return false
}

// at is where n stands, as compilers write it.
func (p parsed) at(n ast.Node) string {
	pos := p.fset.Position(n.Pos())
	return fmt.Sprintf("%s:%d", pos.Filename, pos.Line)
}

// selectors calls f for each x.Name in the file. Pkg is the path of the package if x is
// one.
func (p parsed) selectors(f func(n ast.Node, pkg, name string)) {
	ast.Inspect(p.File, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			pkg := ""
			if x, ok := s.X.(*ast.Ident); ok {
				pkg = p.imports[x.Name]
			}
			f(s.Sel, pkg, s.Sel.Name)
		}
		return true
	})
}

var meaningless = []string{"util", "utils", "common", "helper", "helpers", "types", "misc", "base", "shared"}

func emptyNames(files tree) []string {
	var problems []string
	for _, p := range files.paths(isGo) {
		name := strings.TrimSuffix(parse(p, files[p]).Name.Name, "_test")
		if slices.Contains(meaningless, name) || slices.Contains(meaningless, path.Base(path.Dir(p))) {
			problems = append(problems, fmt.Sprintf("%s: the package name says nothing about what is in it", p))
		}
	}
	return problems
}

func packageComments(files tree) []string {
	comment := map[string]string{} // by folder
	name := map[string]string{}
	for _, p := range files.paths(isCode) {
		f := parse(p, files[p])
		dir := path.Dir(p)
		name[dir] = f.Name.Name
		comment[dir] += f.Doc.Text()
	}
	var problems []string
	for _, p := range files.paths(isCode) {
		dir := path.Dir(p)
		begins := []string{"Package " + name[dir] + " "}
		if name[dir] == "main" {
			name := path.Base(dir)
			begins = []string{"Command " + name + " ", "The " + name + " command ", "The " + name + " program "}
		}
		var problem string
		switch {
		case comment[dir] == "":
			problem = fmt.Sprintf("%s has no package comment", dir)
		case !slices.ContainsFunc(begins, func(b string) bool { return strings.HasPrefix(comment[dir], b) }):
			problem = fmt.Sprintf("the package comment of %s should begin with %q", dir, begins[0])
		default:
			continue
		}
		if !slices.Contains(problems, problem) {
			problems = append(problems, problem)
		}
	}
	return problems
}

// maySleep gives the folders that have a reason to sleep, with the reason.
var maySleep = map[string]string{
	"cmd/internal/figures":    "it measures another process from outside",
	"sources/command/process": "nothing tells when the last process of a group ends, or when a program is no longer busy",
}

func sleeps(files tree) []string {
	var problems []string
	for _, p := range files.paths(isCode) {
		f := parse(p, files[p])
		f.selectors(func(n ast.Node, pkg, name string) {
			if pkg == "time" && name == "Sleep" && maySleep[path.Dir(p)] == "" {
				problems = append(problems, fmt.Sprintf("%s: time.Sleep can't be cancelled: wait for a timer or a context", f.at(n)))
			}
		})
	}
	return problems
}

// The parts of RxGo v2.5.0 that are left alone, and what stands in for them. Package
// streams shows what is wrong with each, in traps_test.go.
var (
	brokenFunctions = map[string]string{
		"Create":          "streams.New",
		"FromEventSource": "operators.Share",
		"Range":           "streams.New",
	}
	brokenMethods = map[string]string{
		"Debounce":              "operators.Debounce",
		"BackOffRetry":          "operators.Retry",
		"ForEach":               "Subscribe, or a range over Seq",
		"WindowWithCount":       "BufferWithCount",
		"BufferWithTimeOrCount": "BufferWithTime",
	}
)

// brokenRxGo knows a method by its name, in files that deal in Observables.
func brokenRxGo(files tree) []string {
	var problems []string
	for _, p := range files.paths(isGo) {
		f := parse(p, files[p])
		if p == "streams/traps_test.go" || !f.imported(rxgoPath) && !f.imported(module+"/streams") {
			continue
		}
		if f.imports["."] == rxgoPath {
			problems = append(problems, fmt.Sprintf("%s: a dot import hides what comes from RxGo", f.at(f.Imports[0])))
		}
		f.selectors(func(n ast.Node, pkg, name string) {
			if use, bad := brokenFunctions[name]; bad && pkg == rxgoPath {
				problems = append(problems, fmt.Sprintf("%s: rxgo.%s is broken, use %s", f.at(n), name, use))
			}
			if use, bad := brokenMethods[name]; bad && pkg == "" {
				problems = append(problems, fmt.Sprintf("%s: rxgo's %s is broken, use %s", f.at(n), name, use))
			}
		})
	}
	return problems
}

// withoutExample are public packages in which there is nothing to show.
var withoutExample = []string{"sinks/all", "sources/all", "sinks/sinktest", "sources/mesh/meshtest"}

func examples(files tree) []string {
	exported, shown := map[string]bool{}, map[string]bool{}
	for _, p := range files.paths(isGo) {
		dir := path.Dir(p)
		for _, d := range parse(p, files[p]).Decls {
			f, ok := d.(*ast.FuncDecl)
			switch {
			case ok && isTest(p):
				shown[dir] = shown[dir] || strings.HasPrefix(f.Name.Name, "Example")
			case ok:
				exported[dir] = exported[dir] || f.Name.IsExported()
			}
		}
	}
	var problems []string
	for dir := range exported {
		first, _, _ := strings.Cut(dir, "/")
		public := slices.Contains([]string{"streams", "operators", "sources", "sinks", "pipeline"}, first)
		if public && exported[dir] && !shown[dir] && !slices.Contains(withoutExample, dir) && !strings.Contains(dir, "internal") {
			problems = append(problems, dir+" has no Example function")
		}
	}
	slices.Sort(problems)
	return problems
}
