package pipeline_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
)

// graphFile is a file with n resources of a kind, and a chain of edges through all.
func graphFile(kind string, n int) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "graph: bench\nresources:\n  %s:\n", kind)
	for i := range n {
		switch kind {
		case "file":
			fmt.Fprintf(&b, "  - name: /srv/d%d/f%d\n    content: \"hello %d\\n\"\n    mode: \"0644\"\n", i%100, i, i)
		default:
			fmt.Fprintf(&b, "  - name: n%d\n", i)
		}
	}
	b.WriteString("edges:\n")
	for i := range n - 1 {
		switch kind {
		case "file":
			fmt.Fprintf(&b, "- file[/srv/d%d/f%d] -> file[/srv/d%d/f%d]\n", i%100, i, (i+1)%100, i+1)
		default:
			fmt.Fprintf(&b, "- %s[n%d] -> %s[n%d]\n", kind, i, kind, i+1)
		}
	}
	return []byte(b.String())
}

// BenchmarkRead loads and compiles graph files, beside the bare parse of the same YAML.
func BenchmarkRead(b *testing.B) {
	reg := fileRegistry(b)
	for _, kind := range []string{"noop", "file"} {
		for _, n := range []int{1_000, 10_000, 100_000} {
			data := graphFile(kind, n)
			b.Run(fmt.Sprintf("%s/%d/yaml", kind, n), func(b *testing.B) {
				for b.Loop() {
					var doc yaml.Node
					if err := yaml.Unmarshal(data, &doc); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(fmt.Sprintf("%s/%d/load", kind, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := pipeline.Load("graph.yaml", data, reg); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(fmt.Sprintf("%s/%d/compile", kind, n), func(b *testing.B) {
				b.ReportAllocs()
				g, err := pipeline.Load("graph.yaml", data, reg)
				if err != nil {
					b.Fatal(err)
				}
				for b.Loop() {
					if err := g.Compile(sinks.Options{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkReadWrong reads a file in which every edge leads nowhere and every resource
// has an unknown parameter: hints must not make it quadratic.
func BenchmarkReadWrong(b *testing.B) {
	reg := fileRegistry(b)
	for _, n := range []int{1_000, 10_000, 100_000} {
		text := strings.ReplaceAll(string(graphFile("noop", n)), "] -> noop[n", "] -> noop[m")
		data := []byte(strings.ReplaceAll(text, "\n  - name", "\n  - wrong: 1\n    name"))
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if _, err := pipeline.Load("graph.yaml", data, reg); err == nil {
					b.Fatal("no problem was found")
				}
			}
		})
	}
}

// BenchmarkVertexMemory measures what a compiled graph keeps for a vertex with its edge.
func BenchmarkVertexMemory(b *testing.B) {
	const n = 100_000
	reg := fileRegistry(b)
	for _, kind := range []string{"noop", "file"} {
		b.Run(kind, func(b *testing.B) {
			for b.Loop() {
				data := graphFile(kind, n)
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				g, err := read("graph.yaml", data, reg)
				if err != nil {
					b.Fatal(err)
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "B/vertex")
				runtime.KeepAlive(g)
				runtime.KeepAlive(data)
			}
		})
	}
}

// BenchmarkReadLinks loads and compiles files in which half of the resources send a value
// to the other half.
func BenchmarkReadLinks(b *testing.B) {
	reg := fileRegistry(b)
	for _, n := range []int{1_000, 10_000, 100_000} {
		var text strings.Builder
		text.WriteString("graph: bench\nresources:\n  exec:\n")
		for i := range n / 2 {
			fmt.Fprintf(&text, "  - name: e%d\n", i)
		}
		text.WriteString("  file:\n")
		for i := range n / 2 {
			fmt.Fprintf(&text, "  - name: /srv/f%d\n    content: {from: \"exec[e%d]\", output: stdout}\n", i, i)
		}
		data := []byte(text.String())
		b.Run(fmt.Sprint(n, "/load"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := pipeline.Load("graph.yaml", data, reg); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprint(n, "/compile"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				g, err := pipeline.Load("graph.yaml", data, reg)
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if err := g.Compile(sinks.Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
