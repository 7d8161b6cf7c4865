package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/doc"
	"go/format"
	"go/parser"
	"go/printer"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
)

const module = "github.com/mgmtproject/mgmt/"

// source is the source of a type and of its package.
type source struct {
	fset  *token.FileSet
	files []*ast.File
	pkg   *doc.Package
	name  string // of the type
}

// sourceOf reads the package in which the type is declared that v points to.
func sourceOf(root string, v any) (*source, error) {
	t := reflect.TypeOf(v).Elem()
	s := &source{fset: token.NewFileSet(), name: t.Name()}
	names, err := filepath.Glob(filepath.Join(root, strings.TrimPrefix(t.PkgPath(), module), "*.go"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		f, err := parser.ParseFile(s.fset, name, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		s.files = append(s.files, f)
	}
	s.pkg, err = doc.NewFromFiles(s.fset, s.files, t.PkgPath(), doc.PreserveAST)
	return s, err
}

// markdown turns a comment into Markdown without a newline at the end.
func (s *source) markdown(comment string) string {
	return strings.TrimSpace(string(s.pkg.Markdown(comment)))
}

func (s *source) typeDoc() string {
	for _, t := range s.pkg.Types {
		if t.Name == s.name {
			return t.Doc
		}
	}
	return ""
}

// fieldDoc is the comment of a field, which also may be promoted from another struct
// of the package. There must be one.
func (s *source) fieldDoc(field string) (string, error) {
	for _, typ := range []string{s.name, ""} { // the type itself before all others
		for _, f := range s.files {
			for _, decl := range f.Decls {
				if text := docIn(decl, typ, field); text != "" {
					return text, nil
				}
			}
		}
	}
	return "", fmt.Errorf("the field %s of %s has no comment, which would be its description", field, s.name)
}

// docIn looks for a field in the types of a declaration that have that name, or any.
func docIn(decl ast.Decl, typ, field string) string {
	d, ok := decl.(*ast.GenDecl)
	if !ok {
		return ""
	}
	for _, spec := range d.Specs {
		t, ok := spec.(*ast.TypeSpec)
		if !ok || typ != "" && t.Name.Name != typ {
			continue
		}
		st, ok := t.Type.(*ast.StructType)
		if !ok {
			continue
		}
		for _, f := range st.Fields.List {
			for _, name := range f.Names {
				if name.Name == field && f.Tag != nil {
					return f.Doc.Text()
				}
			}
		}
	}
	return ""
}

// example is the body of the package's Example.
func (s *source) example() (string, error) {
	for _, e := range doc.Examples(s.files...) {
		if e.Name != "" {
			continue
		}
		var b bytes.Buffer
		body, ok := e.Code.(*ast.BlockStmt)
		if !ok {
			return "", fmt.Errorf("the example of package %s is more than a function", s.pkg.Name)
		}
		if err := format.Node(&b, s.fset, &printer.CommentedNode{Node: body, Comments: e.Comments}); err != nil {
			return "", err
		}
		return unindent(b.String()), nil
	}
	return "", fmt.Errorf("package %s has no func Example", s.pkg.Name)
}

// unindent takes a block out of its braces.
func unindent(block string) string {
	block = strings.TrimSuffix(strings.TrimPrefix(block, "{\n"), "}")
	block, _, _ = strings.Cut(block, "\t// Output:") // which is for go test
	var b strings.Builder
	for line := range strings.Lines(block) {
		b.WriteString(strings.TrimPrefix(line, "\t"))
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}
