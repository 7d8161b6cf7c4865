// Package sshauthorizedkey manages one key in a file of keys that may log in through SSH.
package sshauthorizedkey

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// Spec is the kind "ssh_authorized_key".
var Spec = sinks.Spec{Kind: "ssh_authorized_key", New: func() sinks.Config { return &Config{State: exists, Mkdir: true} }}

// Config is the desired state of a key.
//
// The key itself tells which line is meant: a line with the same key but other options,
// or another comment, is changed in its place. Further lines with the same key are
// removed, since they would let somebody in without the options. All other lines are
// left as they are, and readers see the file before or after a change and never in
// between. A new key goes to the end of the file. Any number of keys of one file may be
// managed side by side.
//
// The file belongs to the user, with mode 0600, and so does its directory, with mode
// 0700, if file is not given. A symbolic link on the way to the file is followed only if
// it belongs to root, or to whom mgmt runs as: else the user could have the file of
// somebody else changed.
type Config struct {
	// User is the name or number of the user whose key it is.
	User string `param:"user"`

	// File is the absolute path of the file; the default is .ssh/authorized_keys in the
	// home directory of the user. It may not be a symbolic link. If it is given without
	// user, its owner and mode are left alone; a new file has mode 0600.
	File string `param:"file"`

	// State is "exists" or "absent".
	State string `param:"state" oneof:"exists absent"`

	// Type is the type of the key, such as ssh-ed25519. It may be left out, since the
	// key says it too.
	Type string `param:"type"`

	// Key is the key in base64: the long part of a line of a .pub file.
	Key string `param:"key"`

	// Options restrict what can be done with the key, such as no-pty or
	// from="192.0.2.0/24", as sshd(8) describes them. Without it there are to be none.
	Options []string `param:"options"`

	// Comment stands at the end of the line. Without it any comment is right, and a new
	// line has none.
	Comment *string `param:"comment"`

	// Content is a whole line, as in a .pub file, in place of type, key, options and
	// comment.
	Content string `param:"content"`

	// Mkdir makes the directory of the file, with mode 0700, if it is missing. What leads
	// to the directory must be there.
	Mkdir bool `param:"mkdir"`
}

const (
	exists = "exists"
	absent = "absent"
)

// authorizedKey is a resource of this kind.
type authorizedKey struct {
	user       string
	file       string // empty for that of the user
	want       entry
	anyComment bool
	absent     bool
	mkdir      bool

	watched atomic.Pointer[string] // the file that is watched, empty for none; nil before Watches
}

// Build implements sinks.Config.
func (c *Config) Build(string, sinks.Options) (sinks.Resource, error) {
	k := &authorizedKey{user: c.User, absent: c.State == absent, mkdir: c.Mkdir}
	switch {
	case c.User == "" && c.File == "":
		return nil, &sinks.ParamError{Param: "user", Err: errors.New("it is missing: give the user whose key it is, or file")}
	case strings.HasSuffix(c.File, "/"):
		return nil, &sinks.ParamError{Param: "file", Err: fmt.Errorf("%s is a directory, as the slash at its end says", c.File)}
	case c.State != "" && c.State != exists && c.State != absent:
		return nil, &sinks.ParamError{Param: "state", Err: fmt.Errorf("%q is neither exists nor absent", c.State)}
	}
	var err error
	if c.File != "" {
		if k.file, err = atomicfile.Clean(c.File); err != nil {
			return nil, &sinks.ParamError{Param: "file", Err: err}
		}
	}
	if k.want, err = c.entry(); err != nil {
		return nil, err
	}
	k.anyComment = c.Content == "" && c.Comment == nil
	return k, nil
}

// entry is the line that the parameters describe.
func (c *Config) entry() (entry, error) {
	if c.Content != "" {
		for _, other := range []struct {
			param string
			given bool
		}{{"type", c.Type != ""}, {"key", c.Key != ""}, {"options", len(c.Options) > 0}, {"comment", c.Comment != nil}} {
			if other.given {
				return entry{}, &sinks.ParamError{Param: other.param, Err: errors.New("it can't be given together with content, which is the whole line")}
			}
		}
		e, err := parseContent(strings.TrimSuffix(c.Content, "\n"))
		if err != nil {
			return entry{}, &sinks.ParamError{Param: "content", Err: err}
		}
		return e, nil
	}
	if c.Key == "" {
		return entry{}, &sinks.ParamError{Param: "key", Err: errors.New("it is missing: give the key in base64, or a whole line as content")}
	}
	e := entry{options: strings.Join(c.Options, ",")}
	var err error
	if e.kind, e.blob, err = parseKey(c.Key); err != nil {
		return entry{}, &sinks.ParamError{Param: "key", Err: err}
	}
	if c.Type != "" && c.Type != e.kind {
		return entry{}, &sinks.ParamError{Param: "type", Err: fmt.Errorf("it is %q, but the key is of type %s", c.Type, e.kind)}
	}
	for _, o := range c.Options {
		if one, rest := cutOptions(o); o == "" || one != o || rest != "" {
			return entry{}, &sinks.ParamError{Param: "options", Err: fmt.Errorf("%q is empty, or has a blank, a new line or a single quotation mark where there may be none", o)}
		}
	}
	if c.Comment != nil {
		e.comment = strings.TrimSpace(*c.Comment)
		if strings.ContainsAny(e.comment, "\n\r\x00") {
			return entry{}, &sinks.ParamError{Param: "comment", Err: fmt.Errorf("%q is more than one line", e.comment)}
		}
	}
	return e, nil
}

