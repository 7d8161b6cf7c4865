// Package httpserverfile has a web server serve one file.
package httpserverfile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
	"github.com/mgmtproject/mgmt/sinks/http_server/site"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// Spec is the kind "http_server_file".
var Spec = sinks.Spec{Kind: "http_server_file", New: func() sinks.Config { return &Config{} }}

// Config is a file that an http_server serves, as long as the resource is in the graph.
// It is served from when the resource is applied first, which counts as a change.
//
// Its type is that of the ending of its name, or what its beginning looks like.
type Config struct {
	// Server is the name of the http_server resource.
	Server string `param:"server"`

	// Filename is the path in the address, which begins with a slash; the default is the
	// resource's name.
	Filename string `param:"filename"`

	// Path is the absolute path of a file on this host, which is read each time that
	// somebody asks. Symbolic links are followed.
	Path string `param:"path"`

	// Data is the content, in place of path.
	Data *string `param:"data"`
}

// file is a resource of this kind.
type file struct {
	server string
	name   string // in the address
	path   string // on this host; empty if there is data
	data   *site.File
	site   *site.Site
	log    *slog.Logger

	warn   sync.Once
	served *site.File // what was put into the site; nil for nothing
}

// Build implements sinks.Config.
func (c *Config) Build(name string, opts sinks.Options) (sinks.Resource, error) {
	f := &file{server: c.Server, name: c.Filename, log: opts.Logger()}
	if f.name == "" {
		f.name = name
	}
	wrong := ""
	switch clean := path.Clean(f.name); {
	case !strings.HasPrefix(f.name, "/"):
		wrong = "does not begin with a slash"
	case strings.HasSuffix(f.name, "/") && f.name != "/":
		wrong = "is a directory, as the slash at its end says"
	case clean != f.name:
		wrong = fmt.Sprintf("is nothing that browsers ask for: write %s", clean)
	}
	switch {
	case wrong != "" && c.Filename == "":
		return nil, fmt.Errorf("%q %s: give filename, or a path as name", f.name, wrong)
	case wrong != "":
		return nil, &sinks.ParamError{Param: "filename", Err: fmt.Errorf("%q %s", f.name, wrong)}
	case c.Server == "":
		return nil, &sinks.ParamError{Param: "server", Err: errors.New("it is missing: give the name of an http_server")}
	case c.Path != "" && c.Data != nil:
		return nil, &sinks.ParamError{Param: "data", Err: errors.New("it can't be given together with path: each says what the file is")}
	case c.Path == "" && c.Data == nil:
		return nil, &sinks.ParamError{Param: "data", Err: errors.New("it is missing, and so is path: give what is to be served")}
	}
	if c.Path != "" {
		var err error
		if f.path, err = atomicfile.Clean(c.Path); err == nil && strings.HasSuffix(c.Path, "/") {
			err = fmt.Errorf("%s is a directory, as the slash at its end says: serve one as root of an http_server", c.Path)
		}
		if err != nil {
			return nil, &sinks.ParamError{Param: "path", Err: err}
		}
	} else {
		f.data = site.Text(*c.Data)
	}
	f.site = site.Of(opts.Space(), c.Server)
	return f, nil
}

// Owns implements sinks.Owner.
func (f *file) Owns() []string {
	return []string{"file " + f.name + " of http_server " + f.server}
}

// Keeps implements sinks.Keeper: a directory that is purged does not lose what is served.
func (f *file) Keeps() []string {
	if f.path == "" {
		return nil
	}
	return []string{"path " + f.path}
}

// Watches implements sinks.Resource. The file is read when somebody asks for it, so it
// only matters whether it is there.
func (f *file) Watches() []sources.Watch {
	if f.path == "" {
		return nil
	}
	return []sources.Watch{inotify.Path(f.path)}
}

var (
	_ sinks.Owner  = (*file)(nil)
	_ sinks.Keeper = (*file)(nil)
	_ sinks.Closer = (*file)(nil)
)

// CheckApply implements sinks.Resource.
func (f *file) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if ctx.Err() != nil {
		return sinks.Outcome{}, context.Cause(ctx)
	}
	from := "(the data)"
	if f.path != "" {
		from = f.path
		if info, err := os.Stat(f.path); err != nil {
			return sinks.Outcome{}, err
		} else if !info.Mode().IsRegular() {
			return sinks.Outcome{}, fmt.Errorf("%s is not a regular file", f.path)
		}
	}
	if f.site.Has(f.name, f.served) {
		return sinks.Outcome{}, nil
	}
	out := sinks.Outcome{Changed: true, Changes: []sinks.Change{{Field: "filename", From: "(not served)", To: f.name + " from " + from}}}
	if !apply {
		return out, nil
	}
	f.served = f.data
	if f.path != "" {
		f.served = site.Path(f.path)
	}
	if !f.site.Put(f.name, f.served) {
		f.warn.Do(func() { f.log.Warn("no server of that name listens", "server", f.server) })
	}
	return out, nil
}

// Close implements sinks.Closer.
func (f *file) Close() error {
	f.site.Remove(f.name, f.served)
	return nil
}
