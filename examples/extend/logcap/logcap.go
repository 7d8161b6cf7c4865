// Package logcap is a kind of one's own: it empties a log file that has grown too large.
package logcap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// Spec is the kind "logcap".
var Spec = sinks.Spec{Kind: "logcap", New: func() sinks.Config { return &Config{Max: 1 << 20} }}

// Config is the largest size of a log file.
type Config struct {
	// Path is absolute; the default is the resource's name.
	Path string `param:"path"`

	// Max is the size in bytes above which the file is emptied.
	Max int64 `param:"max"`
}

// Build implements sinks.Config.
func (c *Config) Build(name string, _ sinks.Options) (sinks.Resource, error) {
	l := &logcap{path: c.Path, max: c.Max}
	if l.path == "" {
		l.path = name
	}
	switch {
	case !filepath.IsAbs(l.path):
		return nil, &sinks.ParamError{Param: "path", Err: fmt.Errorf("%q is not absolute", l.path)}
	case l.max < 0:
		return nil, &sinks.ParamError{Param: "max", Err: fmt.Errorf("%d is negative", l.max)}
	}
	return l, nil
}

type logcap struct {
	path string
	max  int64
}

// Watches implements sinks.Resource.
func (l *logcap) Watches() []sources.Watch { return []sources.Watch{inotify.Path(l.path)} }

// CheckApply implements sinks.Resource.
func (l *logcap) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if ctx.Err() != nil {
		return sinks.Outcome{}, context.Cause(ctx)
	}
	info, err := os.Stat(l.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return sinks.Outcome{}, nil
	case err != nil:
		return sinks.Outcome{}, err
	case info.Size() <= l.max:
		return sinks.Outcome{}, nil
	}
	out := sinks.Outcome{Changed: true, Changes: []sinks.Change{
		{Field: "size", From: fmt.Sprint(info.Size()), To: "0"},
	}}
	if !apply {
		return out, nil
	}
	return out, os.Truncate(l.path, 0)
}
