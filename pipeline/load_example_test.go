package pipeline_test

import (
	"fmt"
	"time"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
)

// kinds are those of these examples; a program takes the ones that it needs, or all.
var kinds, _ = sinks.NewRegistry(
	sinks.Spec{Kind: "file", New: func() sinks.Config { return &fileConfig{} }},
	sinks.Spec{Kind: "svc", New: func() sinks.Config { return &svcConfig{} }},
)

func ExampleLoad() {
	g, err := pipeline.Load("graph.yaml", []byte(`
graph: web
resources:
  file:
  - name: /etc/nginx.conf
    content: "# empty\n"
  svc:
  - name: nginx
    state: running
edges:
- file[/etc/nginx.conf] ~> svc[nginx]
`), kinds)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := g.Compile(sinks.Options{}); err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range g.Edges {
		fmt.Println(g.Vertices[e.From], "runs before", g.Vertices[e.To], "and notifies it:", e.Notify)
	}
	// Output: file[/etc/nginx.conf] runs before svc[nginx] and notifies it: true
}

func ExampleLoad_problems() {
	_, err := pipeline.Load("graph.yaml", []byte(`
graph: web
resources:
  file:
  - name: /etc/nginx.conf
    contnet: "# empty\n"
edges:
- file[/etc/nginx.conf] ~> svc[nginx]
`), kinds)
	fmt.Println(err)
	// Output:
	// graph.yaml:6:5: unknown parameter "contnet" of file; did you mean "content"?
	// graph.yaml:8:28: there is no svc[nginx]
}

func ExampleGraph_Add() {
	g := &pipeline.Graph{Name: "web"}
	conf := g.Add("file", "/etc/nginx.conf", &fileConfig{State: "exists"})
	web := g.Add("svc", "nginx", &svcConfig{State: "running"}, func(m *pipeline.Meta) { m.Poll = time.Minute })
	g.Connect(conf, web, true)
	fmt.Println(g.Compile(sinks.Options{}))
	for _, i := range g.Order() {
		fmt.Println(g.Vertices[i], "polled every", g.Vertices[i].Meta.Poll)
	}
	// Output:
	// <nil>
	// file[/etc/nginx.conf] polled every 0s
	// svc[nginx] polled every 1m0s
}

func ExampleGraph_Compile() {
	g := &pipeline.Graph{}
	a := g.Add("file", "/etc/a", &fileConfig{})
	b := g.Add("file", "/etc/b", &fileConfig{})
	g.Connect(a, b, false)
	g.Connect(b, a, false)
	g.Add("file", "a again", &fileConfig{Path: "/etc/a"})
	fmt.Println(g.Compile(sinks.Options{}))
	// Output:
	// file[a again] and file[/etc/a] both manage the path /etc/a; keep one of them
	// the edges make a cycle: file[/etc/a] -> file[/etc/b] -> file[/etc/a]; remove one of these edges
}
