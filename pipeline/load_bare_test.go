package pipeline_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
)

// A reference in brackets means the same with quotes and without, in a file that is large
// enough to be parsed in pieces, too.
func TestReferencesNeedNoQuotes(t *testing.T) {
	for _, n := range []int{1, 5000} {
		var quoted, bare strings.Builder
		for _, to := range []struct {
			text  *strings.Builder
			quote string
		}{{&quoted, `"`}, {&bare, ""}} {
			to.text.WriteString("graph: g\nresources:\n  exec:\n  - name: \"a, 'b' #c\"\n  file:\n")
			ref := to.quote + "exec[a, 'b' #c]" + to.quote
			for i := range n {
				fmt.Fprintf(to.text, "  - {name: /f%d, content: {from: %s, output: stdout}, require: [ %s,%s ]}\n", i, ref, ref, ref)
			}
		}
		var shown [2]string
		for i, text := range []string{quoted.String(), bare.String()} {
			g, err := read("graph.yaml", []byte(text), fileRegistry(t))
			if err != nil {
				t.Fatal(err)
			}
			shown[i] = pipelineLinks(g)
		}
		if shown[0] != shown[1] || !strings.Contains(shown[1], "exec[a, 'b' #c] stdout content file[/f0]") {
			t.Errorf("with quotes\n%.500s\nwithout\n%.500s", shown[0], shown[1])
		}
	}
}

func pipelineLinks(g *pipeline.Graph) string {
	var b strings.Builder
	for _, l := range g.Links {
		fmt.Fprintln(&b, g.Vertices[l.From], l.Output, l.Param, g.Vertices[l.To])
	}
	fmt.Fprintln(&b, len(g.Edges))
	return b.String()
}

func TestDisguise(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"a reference", "{from: exec[a b], x: 1}", "{from: exec<a_b>, x: 1}"},
		{"several", "[a[b],c[d], e[f]]", "[a<b>,c<d>, e<f>]"},
		{"an edge", "[a[b] -> c[d] ~> e[f]]", "[a<b> -> c<d> ~> e<f>]"},
		{"at the end of the line", "- a[b]  \n- c[d]\r\n- e[f] # [", "- a<b>  \n- c<d>\r\n- e<f> # ["},
		{"letters that are not ASCII", "[a[ü ö]]", "[a<ü_ö>]"},
		{"an underscore", "[http_client[a]]", "[http_client<a>]"},
		{"a list of lists", "[[a], [b[c], [d]]]", "[[a], [b<c>, [d]]]"},
		{"a part of a word", "{a: &a[b], c: -x[d], e: !t[f]}", ""},
		{"what goes on", "{a: b[c]d, e: f[g]: h}", ""},
		{"brackets in the name", "{a: b[c[d]e]}", ""},
		{"a name of two lines", "{a: b[c\nd]}", ""},
		{"characters that are taken", "{a: b[c]} \ue041", ""},
		{"their escapes", `{a: b[c], d: "\uE041"}`, ""},
		{"none", "{a: b}", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, ok := pipeline.Disguise([]byte(test.text))
			got := strings.Map(func(r rune) rune {
				switch r {
				case 0xE000 + '[':
					return '<'
				case 0xE000 + ']':
					return '>'
				case 0xE000 + ' ', 0xE000 + '_':
					return '_'
				}
				return r
			}, string(out))
			if got != test.want || ok != (test.want != "") {
				t.Errorf("got %q, %v, want %q", got, ok, test.want)
			}
		})
	}
}

// FuzzDisguise has no place of a text change, whatever it is.
func FuzzDisguise(f *testing.F) {
	f.Add([]byte("{a: b[c d], e: [f[g],h[i]]}\n- j[k] -> l[m]\n"))
	f.Add([]byte("a[b\xff]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		out, ok := pipeline.Disguise(data)
		if !ok {
			return
		}
		if utf8.Valid(data) && utf8.RuneCount(out) != utf8.RuneCount(data) || bytes.Count(out, []byte("\n")) != bytes.Count(data, []byte("\n")) {
			t.Errorf("%q became %q", data, out)
		}
		back := bytes.Map(func(r rune) rune {
			if r >= 0xE000 && r < 0xE080 {
				return r - 0xE000
			}
			return r
		}, out)
		if utf8.Valid(data) && !bytes.Equal(back, data) {
			t.Errorf("%q came back as %q", data, back)
		}
		if g, err := pipeline.Load("graph.yaml", data, fileRegistry(t)); err == nil {
			_ = g.Compile(sinks.Options{})
		}
	})
}
