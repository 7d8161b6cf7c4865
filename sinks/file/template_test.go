package file_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

func TestTemplateConformance(t *testing.T) {
	d := t.TempDir()
	f, tmpl := d+"/hosts", d+"/hosts.tmpl"
	state := sinktest.Files(d)
	write := func(path, text string) func() error {
		return func() error { return os.WriteFile(path, []byte(text), 0o644) }
	}
	if err := write(tmpl, "{{ .ip }} printer\n")(); err != nil {
		t.Fatal(err)
	}
	data := map[string]any{"ip": "192.0.2.1"}
	n := 0
	sinktest.Run(t, file.Spec,
		sinktest.Case{Name: "a template in the graph file", Resource: f, State: state, Disturb: write(f, "x"),
			Params: map[string]any{"template": "{{ .ip }} printer\n", "data": data}},
		sinktest.Case{Name: "a template without data", Resource: f, State: state, Disturb: write(f, "x"),
			Params: map[string]any{"template": "{{ range until 3 }}{{ . }}\n{{ end }}"}},
		sinktest.Case{Name: "a file that is made from a template in a file", Resource: f, State: state, Disturb: write(f, "x"),
			Params: map[string]any{"template_file": tmpl, "data": data}},
		sinktest.Case{Name: "a template in a file that changes", Resource: f, State: state,
			Params: map[string]any{"template_file": tmpl, "data": data},
			Disturb: func() error {
				n++
				return write(tmpl, fmt.Sprintf("{{ .ip }} printer%d\n", n))()
			}},
	)
}

func TestTemplate(t *testing.T) {
	list := map[string]string{"json": `{"b":[1,2],"a":{"x":"y"}}`, "name": "web server", "text": "one\ntwo", "b64": "aGk=", "bad": "%%%", "n": "8080"}
	tests := []struct{ name, template, want string }{
		{"text alone", "as it is\n", "as it is\n"},
		{"an empty template", "", ""},
		{"data", "{{ .name }}", "web server"},
		{"a number is a text", `{{ printf "%s:%d" .n (atoi .n) }}`, "8080:8080"},
		{"functions in a row", "{{ .name | upper | quote }}", `"WEB SERVER"`},
		{"a default", `{{ get . "other" | default "none" }}`, "none"},
		{"whether there is something", `{{ if hasKey . "other" }}yes{{ else }}no{{ end }}`, "no"},
		{"lines that are indented", "a:{{ .text | nindent 2 }}", "a:\n  one\n  two"},
		{"structure", `{{ $j := fromJson .json }}{{ $j.a.x }} {{ range $j.b }}<{{ . }}>{{ end }}`, "y <1><2>"},
		{"keys come in their order", `{{ keys . | join "," }}`, "b64,bad,json,n,name,text"},
		{"values come in the order of the keys", `{{ dict "b" 2 "c" 3 "a" 1 | values | join "," }}`, "1,2,3"},
		{"sums", `{{ sha256sum "" | trunc 8 }} {{ sha512sum "" | trunc 8 }}`, "e3b0c442 cf83e135"},
		{"base64", `{{ b64dec .b64 }} {{ b64enc "hi" }}`, "hi aGk="},
		{"a template within", `{{ define "li" }}* {{ . }}{{ end }}{{ template "li" .name }}`, "* web server"},
		{"names in other spellings", `{{ snakecase "HTTPServer x" }} {{ kebabcase "FirstName" }} {{ camelcase "http_server" }}`, "http_server_x first-name HttpServer"},
		{"letters", `{{ swapcase "aB" }} {{ untitle "First Try" }} {{ initials "First Try" }} {{ nospace "a b\tc" }}`, "Ab first try FT abc"},
		{"what is too long", `{{ abbrev 5 "hello world" }} {{ abbrev 5 "hello" }} {{ wrap 5 "a b c d e" | quote }} {{ wrapWith 3 "|" "aa bb" }}`, `he... hello "a b c\nd e" aa|bb`},
		{"numbers with a point", `{{ addf 1 "0.5" 2 }} {{ divf 1 4 }} {{ subf 1 0.25 }} {{ mulf 2 "1.5" }}`, "3.5 0.25 0.75 3"},
		{"mappings that are merged", `{{ $a := dict "x" (dict "y" 1) }}{{ merge $a (dict "x" (dict "y" 2 "z" 3) "w" 4) | toJson }} {{ mergeOverwrite $a (dict "x" (dict "y" 5)) | toJson }}`,
			`{"w":4,"x":{"y":1,"z":3}} {"w":4,"x":{"y":5,"z":3}}`},
		{"a copy is on its own", `{{ $a := dict "x" (dict "y" (list 1)) }}{{ $b := deepCopy $a }}{{ $_ := set $b.x "y" 2 }}{{ $a.x.y }} {{ $b.x.y }}`, "[1] 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for range 20 { // the same each time
				path := t.TempDir() + "/f"
				r, err := (&file.Config{Template: &tt.template, Data: list}).Build(path, sinks.Options{})
				if err != nil {
					t.Fatal(err)
				}
				if out, err := r.CheckApply(t.Context(), true); err != nil || !out.Changed {
					t.Fatalf("got %v, %v", out, err)
				}
				if got, err := os.ReadFile(path); err != nil || string(got) != tt.want {
					t.Fatalf("got %q, %v, want %q", got, err, tt.want)
				}
			}
		})
	}
}

