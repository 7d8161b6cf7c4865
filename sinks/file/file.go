// Package file manages one file, directory or symbolic link: whether it is there, what
// it holds, whose it is and who may use it.
package file

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// Spec is the kind "file".
var Spec = sinks.Spec{Kind: "file", New: func() sinks.Config { return &Config{} }}

// Config is the desired state of a file, directory or symbolic link.
//
// A new content takes the place of the old one in one instant: whoever reads the file
// sees one or the other. A file that is replaced keeps what is not managed of its owner,
// group, mode, access control list and other extended attributes; hard links to it keep
// the old content. Missing parent directories are made, with mode 0755 less the umask.
//
// A symbolic link at the path is never followed, since whoever owns the link would
// decide which file is written: where content is managed, the link is replaced by a
// file. Links in the directories that lead to the path are followed as usual.
//
// A change is shown with the old and the new text, unless the file is larger than 64 KiB
// or, before or after, not readable for everybody: then with their sizes.
type Config struct {
	// Path is absolute; the default is the resource's name. A path that ends with a
	// slash is that of a directory.
	Path string `param:"path"`

	// Dirname is the directory of the path, in place of that of the name. Together
	// with path it must agree with it.
	Dirname string `param:"dirname"`

	// Basename is the last element of the path, in place of that of the name.
	// Together with path it must agree with it.
	Basename string `param:"basename"`

	// State is "exists" or "absent". It need not be given beside content, source,
	// fragments, template, template_file or symlink, which imply that the file exists. If
	// it is empty and none of these is given, the file is neither made nor removed, but
	// has its owner, group and mode kept for as long as it exists. With "absent" all
	// parameters that describe the file have no effect.
	State string `param:"state" oneof:"exists absent"`

	// Content is the whole text of the file. An empty text makes an empty file;
	// without this parameter the content is left alone.
	Content *string `param:"content"`

	// Source is the absolute path of a file on this host whose content the file
	// shall have. For a directory it is a directory which is copied with everything in
	// it; this needs recurse. Symbolic links in it are copied as links. A new file
	// takes its mode, less the umask, from the source.
	Source string `param:"source"`

	// Fragments are absolute paths of files whose contents, one after the other, make
	// up the content. A directory stands for the files in it in the order of their
	// names, without subdirectories and without names that begin with a dot. What a
	// symbolic link in it leads to is read, but not watched.
	Fragments []string `param:"fragments"`

	// Template is a text from which the content is made, in the language of Go's
	// text/template: "{{ .host }}" stands for what data has under host. Missing data is an
	// error. There are the functions of the library sprig ("{{ .host | upper | quote }}"),
	// without those whose result is not the same each time, or depends on more than the
	// template and data: dates, random numbers, new keys, the environment, names of hosts.
	// Keys and values of a mapping come in the order of the keys. The versions of semver,
	// derivePassword and decryptAES are not there either.
	Template *string `param:"template"`

	// TemplateFile is the absolute path of a file with a template. It is watched: when it
	// changes, the content is made anew.
	TemplateFile string `param:"template_file"`

	// Data is what a template is filled in with, by name. Structure may be given as JSON:
	// "{{ range fromJson .hosts }}".
	Data map[string]string `param:"data"`

	// Owner is the name or number of the user who shall own the file. A number is
	// never taken for a name.
	Owner string `param:"owner"`

	// Group is the name or number of the group of the file.
	Group string `param:"group"`

	// Mode is octal ("0644") or symbolic as for chmod ("ug=rw,o=r", "u+x", "a-w"). A
	// symbolic mode without u, g or o is for all three, whatever the umask. With
	// recurse an octal mode is that of files; directories get the right to enter
	// beside every right to read.
	Mode string `param:"mode" mode:"octal"`

	// Recurse makes source, owner, group and mode of a directory hold for everything
	// in it. Symbolic links in it are not followed.
	Recurse bool `param:"recurse"`

	// Force permits to replace a directory by a file or the other way round, to
	// replace a device, socket or named pipe, and to remove a directory that is not
	// empty.
	Force bool `param:"force"`

	// Purge removes from a directory what nobody manages: with source all that the
	// source lacks, otherwise everything. It spares what other resources of the graph
	// manage, and mount points, and follows no symbolic link.
	Purge bool `param:"purge"`

	// Symlink makes the path a symbolic link to this target. The target is not
	// checked and may be relative.
	Symlink string `param:"symlink"`

	// Durable waits until a change is safe from a power cut. Without it a change that
	// a power cut undoes is made again by the next run.
	Durable bool `param:"durable"`
}

