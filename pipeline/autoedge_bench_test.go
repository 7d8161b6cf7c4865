package pipeline_test

import (
	"fmt"
	"testing"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
)

// hostGraph is a graph as hosts have it, of n resources without a declared edge: of 100,
// there are 80 files in 10 directories that are nested up to 6 deep, half of which belong
// to users of the graph; 2 users with their groups, 2 packages that bring 4 files each, a
// service with its unit and a command.
func hostGraph(n int) *pipeline.Graph {
	g := &pipeline.Graph{Name: "host"}
	for block := range n / 100 {
		deep := fmt.Sprintf("/srv/app%d/", block)
		for i := range 10 {
			g.Add("file", deep, &joinedFile{})
			for k := range 8 {
				f := &joinedFile{}
				if k%2 == 0 {
					f.Owner, f.Group = fmt.Sprintf("user%d-%d", block, i%2), fmt.Sprintf("user%d-%d", block, i%2)
				}
				g.Add("file", fmt.Sprintf("%sfile%d.conf", deep, k), f)
			}
			if deep += fmt.Sprintf("dir%d/", i); i == 5 {
				deep = fmt.Sprintf("/srv/app%d/more/", block)
			}
		}
		for i := range 2 {
			user := fmt.Sprintf("user%d-%d", block, i)
			g.Add("user", user, &joinedUser{Group: user})
			g.Add("group", user, &joinedGroup{})
			p := &joinedPkg{Files: []string{fmt.Sprintf("/usr/bin/pkg%d-%d", block, i)}}
			for k := range 4 {
				p.Files = append(p.Files, fmt.Sprintf("/srv/app%d/file%d.conf", block, k+4*i))
			}
			g.Add("pkg", fmt.Sprintf("pkg%d-%d", block, i), p)
		}
		g.Add("file", fmt.Sprintf("/etc/systemd/system/app%d.service", block), &joinedFile{})
		g.Add("svc", fmt.Sprintf("app%d", block), &joinedSvc{})
		g.Add("exec", fmt.Sprintf("/usr/bin/pkg%d-1", block), &joinedExec{})
		g.Add("mount", fmt.Sprintf("/srv/app%d/dir0", block), &joinedMount{})
	}
	return g
}

// BenchmarkCompileAutoEdges is a whole Compile, which builds the resources, and the part
// of it that is about automatic edges: what opting out of them saves.
func BenchmarkCompileAutoEdges(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		for _, test := range []struct {
			name string
			on   bool
		}{{"on", true}, {"off", false}} {
			b.Run(fmt.Sprintf("%d/%s", n, test.name), func(b *testing.B) {
				b.ReportAllocs()
				g := hostGraph(n)
				if !test.on {
					off := pipeline.DefaultMeta()
					off.AutoEdge = false
					for _, v := range g.Vertices {
						v.Meta = &off
					}
				}
				for b.Loop() {
					if err := g.Compile(sinks.Options{}); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(len(g.Vertices)), "vertices")
				b.ReportMetric(float64(len(g.Edges)), "edges")
			})
		}
	}
}

// BenchmarkCompileKnot has declared edges against the automatic ones, in each block of 100
// and from each block to the one before.
func BenchmarkCompileKnot(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			g := hostGraph(n)
			for i := range len(g.Vertices) / 100 {
				g.Connect(g.Vertices[100*i+1], g.Vertices[100*i], false)
				if i > 0 {
					g.Connect(g.Vertices[100*i], g.Vertices[100*i-50], false)
				}
			}
			for b.Loop() {
				if err := g.Compile(sinks.Options{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(g.Notes)), "notes")
		})
	}
}