// Owns implements sinks.Owner: a key is not to be with and without options at once.
func (k *authorizedKey) Owns() []string {
	where := k.file
	if where == "" {
		where = "the file of " + k.user
	}
	return []string{fmt.Sprintf("authorized key %s in %s", k.want.fingerprint(), where)}
}

// Keeps implements sinks.Keeper: the file is not removed by a directory that is purged.
func (k *authorizedKey) Keeps() []string {
	h, err := k.holder()
	if err != nil {
		return nil
	}
	return []string{"path " + h.path}
}

// Watches implements sinks.Resource. Where the file of a user is can't be said before
// there is the user: until then the database of users is watched.
func (k *authorizedKey) Watches() []sources.Watch {
	h, err := k.holder()
	if err != nil {
		k.watched.Store(new(string))
		return []sources.Watch{inotify.Path(passwd)}
	}
	k.watched.Store(&h.path)
	ws := []sources.Watch{inotify.Path(h.path)}
	if k.file == "" {
		ws = append(ws, inotify.Path(filepath.Dir(h.path)))
	}
	if k.user != "" {
		ws = append(ws, inotify.Path(passwd))
	}
	return ws
}

// rewatch reports whether another file than the one at path is watched: the user has come
// into being, or has moved.
func (k *authorizedKey) rewatch(path string) bool {
	watched := k.watched.Load()
	return watched != nil && *watched != path
}

var (
	_ sinks.Owner  = (*authorizedKey)(nil)
	_ sinks.Keeper = (*authorizedKey)(nil)
)

// CheckApply implements sinks.Resource.
func (k *authorizedKey) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	result := k.CheckApplyGroup(ctx, apply, []sinks.Resource{k})[0]
	return result.Outcome, result.Err
}

// directory opens the directory of the file; -1 if there is none. It makes it and sets
// its owner and mode, or says in out that it would.
func (k *authorizedKey) directory(h holder, out *sinks.Outcome, apply bool) (int, error) {
	path := filepath.Dir(h.path)
	fd, err := enter(path)
	switch {
	case err == nil && (k.absent || k.file != ""):
		return fd, nil
	case err == nil:
		err := k.mend(atomicfile.Place{Dir: fd, Name: ".", Path: path}, h.meta(0o700), out, apply)
		if err != nil {
			atomicfile.Close(fd)
			return -1, err
		}
		return fd, nil
	case k.absent && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)):
		return -1, nil
	case !errors.Is(err, fs.ErrNotExist):
		return -1, err
	case !k.mkdir:
		return -1, fmt.Errorf("%w: it is not made, as mkdir says", err)
	}
	out.Changed = true
	out.Changes = append(out.Changes, sinks.Change{Field: "mkdir", From: absent, To: path})
	above, err := enter(filepath.Dir(path))
	if err != nil && apply {
		return -1, err
	}
	if err != nil {
		return -1, nil // what it depends on may be only about to come
	}
	defer atomicfile.Close(above)
	if !apply {
		return -1, nil
	}
	p := atomicfile.Place{Dir: above, Name: filepath.Base(path), Path: path}
	if err := p.Mkdir(0o700, false); err != nil && !errors.Is(err, fs.ErrExist) {
		return -1, err
	}
	fd, err = enterNext(above, p.Name, path)
	if err != nil {
		return -1, err
	}
	meta := h.meta(0o700)
	meta.GID = h.gid
	if err := k.mend(atomicfile.Place{Dir: fd, Name: ".", Path: path}, meta, &sinks.Outcome{}, true); err != nil {
		atomicfile.Close(fd)
		return -1, err
	}
	return fd, nil
}

// mend sets the owner and mode of what is at p, or says in out that it would.
func (k *authorizedKey) mend(p atomicfile.Place, meta atomicfile.Meta, out *sinks.Outcome, apply bool) error {
	var st unix.Stat_t
	switch there, err := p.Stat(&st); {
	case err != nil || !there:
		return err
	case !meta.Differs(&st):
		return nil
	}
	if apply {
		if err := p.Set(meta, &st); err != nil {
			return err
		}
	}
	describe(&st, meta, out)
	return nil
}

// describe adds to out how the file that st describes is not as meta wants it.
func describe(st *unix.Stat_t, meta atomicfile.Meta, out *sinks.Outcome) {
	out.Changed = true
	what := "file"
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		what = "directory"
	}
	if meta.UID >= 0 && int(st.Uid) != meta.UID {
		out.Changes = append(out.Changes, sinks.Change{Field: "owner of the " + what, From: fmt.Sprint(st.Uid), To: fmt.Sprint(meta.UID)})
	}
	if mode := int(st.Mode & 0o7777); meta.Mode >= 0 && mode != meta.Mode {
		out.Changes = append(out.Changes, sinks.Change{Field: "mode of the " + what, From: fmt.Sprintf("%04o", mode), To: fmt.Sprintf("%04o", meta.Mode)})
	}
}
