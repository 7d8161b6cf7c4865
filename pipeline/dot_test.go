package pipeline_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
)

func dotGraph() *pipeline.Graph {
	g := &pipeline.Graph{Name: `the "first"`}
	motd := g.Add("file", "/etc/motd", &fileConfig{})
	web := g.Add("svc", "nginx", &svcConfig{})
	odd := g.Add("exec", "echo \"a\\N\"\n<b> {c}", &execConfig{})
	hidden := g.Add("noop", "hidden", &noopConfig{}, func(m *pipeline.Meta) { m.Hidden = true })
	g.Add("noop", "@@shared", &noopConfig{})
	g.Connect(motd, web, true)
	g.Connect(motd, odd, false)
	g.Connect(odd, hidden, false)
	g.Edges[1].Name = "e1"
	g.Edges = append(g.Edges, pipeline.Edge{From: 0, To: 3, Why: "which holds it"})
	g.Links = []pipeline.Link{
		{From: 0, To: 2, Output: "content", Param: "cmd"},
		{From: 0, To: 2, Output: "checksum", Param: "env", Key: "SUM", Secret: true},
		{From: 2, To: 3, Output: "stdout", Param: "comment"},
	}
	return g
}

func TestDOT(t *testing.T) {
	g := dotGraph()
	got := g.DOT()
	for _, want := range []string{
		`label="the \"first\""`,
		`label="file[/etc/motd]"`,
		`label="exec[echo \"a\\N\"\n<b> {c}]"`,
		`label="noop[hidden]",shape="box",style="rounded,dotted"`,
		`label="noop[@@shared]",shape="box",style="rounded,dashed"`,
		`n1->n2[color="#b03a2e",style="bold",tooltip="notifies"]`,
		`n1->n3[fontname="sans-serif",fontsize="10",label="e1\ncontent -> cmd\nchecksum -> env.SUM"]`,
		`n3->n4[fontname="sans-serif",fontsize="10",label="stdout -> comment"]`,
		`n1->n4[color="gray40",style="dashed",tooltip="after file[/etc/motd], which holds it"]`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("DOT lacks %s:\n%s", want, got)
		}
	}
	if again := g.DOT(); again != got {
		t.Error("DOT of the same graph differs")
	}
}

func TestSVG(t *testing.T) {
	if _, err := exec.LookPath("dot"); err != nil {
		t.Skip("needs the program dot of graphviz")
	}
	svg, err := pipeline.SVG(t.Context(), dotGraph().DOT())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<svg", "file[/etc/motd]", "the &quot;first&quot;", `echo &quot;a\N&quot;`, "noop[@@shared]"} {
		if !bytes.Contains(svg, []byte(want)) {
			t.Errorf("the picture lacks %q:\n%s", want, svg)
		}
	}
	if _, err := pipeline.SVG(t.Context(), "digraph {"); err == nil || !strings.Contains(err.Error(), "syntax error") {
		t.Errorf("error of a broken graph = %v", err)
	}
}

func TestSVGWithoutGraphviz(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := pipeline.SVG(t.Context(), "digraph {}")
	if !errors.Is(err, exec.ErrNotFound) || !strings.Contains(err.Error(), "install graphviz") {
		t.Errorf("error = %v, want advice to install graphviz", err)
	}
}

func TestSVGEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "dot"), []byte("#!/bin/sh\nexec sleep 60\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
	start := time.Now()
	if _, err := pipeline.SVG(ctx, "digraph {}"); !errors.Is(err, why) || time.Since(start) > 20*time.Second {
		t.Errorf("error = %v after %v", err, time.Since(start))
	}
}

func ExampleGraph_DOT() {
	g := &pipeline.Graph{Name: "web"}
	conf := g.Add("file", "/etc/nginx.conf", &fileConfig{})
	web := g.Add("svc", "nginx", &svcConfig{})
	g.Connect(conf, web, true)
	if err := g.Compile(sinks.Options{}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(strings.Count(g.DOT(), "label="), "labels")
	// Output: 3 labels
}