// want is what shall be at the path.
type want int

const (
	wantSame    want = iota // whatever is there, with owner, group and mode
	wantFile                // a regular file
	wantDir                 // a directory
	wantSymlink             // a symbolic link
	wantNothing
)

// file is a resource of this kind.
type file struct {
	path   string // clean, without a slash at its end
	want   want
	slash  bool // a directory is meant, even if absent
	create bool // if it is missing; for wantSame an empty file

	text      body   // of a content that is given, or nil
	maker     *maker // of a content that is made of a template in a file, or nil
	source    string
	fragments []string
	target    string // of a symbolic link

	owner, group account
	mode         mode

	recurse, force, purge, durable bool

	sending *sending // nil if nobody receives anything
}

// Build implements sinks.Config.
func (c *Config) Build(name string, opts sinks.Options) (sinks.Resource, error) {
	path, slash, err := c.path(name)
	if err != nil {
		return nil, err
	}
	f := &file{
		path: path, slash: slash, create: c.State == "exists",
		source: c.Source, fragments: slices.Clone(c.Fragments), target: c.Symlink,
		recurse: c.Recurse, force: c.Force, purge: c.Purge, durable: c.Durable,
	}
	if f.owner, err = parseAccount(users, c.Owner); err != nil {
		return nil, &sinks.ParamError{Param: "owner", Err: err}
	}
	if f.group, err = parseAccount(groups, c.Group); err != nil {
		return nil, &sinks.ParamError{Param: "group", Err: err}
	}
	if f.mode, err = parseMode(c.Mode); err != nil {
		return nil, &sinks.ParamError{Param: "mode", Err: err}
	}
	if f.source != "" {
		if f.source, err = atomicfile.Clean(f.source); err != nil {
			return nil, &sinks.ParamError{Param: "source", Err: err}
		}
	}
	for i, path := range f.fragments {
		if f.fragments[i], err = atomicfile.Clean(path); err != nil {
			return nil, &sinks.ParamError{Param: "fragments", Err: err}
		}
	}
	if c.Content != nil {
		f.text = body{{text: *c.Content}}
	}
	if err := f.templates(c); err != nil {
		return nil, err
	}
	if err := c.contradiction(f); err != nil {
		return nil, err
	}
	given := c.given()
	f.create = f.create || len(given) > 0
	switch {
	case c.State == "absent":
		f.want, f.create = wantNothing, false
	case f.target != "":
		f.want = wantSymlink
	case slash:
		f.want = wantDir
	case len(given) > 0:
		f.want = wantFile
	}
	if f.sending, err = f.newSending(opts.Sends); err != nil {
		return nil, err
	}
	if f.want == wantDir && (f.recurse || f.purge) {
		return &tree{file: f}, nil
	}
	return f, nil
}

// path composes the path of the resource, without the slash that it may end with.
func (c *Config) path(name string) (path string, slash bool, err error) {
	param, path := "path", c.Path
	if path == "" {
		param, path = "name", name
	}
	if c.Dirname != "" {
		dir, err := atomicfile.Clean(c.Dirname)
		if err != nil {
			return "", false, &sinks.ParamError{Param: "dirname", Err: err}
		}
		base := filepath.Base(path)
		if strings.HasSuffix(path, "/") {
			base += "/"
		}
		if c.Path != "" && filepath.Dir(filepath.Clean(path)) != dir {
			return "", false, contradict("dirname", "it is %s, but path is %s", c.Dirname, c.Path)
		}
		path = strings.TrimSuffix(dir, "/") + "/" + base
	}
	if c.Basename != "" {
		base := strings.TrimSuffix(c.Basename, "/")
		if base == "" || base == "." || base == ".." || strings.Contains(base, "/") {
			return "", false, contradict("basename", "%q is not the name of a file in a directory", c.Basename)
		}
		if c.Path != "" && filepath.Base(path) != base {
			return "", false, contradict("basename", "it is %s, but path is %s", c.Basename, c.Path)
		}
		if c.Path == "" {
			dir, _ := filepath.Split(strings.TrimRight(path, "/"))
			path = dir + c.Basename
		}
	}
	slash = strings.HasSuffix(path, "/")
	if path, err = atomicfile.Clean(path); err != nil {
		if param == "name" {
			return "", false, fmt.Errorf("%w: give path, or an absolute path as name", err)
		}
		return "", false, &sinks.ParamError{Param: param, Err: err}
	}
	return path, slash, nil
}

