// Package line manages one line in a text file: that it is there, or that it is not.
package line

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// Spec is the kind "line".
var Spec = sinks.Spec{Kind: "line", New: func() sinks.Config { return &Config{State: exists} }}

// Config is the desired state of a line.
//
// The rest of the file is left as it is, its owner, mode and other attributes included;
// readers see it before or after a change and never in between. Any number of lines of
// the same file may be managed side by side. A line that is missing goes to the end of
// the file. If the file is missing, it is made, with the directories that lead to it.
type Config struct {
	// File is the absolute path of the text file, of at most 64 MiB. It may not be a
	// symbolic link.
	File string `param:"file"`

	// State is "exists" or "absent". Absent removes every line that is equal.
	State string `param:"state" oneof:"exists absent"`

	// Content is the line, without its end.
	Content string `param:"content"`

	// Trim compares without white space at the beginning and the end of lines.
	Trim bool `param:"trim"`
}

const (
	exists = "exists"
	absent = "absent"
)

// line is a resource of this kind.
type line struct {
	path    string
	content string
	absent  bool
	trim    bool
}

// Build implements sinks.Config.
func (c *Config) Build(string, sinks.Options) (sinks.Resource, error) {
	content := strings.TrimSuffix(c.Content, "\n") // a YAML block text ends with one
	if c.Trim {
		content = strings.TrimSpace(content)
	}
	path, err := atomicfile.Clean(c.File)
	switch {
	case c.File == "":
		return nil, &sinks.ParamError{Param: "file", Err: errors.New("it is missing: give the path of the text file")}
	case err != nil:
		return nil, &sinks.ParamError{Param: "file", Err: err}
	case strings.HasSuffix(c.File, "/"):
		return nil, &sinks.ParamError{Param: "file", Err: fmt.Errorf("%s is a directory, as the slash at its end says", c.File)}
	case c.State != "" && c.State != exists && c.State != absent:
		return nil, &sinks.ParamError{Param: "state", Err: fmt.Errorf("%q is neither exists nor absent", c.State)}
	case content == "":
		return nil, &sinks.ParamError{Param: "content", Err: errors.New("it is missing: give the line")}
	case strings.ContainsAny(content, "\n\r"):
		return nil, &sinks.ParamError{Param: "content", Err: fmt.Errorf("%q is more than one line", content)}
	}
	return &line{path: path, content: content, absent: c.State == absent, trim: c.Trim}, nil
}

// Owns implements sinks.Owner: a line is not to exist and be absent at once.
func (l *line) Owns() []string { return []string{fmt.Sprintf("line %q in %s", l.content, l.path)} }

// Keeps implements sinks.Keeper.
func (l *line) Keeps() []string { return []string{"path " + l.path} }

// Watches implements sinks.Resource.
func (l *line) Watches() []sources.Watch { return []sources.Watch{inotify.Path(l.path)} }

var (
	_ sinks.Owner  = (*line)(nil)
	_ sinks.Keeper = (*line)(nil)
)

// CheckApply implements sinks.Resource.
func (l *line) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if ctx.Err() != nil {
		return sinks.Outcome{}, context.Cause(ctx)
	}
	found, text, err := l.read()
	if err != nil || l.right(text) {
		return sinks.Outcome{}, err
	}
	out := sinks.Outcome{Changed: true, Changes: []sinks.Change{l.change(found)}}
	if !apply {
		return out, nil
	}
	o := atomicfile.Options{Meta: atomicfile.Keep, Parents: true}
	edited, err := atomicfile.Edit(ctx, atomicfile.At(l.path), o, func(text []byte) ([]byte, bool) {
		if l.right(text) { // another resource may have made it so
			return nil, false
		}
		return l.edited(text), true
	})
	if !edited {
		return sinks.Outcome{}, err
	}
	return out, err
}

// change is the difference that was found. A line of a file that not everybody may read
// is not shown.
func (l *line) change(found *unix.Stat_t) sinks.Change {
	text := l.content
	if found != nil && found.Mode&0o004 == 0 {
		text = fmt.Sprintf("(%d bytes)", len(text))
	}
	if l.absent {
		return sinks.Change{Field: "content", From: text}
	}
	return sinks.Change{Field: "content", To: text}
}

// read returns the text of the file, and its description; nil if there is none.
func (l *line) read() (*unix.Stat_t, []byte, error) {
	found, text, err := atomicfile.At(l.path).ReadText()
	if l.absent && errors.Is(err, unix.ENOTDIR) {
		return nil, nil, nil
	}
	return found, text, err
}

// right reports whether the line is in text, or not, as it shall be.
func (l *line) right(text []byte) bool {
	for each := range bytes.Lines(text) {
		if l.matches(each) {
			return !l.absent
		}
	}
	return l.absent
}

// matches reports whether got, with its end, is the line.
func (l *line) matches(got []byte) bool {
	if l.trim {
		return string(bytes.TrimSpace(got)) == l.content
	}
	if got, ended := bytes.CutSuffix(got, []byte("\n")); ended {
		return string(bytes.TrimSuffix(got, []byte("\r"))) == l.content
	}
	return string(got) == l.content
}

// edited returns text with the line at its end, or without it wherever it is.
func (l *line) edited(text []byte) []byte {
	if l.absent {
		kept := make([]byte, 0, len(text))
		for each := range bytes.Lines(text) {
			if !l.matches(each) {
				kept = append(kept, each...)
			}
		}
		return kept
	}
	end := "\n"
	if first, _, ok := bytes.Cut(text, []byte("\n")); ok && bytes.HasSuffix(first, []byte("\r")) {
		end = "\r\n"
	}
	longer := bytes.Clone(text)
	if len(text) > 0 && text[len(text)-1] != '\n' {
		longer = append(longer, end...)
	}
	return append(append(longer, l.content...), end...)
}
