// Package tar manages a tar archive that is made of files and directories of this host.
package tar

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
	"github.com/mgmtproject/mgmt/sinks/file/derived"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// Spec is the kind "tar".
var Spec = sinks.Spec{Kind: "tar", New: func() sinks.Config { return &Config{State: "exists", Format: "pax"} }}

// Config is the desired state of an archive.
//
// The archive is written when what it is made of has changed, or the archive itself:
// then it is replaced in one instant. It follows from the names, modes and contents of
// the inputs alone, so that the same inputs make the same archive everywhere: members
// are in the order of their names, belong to root, and have been modified in 1970. Hard
// links are files of their own. What is neither file, directory nor symbolic link can't
// be archived; links are not followed.
//
// A new archive is readable for its owner only, unless everybody may read all of the
// inputs. One that is replaced keeps its owner and mode. Missing directories that lead
// to it are made.
type Config struct {
	// Path is the absolute path of the archive; the default is the resource's name.
	Path string `param:"path"`

	// State is "exists" or "absent". With "absent" only the path counts, and what is there is
	// removed if it is a file.
	State string `param:"state" oneof:"exists absent"`

	// Inputs are the absolute paths of files and directories. Each is in the archive
	// by its last element, with everything in it; of a directory that ends with a
	// slash there is only what is in it. No two files may have the same name.
	Inputs []string `param:"inputs"`

	// Format is "ustar", which is read everywhere but has no long names or large files,
	// "pax" or "gnu".
	Format string `param:"format" oneof:"ustar pax gnu"`
}

var formats = map[string]tar.Format{"": tar.FormatPAX, "pax": tar.FormatPAX, "ustar": tar.FormatUSTAR, "gnu": tar.FormatGNU}

// archive is a resource of this kind.
type archive struct {
	file   derived.File
	inputs []input
	format tar.Format
}

// input is a path that is archived.
type input struct {
	path  string // clean
	slash bool   // what is in it, and not itself
}

// Build implements sinks.Config.
func (c *Config) Build(name string, _ sinks.Options) (sinks.Resource, error) {
	param, path := "path", c.Path
	if path == "" {
		param, path = "name", name
	}
	clean, err := atomicfile.Clean(path)
	format, known := formats[c.Format]
	switch {
	case err != nil && param == "name":
		return nil, fmt.Errorf("%w: give path, or an absolute path as name", err)
	case err != nil:
		return nil, &sinks.ParamError{Param: param, Err: err}
	case strings.HasSuffix(path, "/"):
		return nil, &sinks.ParamError{Param: "path", Err: fmt.Errorf("%s is a directory, as the slash at its end says", path)}
	case c.State == absent:
		return &derived.Absent{Path: clean}, nil
	case len(c.Inputs) == 0:
		return nil, &sinks.ParamError{Param: "inputs", Err: errors.New("they are missing: give the files and directories to archive")}
	case !known:
		return nil, &sinks.ParamError{Param: "format", Err: fmt.Errorf("%q is neither ustar, pax nor gnu", c.Format)}
	}
	a := &archive{file: derived.File{Path: clean}, format: format}
	for _, text := range c.Inputs {
		in := input{slash: strings.HasSuffix(text, "/")}
		if in.path, err = atomicfile.Clean(text); err != nil {
			return nil, &sinks.ParamError{Param: "inputs", Err: err}
		}
		if in.path == "/" {
			return nil, &sinks.ParamError{Param: "inputs", Err: errors.New("the root directory is refused: it holds the archive")}
		}
		if clean == in.path || strings.HasPrefix(clean, in.path+"/") {
			return nil, &sinks.ParamError{Param: "inputs", Err: fmt.Errorf("%s holds the archive %s itself", in.path, clean)}
		}
		a.inputs = append(a.inputs, in)
	}
	return a, nil
}

// Owns implements sinks.Owner.
func (a *archive) Owns() []string { return []string{"path " + a.file.Path} }

// Keeps implements sinks.Keeper.
func (a *archive) Keeps() []string {
	var keeps []string
	for _, in := range a.inputs {
		keeps = append(keeps, "path "+in.path)
	}
	return keeps
}

// Watches implements sinks.Resource.
func (a *archive) Watches() []sources.Watch {
	ws := []sources.Watch{inotify.Path(a.file.Path)}
	for _, in := range a.inputs {
		ws = append(ws, inotify.Tree(in.path))
	}
	return ws
}

var (
	_ sinks.Owner  = (*archive)(nil)
	_ sinks.Keeper = (*archive)(nil)
)

// CheckApply implements sinks.Resource.
func (a *archive) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	return a.file.CheckApply(ctx, apply, func() (derived.Want, error) {
		w, err := a.walk(ctx)
		if err != nil {
			return derived.Want{}, err
		}
		want := derived.Want{
			Inputs:  w.looked,
			Private: w.private,
			Write:   func(to io.Writer) error { return a.write(ctx, w.members, to) },
		}
		want.Summary = fmt.Sprintf("%d members", len(w.members))
		if len(w.members) == 1 {
			want.Summary = "1 member"
		}
		return want, nil
	})
}

// write writes the archive of members.
func (a *archive) write(ctx context.Context, members []member, to io.Writer) error {
	w := tar.NewWriter(to)
	for _, m := range members {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := a.add(ctx, w, m); err != nil {
			return err
		}
	}
	return w.Close()
}

// epoch is when every member has been modified.
var epoch = time.Unix(0, 0)

// add writes one member.
func (a *archive) add(ctx context.Context, w *tar.Writer, m member) error {
	h := &tar.Header{Name: m.name, Mode: int64(m.st.Mode & 0o7777), ModTime: epoch, Format: a.format}
	switch m.st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, m.name+"/"
	case unix.S_IFLNK:
		h.Typeflag, h.Linkname = tar.TypeSymlink, m.target
	default:
		h.Typeflag = tar.TypeReg
		return a.addFile(ctx, w, m, h)
	}
	return adding(m, w.WriteHeader(h))
}

// addFile writes a file as it is now: a growing one may have grown.
func (a *archive) addFile(ctx context.Context, w *tar.Writer, m member, h *tar.Header) error {
	p := atomicfile.At(m.path)
	fd, err := p.Open(0, false, m.st.Uid)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("%s: %w", m.path, atomicfile.ErrChanged)
	}
	if err != nil {
		return err
	}
	defer atomicfile.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return p.Error("fstat", err)
	}
	if st.Ino != m.st.Ino || st.Dev != m.st.Dev || st.Mode != m.st.Mode {
		return fmt.Errorf("%s: %w", m.path, atomicfile.ErrChanged)
	}
	h.Size = st.Size
	if err := w.WriteHeader(h); err != nil {
		return adding(m, err)
	}
	buf := make([]byte, min(st.Size, 256<<10))
	for left := st.Size; left > 0; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := atomicfile.Read(fd, buf[:min(left, int64(len(buf)))])
		switch {
		case err != nil:
			return p.Error("read", err)
		case n == 0:
			return fmt.Errorf("%s is shorter than it was: %w", m.path, atomicfile.ErrChanged)
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return adding(m, err)
		}
		left -= int64(n)
	}
	return nil
}

func adding(m member, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("adding %s to the archive: %w", m.path, err)
}
