// Package password makes a random password once, and keeps it.
package password

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
	"github.com/mgmtproject/mgmt/sinks/file/derived"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// Spec is the kind "password".
var Spec = sinks.Spec{Kind: "password", New: func() sinks.Config { return &Config{State: "exists", Length: 64} }}

// Config is the desired state of a password.
//
// It consists of letters and digits (5.95 bits each) from the random numbers of the
// system. A new one is made when there is none of the right length, and when the
// resource is notified.
//
// It sends password, the password itself. It is never shown in a log or a change.
type Config struct {
	// Length is the number of characters, up to 1024.
	Length int `param:"length"`

	// Saved keeps the password in a file. Without it the password lives as long as this run
	// of mgmt.
	Saved bool `param:"saved"`

	// Path is the absolute path of the file that holds the password, and a new line
	// after it, if saved is set. The default is a file in the directory in which mgmt
	// keeps what belongs to this graph, below its prefix. Its mode is 0600, and it must
	// belong to the user of mgmt or to root; it may not be a symbolic link. A password
	// that somebody else has put there is kept if it has the right length and no blanks.
	// Missing directories that lead to it are made.
	Path string `param:"path"`

	// State is "exists" or "absent". With "absent" the file of a password that is saved is
	// removed.
	State string `param:"state" oneof:"exists absent"`
}

const maxLength = 1024

// password is a resource of this kind.
type password struct {
	length int
	path   string // empty for one that is not saved, or has no place
	home   bool   // path is one of our own
	saved  bool
	kept   string // one that is not saved; empty if there is none yet
}

// Build implements sinks.Config.
func (c *Config) Build(name string, opts sinks.Options) (sinks.Resource, error) {
	w := &password{length: c.Length, saved: c.Saved}
	switch {
	case c.Length < 1 || c.Length > maxLength:
		return nil, &sinks.ParamError{Param: "length", Err: fmt.Errorf("%d is not from 1 to %d", c.Length, maxLength)}
	case !c.Saved && c.Path != "":
		return nil, &sinks.ParamError{Param: "path", Err: errors.New("it has no effect: to have the password saved there, set saved")}
	case !c.Saved && c.State == absent:
		return nil, &sinks.ParamError{Param: "state", Err: errors.New("a password that is not saved leaves nothing behind: set saved and path")}
	case !c.Saved || c.Path == "" && opts.Dir == "":
		return w, nil
	case strings.HasSuffix(c.Path, "/"):
		return nil, &sinks.ParamError{Param: "path", Err: fmt.Errorf("%s is a directory, as the slash at its end says", c.Path)}
	}
	path := c.Path
	if path == "" {
		w.home, path = true, homePath(opts.Dir, name)
	}
	var err error
	if w.path, err = atomicfile.Clean(path); err != nil {
		return nil, &sinks.ParamError{Param: "path", Err: err}
	}
	if c.State == absent {
		return &derived.Absent{Path: w.path}, nil
	}
	return w, nil
}

// Owns implements sinks.Owner.
func (w *password) Owns() []string {
	if w.path == "" {
		return nil
	}
	return []string{"path " + w.path}
}

// Watches implements sinks.Resource.
func (w *password) Watches() []sources.Watch {
	if w.path == "" {
		return nil
	}
	return []sources.Watch{inotify.Path(w.path)}
}

var (
	_ sinks.Owner     = (*password)(nil)
	_ sinks.Refresher = (*password)(nil)
)

// CheckApply implements sinks.Resource.
func (w *password) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	return w.do(ctx, apply, false)
}

// Refresh implements sinks.Refresher: it makes a new password.
func (w *password) Refresh(ctx context.Context, apply bool) (sinks.Outcome, error) {
	return w.do(ctx, apply, true)
}

