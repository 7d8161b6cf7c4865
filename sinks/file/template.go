package file

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"text/template"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
)

// maker makes a content of a template that lies in a file.
type maker struct {
	path string
	data map[string]string

	read   string // the template as it was read last
	parsed *template.Template
}

// make reads the template and fills it in.
func (m *maker) make(ctx context.Context) (string, error) {
	text, err := readTemplate(m.path)
	if err != nil {
		return "", err
	}
	if m.parsed == nil || m.read != text {
		t, err := parseTemplate(text)
		if err != nil {
			return "", fmt.Errorf("%s: %w", m.path, err)
		}
		m.parsed, m.read = t, text
	}
	made, err := fill(ctx, m.parsed, m.data)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%s: %w", m.path, err)
	}
	return made, err
}

// readTemplate reads the file at path, behind any links.
func readTemplate(path string) (string, error) {
	st, err := statSource(path)
	switch {
	case err != nil:
		return "", err
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return "", fmt.Errorf("%s is a %s, but a file with a template is expected", path, kindOf(st.Mode))
	case st.Size > maxMade:
		return "", fmt.Errorf("%s has %d bytes, which is more than the %d MiB that are expected of a template", path, st.Size, maxMade>>20)
	}
	p := part{from: atomicfile.At(path), follow: true}
	fd, err := p.open()
	if err != nil {
		return "", err
	}
	defer atomicfile.Close(fd)
	text := make([]byte, st.Size)
	n, err := atomicfile.Read(fd, text)
	return string(text[:n]), p.from.Error("read", err)
}

// templates sets what the parameters about templates ask for. A template that is given
// as a text is filled in at once, since all that goes into it is given, too.
func (f *file) templates(c *Config) error {
	switch {
	case c.Template == nil && c.TemplateFile == "" && c.Data != nil:
		return contradict("data", "it has no effect without template or template_file, which it is for")
	case c.TemplateFile != "":
		path, err := atomicfile.Clean(c.TemplateFile)
		if err != nil {
			return &sinks.ParamError{Param: "template_file", Err: err}
		}
		f.maker = &maker{path: path, data: maps.Clone(c.Data)}
		return nil
	case c.Template == nil:
		return nil
	}
	t, err := parseTemplate(*c.Template)
	if err != nil {
		return &sinks.ParamError{Param: "template", Err: err}
	}
	made, err := fill(context.Background(), t, c.Data)
	if _, ok := errors.AsType[*missingError](err); ok {
		return &sinks.ParamError{Param: "data", Err: err}
	}
	if err != nil {
		return &sinks.ParamError{Param: "template", Err: err}
	}
	f.text = body{{text: made}}
	return nil
}

// library is an empty template that knows the functions. It is made when the first
// template is met: a graph without one does not pay for it.
var library = sync.OnceValue(func() *template.Template {
	return template.New("template").Option("missingkey=error").Funcs(functions())
})

func parseTemplate(text string) (*template.Template, error) {
	t, err := library().Clone()
	if err == nil {
		_, err = t.Parse(text)
	}
	if err == nil {
		return t, nil
	}
	err = placed(err)
	if name, ok := between(err.Error(), `function "`, `" not defined`); ok && slices.Contains(leftOut, name) {
		err = fmt.Errorf("%w: it is left out, since the same template must make the same content each time", err)
	}
	return nil, err
}

// missingError says that a template asks for data that is not there.
type missingError struct {
	at   error
	data map[string]string
}

func (e *missingError) Error() string {
	if len(e.data) == 0 {
		return fmt.Sprintf("%v, and there is no data", e.at)
	}
	names := slices.Sorted(maps.Keys(e.data))
	const most = 10
	if len(names) > most {
		names = append(names[:most], fmt.Sprintf("and %d more", len(names)-most))
	}
	return fmt.Sprintf("%v; data has %s", e.at, strings.Join(names, ", "))
}

// fill executes a template.
func fill(ctx context.Context, t *template.Template, data map[string]string) (made string, err error) {
	values := make(map[string]any, len(data)) // of the type that functions for mappings want
	for name, value := range data {
		values[name] = value
	}
	w := &bounded{ctx: ctx}
	defer func() {
		if p := recover(); p != nil { // a fault of the interpreter must not be one of ours
			made, err = "", fmt.Errorf("the template can't be filled in: %v", p)
		}
	}()
	err = t.Execute(w, values)
	switch _, executing := errors.AsType[template.ExecError](err); {
	case err == nil:
		return w.text.String(), nil
	case !executing: // it is of the writer
		return "", err
	}
	at := placed(err)
	if name, ok := between(err.Error(), `map has no entry for key "`, `"`); ok {
		if _, there := data[name]; !there {
			return "", &missingError{at, data}
		}
	}
	return "", at
}

// maxMade is how much a template may make, in bytes: as much as a text that it is read
// from.
const maxMade = 64 << 20

// bounded takes what a template makes.
type bounded struct {
	ctx  context.Context
	text strings.Builder
}

// Write implements io.Writer.
func (w *bounded) Write(b []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	if w.text.Len()+len(b) > maxMade {
		return 0, fmt.Errorf("the template makes more than %d MiB", maxMade>>20)
	}
	return w.text.Write(b)
}

var place = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?s)^template: template:(\d+)(?::\d+)?: (?:executing "[^"]*" at (<.*?>): )?(.*)$`)
})

// placed is an error of package template that says where it is as people do.
func placed(err error) error {
	m := place().FindStringSubmatch(err.Error())
	switch {
	case m == nil:
		return errors.New(strings.TrimPrefix(err.Error(), "template: "))
	case m[2] != "":
		return fmt.Errorf("line %s of the template, at %s: %s", m[1], m[2], m[3])
	}
	return fmt.Errorf("line %s of the template: %s", m[1], m[3])
}

// between returns what stands in s between two others.
func between(s, before, after string) (string, bool) {
	_, rest, ok := strings.Cut(s, before)
	if !ok {
		return "", false
	}
	inner, _, ok := strings.Cut(rest, after)
	return inner, ok
}