func TestTemplateInvalid(t *testing.T) {
	huge := `{{ define "x" }}{{ repeat 100000 "0123456789" }}{{ end }}{{ range until 100 }}{{ template "x" }}{{ end }}`
	for _, tt := range []struct{ param, template, want string }{
		{"template", "a\n{{ if }}", "line 2 of the template: missing value for if"},
		{"template", "a\n\n{{ .x ", "line 3 of the template: unclosed action"},
		{"template", "{{ nonsense }}", `line 1 of the template: function "nonsense" not defined`},
		{"template", "{{ now }}", `function "now" not defined: it is left out, since the same template must make the same`},
		{"template", `{{ env "HOME" }}`, `function "env" not defined: it is left out`},
		{"template", `a {{ fail "no luck" }}`, "line 1 of the template, at <fail \"no luck\">: error calling fail: no luck"},
		{"template", `{{ b64dec "%" }}`, "error calling b64dec: illegal base64 data"},
		{"template", `{{ b32dec "%" }}`, "error calling b32dec: illegal base32 data"},
		{"template", `{{ addf 1 "x" }}`, `"x" is not a number`},
		{"template", `{{ divf 1 (list) }}`, `[] is not a number`},
		{"template", `{{ index (list 1) 5 }}`, "out of range: 5"},
		{"template", `{{ template "other" }}`, `template "other" not defined`},
		{"template", `{{ define "x" }}{{ template "x" }}{{ end }}{{ template "x" }}`, "exceeded maximum template depth"},
		{"template", huge, "the template makes more than 64 MiB"},
		{"data", "one\n {{ .hosts }}", `line 2 of the template, at <.hosts>: map has no entry for key "hosts"; data has host, port`},
	} {
		_, err := (&file.Config{Template: &tt.template, Data: map[string]string{"host": "h", "port": "1"}}).Build("/f", sinks.Options{})
		wrong, ok := errors.AsType[*sinks.ParamError](err)
		if !ok || wrong.Param != tt.param || !strings.Contains(wrong.Err.Error(), tt.want) {
			t.Errorf("%.60q: got %v, want %s: %s", tt.template, err, tt.param, tt.want)
		}
	}
	sinktest.Invalid(t, file.Spec, "/f", map[string]any{"template": "{{ .a }}"}, `map has no entry for key "a", and there is no data`)
	sinktest.Invalid(t, file.Spec, "/f", map[string]any{"template": "x", "content": "x"}, "it can't be given together with content")
	sinktest.Invalid(t, file.Spec, "/f", map[string]any{"template": "x", "template_file": "/x"}, "it can't be given together with template")
	sinktest.Invalid(t, file.Spec, "/f", map[string]any{"template_file": "/f"}, "it is the path itself")
	sinktest.Invalid(t, file.Spec, "/f", map[string]any{"template_file": "f"}, `path "f" is not absolute`)
	sinktest.Invalid(t, file.Spec, "/f", map[string]any{"content": "x", "data": map[string]any{"a": "b"}}, "data: it has no effect without template")
	sinktest.Invalid(t, file.Spec, "/f/", map[string]any{"template": "x"}, "/f/ is a directory")
	many := map[string]any{}
	for i := range 13 {
		many[fmt.Sprintf("k%02d", i)] = "v"
	}
	sinktest.Invalid(t, file.Spec, "/f", map[string]any{"template": "{{ .a }}", "data": many}, "k08, k09, and 3 more")
}

// TestTemplateFileFails sees that a template in a file is read when it is needed, and
// that its errors name it.
func TestTemplateFileFails(t *testing.T) {
	d := t.TempDir()
	path, tmpl := d+"/f", d+"/tmpl"
	r := sinktest.Build(t, file.Spec, path, map[string]any{"template_file": tmpl, "data": map[string]any{"a": "b"}})
	fails := func(want string) {
		t.Helper()
		if out, err := r.CheckApply(t.Context(), true); err == nil || out.Changed || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %v; want %q", out, err, want)
		}
	}
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(tmpl, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fails("stat " + tmpl + ": no such file or directory")
	put("a\n{{ .b }}")
	fails(tmpl + `: line 2 of the template, at <.b>: map has no entry for key "b"; data has a`)
	put("{{")
	fails(tmpl + ": line 1 of the template: ")
	for _, text := range []string{"{{ .a }}1", "{{ .a }}2"} {
		put(text)
		if out, err := r.CheckApply(t.Context(), true); err != nil || !out.Changed {
			t.Fatalf("got %v, %v", out, err)
		}
		if got, _ := os.ReadFile(path); string(got) != "b"+text[len(text)-1:] {
			t.Errorf("got %q of %q", got, text)
		}
	}
	if err := errors.Join(os.Rename(tmpl, tmpl+".2"), os.Symlink("tmpl.2", tmpl)); err != nil {
		t.Fatal(err)
	}
	if out, err := r.CheckApply(t.Context(), true); err != nil || out.Changed {
		t.Errorf("behind a link: %v, %v", out, err)
	}
	if err := errors.Join(os.Remove(tmpl), os.Mkdir(tmpl, 0o755)); err != nil {
		t.Fatal(err)
	}
	fails(tmpl + " is a directory, but a file with a template is expected")
	if !slices.Contains(r.(sinks.Keeper).Keeps(), "path "+tmpl) || !slices.Contains(r.Watches(), inotify.Path(tmpl)) {
		t.Errorf("keeps %v, watches %v", r.(sinks.Keeper).Keeps(), r.Watches())
	}
}

func BenchmarkTemplateBuild(b *testing.B) {
	text := "{{ range $i := until 10 }}{{ $.host | upper }} {{ $i }}\n{{ end }}"
	c := &file.Config{Template: &text, Data: map[string]string{"host": "h"}}
	for b.Loop() {
		if _, err := c.Build("/f", sinks.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func TestTemplateFileComesFirst(t *testing.T) {
	got := sinktest.Edges(t, &file.Config{TemplateFile: "/etc/motd.tmpl"}, "/etc/motd")
	if !slices.Contains(got, "needs file /etc/motd.tmpl, its template") {
		t.Errorf("got %q", got)
	}
}