// do has a password be there, another one if anew is set.
func (w *password) do(ctx context.Context, apply, anew bool) (sinks.Outcome, error) {
	if ctx.Err() != nil {
		return sinks.Outcome{}, context.Cause(ctx)
	}
	if w.path != "" {
		return w.inFile(ctx, apply, anew)
	}
	if w.saved {
		return sinks.Outcome{}, errHomeless
	}
	if w.kept != "" && !anew {
		return sends(sinks.Outcome{}, w.kept), nil
	}
	out := sinks.Outcome{Changed: true, Changes: []sinks.Change{w.change(w.kept != "")}}
	if !apply {
		return out, nil
	}
	w.kept = generate(w.length)
	return sends(out, w.kept), nil
}

// inFile is do for a password that is saved.
func (w *password) inFile(ctx context.Context, apply, anew bool) (sinks.Outcome, error) {
	p := atomicfile.At(w.path)
	found, text, err := p.ReadText()
	if err != nil {
		return sinks.Outcome{}, err
	}
	if found != nil && found.Uid != 0 && int(found.Uid) != os.Geteuid() {
		return sinks.Outcome{}, fmt.Errorf("%s belongs to user %d, who may know what is in it: remove it, or name another file", w.path, found.Uid)
	}
	var out sinks.Outcome
	current, ok := w.in(text)
	anew = anew || !ok
	if anew {
		out.Changed = true
		out.Changes = append(out.Changes, w.change(found != nil))
	}
	meta := atomicfile.Meta{UID: -1, GID: -1, Mode: 0o600}
	if found != nil && meta.Differs(found) {
		out.Changed = true
		out.Changes = append(out.Changes, sinks.Change{Field: "mode", From: fmt.Sprintf("%04o", found.Mode&0o7777), To: "0600"})
	}
	switch {
	case !out.Changed:
		return sends(out, current), nil
	case !apply:
		return out, nil
	case !anew:
		if err := p.Set(meta, found); err != nil {
			return sinks.Outcome{}, err
		}
		return sends(out, current), nil
	}
	if w.home {
		if err := makeHome(filepath.Dir(w.path)); err != nil {
			return sinks.Outcome{}, err
		}
	}
	// Whoever gets the password may rely on it at once: so it survives a power cut.
	o := atomicfile.Options{Meta: meta, Parents: true, Durable: true}
	_, err = atomicfile.Edit(ctx, p, o, func(now []byte) ([]byte, bool) {
		if other, ok := w.in(now); ok && string(now) != string(text) {
			current = other // somebody was quicker
			return nil, false
		}
		current = generate(w.length)
		return []byte(current + "\n"), true
	})
	if err != nil {
		return sinks.Outcome{}, err
	}
	return sends(out, current), w.mend(p, meta)
}

// mend sets the mode of a file that somebody else was quicker to write.
func (w *password) mend(p atomicfile.Place, meta atomicfile.Meta) error {
	var st unix.Stat_t
	there, err := p.Stat(&st)
	if err != nil || !there || !meta.Differs(&st) {
		return err
	}
	return p.Set(meta, &st)
}

// in returns the password that the text of the file holds. It reports false if that is
// none, or none of the right length.
func (w *password) in(text []byte) (string, bool) {
	s := strings.TrimSuffix(string(text), "\n")
	if len(s) != w.length {
		return "", false
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return "", false
		}
	}
	return s, true
}

// change says that a password is made, and nothing of it.
func (w *password) change(another bool) sinks.Change {
	c := sinks.Change{Field: "password", From: "absent", To: fmt.Sprintf("(%d characters)", w.length)}
	if another {
		c.From = "another"
	}
	return c
}

func sends(out sinks.Outcome, password string) sinks.Outcome {
	out.Values = map[string]any{"password": password}
	return out
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// generate returns n characters, each of the alphabet with the same probability: a
// random byte that would favour the first ones is thrown away.
func generate(n int) string {
	const even = 256 / len(alphabet) * len(alphabet)
	made := make([]byte, 0, n)
	random := make([]byte, 64)
	for {
		_, _ = rand.Read(random) // it never fails
		for _, b := range random {
			if int(b) >= even {
				continue
			}
			if made = append(made, alphabet[int(b)%len(alphabet)]); len(made) == n {
				return string(made)
			}
		}
	}
}