func contradict(param, format string, args ...any) error {
	return &sinks.ParamError{Param: param, Err: fmt.Errorf(format, args...)}
}

// given lists the parameters that say what the file is. There may be one at most.
func (c *Config) given() []string {
	var given []string
	if c.Content != nil {
		given = append(given, "content")
	}
	if c.Source != "" {
		given = append(given, "source")
	}
	if c.Fragments != nil {
		given = append(given, "fragments")
	}
	if c.Template != nil {
		given = append(given, "template")
	}
	if c.TemplateFile != "" {
		given = append(given, "template_file")
	}
	if c.Symlink != "" {
		given = append(given, "symlink")
	}
	return given
}

// contradiction says which parameters can't stand together.
func (c *Config) contradiction(f *file) error {
	given := c.given()
	switch {
	case c.State != "" && c.State != "exists" && c.State != "absent":
		return contradict("state", "%q is neither exists nor absent", c.State)
	case len(given) > 1:
		return contradict(given[1], "it can't be given together with %s: each says what the file is", given[0])
	case f.slash && len(given) == 1 && given[0] != "source":
		return contradict(given[0], "%s/ is a directory, as the slash at its end says", f.path)
	case c.Symlink != "" && c.Mode != "":
		return contradict("mode", "a symbolic link has none")
	case strings.ContainsRune(c.Symlink, 0):
		return contradict("symlink", "%q contains a zero byte", c.Symlink)
	case c.Recurse && !f.slash:
		return contradict("recurse", "%s is not a directory: one ends with a slash", f.path)
	case c.Purge && !f.slash:
		return contradict("purge", "%s is not a directory: one ends with a slash", f.path)
	case f.slash && c.Source != "" && !c.Recurse:
		return contradict("source", "to copy a directory, set recurse")
	case !f.slash && strings.HasSuffix(c.Source, "/"):
		return contradict("source", "%s is a directory, so path must end with a slash, too", c.Source)
	case f.source == f.path:
		return contradict("source", "it is the path itself")
	case f.slash && f.source != "" && (within(f.source, f.path) || within(f.path, f.source)):
		return contradict("source", "%s and %s lie in each other", f.source, f.path)
	case slices.Contains(f.fragments, f.path):
		return contradict("fragments", "the path itself is among them")
	case f.maker != nil && f.maker.path == f.path:
		return contradict("template_file", "it is the path itself")
	case f.path == "/" && (c.Purge || c.State == "absent" || c.Recurse):
		return contradict("path", "purge, recurse and absent are refused for the root directory")
	}
	return nil
}

// within reports whether path lies below dir. Both are clean.
func within(path, dir string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(dir, "/"))
	return ok && len(rest) > 1 && rest[0] == '/'
}

// Owns implements sinks.Owner.
func (f *file) Owns() []string { return []string{"path " + f.path} }

// Keeps implements sinks.Keeper: a directory that is purged does not lose what this
// file is made from.
func (f *file) Keeps() []string {
	var keeps []string
	if f.source != "" {
		keeps = append(keeps, "path "+f.source)
	}
	for _, path := range f.fragments {
		keeps = append(keeps, "path "+path)
	}
	if f.maker != nil {
		keeps = append(keeps, "path "+f.maker.path)
	}
	return keeps
}

// Watches implements sinks.Resource. The databases of users and groups are watched
// since a name may come to stand for another number.
func (f *file) Watches() []sources.Watch {
	ws := []sources.Watch{inotify.Path(f.path)}
	switch {
	case f.want == wantNothing && f.slash && !f.force: // it may go once it is empty
		return []sources.Watch{inotify.Tree(f.path)}
	case f.want == wantNothing:
		return ws
	case f.recurse || f.purge:
		ws[0] = inotify.Tree(f.path)
	}
	if f.source != "" {
		if f.slash {
			ws = append(ws, inotify.Tree(f.source))
		} else {
			ws = append(ws, inotify.Path(f.source))
		}
	}
	for _, path := range f.fragments {
		ws = append(ws, inotify.Tree(path))
	}
	if f.maker != nil {
		ws = append(ws, inotify.Path(f.maker.path))
	}
	if f.owner.named() {
		ws = append(ws, inotify.Path(users.file))
	}
	if f.group.named() {
		ws = append(ws, inotify.Path(groups.file))
	}
	return ws
}

var (
	_ sinks.Owner        = (*file)(nil)
	_ sinks.Keeper       = (*file)(nil)
	_ sinks.SiblingAware = (*tree)(nil)
)
