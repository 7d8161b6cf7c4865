// Package line manages one line in a text file: that it is there, or that it is not.
package line

import (
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
	result := l.CheckApplyGroup(ctx, apply, []sinks.Resource{l})[0]
	return result.Outcome, result.Err
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
