// Package gzip manages a file that is compressed with gzip, made of another file or of a
// text.
package gzip

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
	"github.com/mgmtproject/mgmt/sinks/file/derived"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// Spec is the kind "gzip".
var Spec = sinks.Spec{Kind: "gzip", New: func() sinks.Config { return &Config{State: "exists", Level: gzip.DefaultCompression} }}

// Config is the desired state of a compressed file.
//
// It is written when the input has changed, or the compressed file itself: then it is
// replaced in one instant. Name and time of the input are not part of it, so that the
// same content is always compressed to the same bytes.
//
// A new file that is made of one which not everybody may read is readable for its owner
// only. One that is replaced keeps its owner and mode. Missing directories that lead to
// it are made.
type Config struct {
	// Path is the absolute path of the compressed file; the default is the resource's
	// name.
	Path string `param:"path"`

	// State is "exists" or "absent". With "absent" only the path counts, and what is there is
	// removed if it is a file.
	State string `param:"state" oneof:"exists absent"`

	// Input is the absolute path of the file that is compressed. A symbolic link is
	// followed.
	Input string `param:"input"`

	// Content is the text that is compressed, in place of input.
	Content *string `param:"content"`

	// Level is how hard to try, from 1, which is fast, to 9, which is small. 0 does not
	// compress, -1 is a good compromise, and -2 is faster than 1.
	Level int `param:"level"`
}

// compressed is a resource of this kind.
type compressed struct {
	file    derived.File
	input   string // empty for content
	content string
	level   int
}

// Build implements sinks.Config.
func (c *Config) Build(name string, _ sinks.Options) (sinks.Resource, error) {
	param, path := "path", c.Path
	if path == "" {
		param, path = "name", name
	}
	clean, err := atomicfile.Clean(path)
	switch {
	case err != nil && param == "name":
		return nil, fmt.Errorf("%w: give path, or an absolute path as name", err)
	case err != nil:
		return nil, &sinks.ParamError{Param: param, Err: err}
	case strings.HasSuffix(path, "/"):
		return nil, &sinks.ParamError{Param: "path", Err: fmt.Errorf("%s is a directory, as the slash at its end says", path)}
	case c.State == absent:
		return &derived.Absent{Path: clean}, nil
	case c.Input == "" && c.Content == nil:
		return nil, &sinks.ParamError{Param: "input", Err: errors.New("it is missing: give the file to compress, or a text as content")}
	case c.Input != "" && c.Content != nil:
		return nil, &sinks.ParamError{Param: "content", Err: errors.New("it can't be given together with input: each says what is compressed")}
	case c.Level < gzip.HuffmanOnly || c.Level > gzip.BestCompression:
		return nil, &sinks.ParamError{Param: "level", Err: fmt.Errorf("%d is not from %d to %d", c.Level, gzip.HuffmanOnly, gzip.BestCompression)}
	}
	z := &compressed{file: derived.File{Path: clean}, level: c.Level}
	if c.Content != nil {
		z.content = *c.Content
		return z, nil
	}
	z.input, err = atomicfile.Clean(c.Input)
	switch {
	case err != nil:
		return nil, &sinks.ParamError{Param: "input", Err: err}
	case strings.HasSuffix(c.Input, "/"):
		return nil, &sinks.ParamError{Param: "input", Err: fmt.Errorf("%s is a directory, as the slash at its end says: a tar resource makes one file of it", c.Input)}
	case z.input == clean:
		return nil, &sinks.ParamError{Param: "input", Err: errors.New("it is the path itself")}
	}
	return z, nil
}

// Owns implements sinks.Owner.
func (z *compressed) Owns() []string { return []string{"path " + z.file.Path} }

// Keeps implements sinks.Keeper.
func (z *compressed) Keeps() []string {
	if z.input == "" {
		return nil
	}
	return []string{"path " + z.input}
}

// Watches implements sinks.Resource.
func (z *compressed) Watches() []sources.Watch {
	ws := []sources.Watch{inotify.Path(z.file.Path)}
	if z.input != "" {
		ws = append(ws, inotify.Path(z.input))
	}
	return ws
}

var (
	_ sinks.Owner  = (*compressed)(nil)
	_ sinks.Keeper = (*compressed)(nil)
)

// CheckApply implements sinks.Resource.
func (z *compressed) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if z.input == "" {
		return z.file.CheckApply(ctx, apply, z.text)
	}
	return z.file.CheckApply(ctx, apply, func() (derived.Want, error) { return z.copy(ctx) })
}

// text is a compressed text.
func (z *compressed) text() (derived.Want, error) {
	return derived.Want{Summary: fmt.Sprintf("%d bytes, compressed", len(z.content)), Write: func(to io.Writer) error {
		return z.compress(to, func(w io.Writer) error {
			_, err := io.WriteString(w, z.content)
			return err
		})
	}}, nil
}

// copy is a compressed file.
func (z *compressed) copy(ctx context.Context) (derived.Want, error) {
	p := atomicfile.At(z.input)
	var st unix.Stat_t
	if err := unix.Stat(z.input, &st); err != nil {
		return derived.Want{}, p.Error("stat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return derived.Want{}, fmt.Errorf("%s is not a regular file", z.input)
	}
	var own unix.Stat_t
	if there, err := atomicfile.At(z.file.Path).Stat(&own); err == nil && there && own.Ino == st.Ino && own.Dev == st.Dev {
		return derived.Want{}, fmt.Errorf("%s and %s are the same file", z.input, z.file.Path)
	}
	return derived.Want{
		Inputs:  []atomicfile.Stamp{atomicfile.StampOf(&st)},
		Private: st.Mode&0o004 == 0,
		Summary: fmt.Sprintf("%d bytes, compressed", st.Size),
		Write: func(to io.Writer) error {
			fd, err := p.Open(0, true, st.Uid)
			if err != nil {
				return err
			}
			defer atomicfile.Close(fd)
			var now unix.Stat_t
			if err := unix.Fstat(fd, &now); err != nil {
				return p.Error("fstat", err)
			}
			if now.Ino != st.Ino || now.Dev != st.Dev || now.Mode != st.Mode {
				return fmt.Errorf("%s: %w", z.input, atomicfile.ErrChanged)
			}
			return z.compress(to, func(w io.Writer) error { return z.read(ctx, p, fd, w) })
		},
	}, nil
}

// read copies the open file fd, which p names.
func (z *compressed) read(ctx context.Context, p atomicfile.Place, fd int, to io.Writer) error {
	buf := make([]byte, 256<<10)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := atomicfile.Read(fd, buf)
		if err != nil {
			return p.Error("read", err)
		}
		if _, err := to.Write(buf[:n]); err != nil || n < len(buf) {
			return err
		}
	}
}

// compress writes to to what fill writes, compressed.
func (z *compressed) compress(to io.Writer, fill func(io.Writer) error) error {
	w, err := gzip.NewWriterLevel(to, z.level)
	if err != nil {
		return err
	}
	if err := fill(w); err != nil {
		return err
	}
	return w.Close()
}
