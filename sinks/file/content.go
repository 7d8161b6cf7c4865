package file

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
)

// part is a piece of what a regular file shall hold: a text, or all of another file.
type part struct {
	text   string
	from   atomicfile.Place // used if its Path is set
	follow bool             // from may be a symbolic link
}

// body is the content that a regular file shall have. Nil is none that is managed.
type body []part

const bufferSize = 64 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// self claims a file to be ours when its owner is not known, for Place.Open.
var self = uint32(os.Geteuid())

// fragments is the content that is made of all files that paths name. A directory
// stands for the regular files in it, in the order of their names, without those whose
// name begins with a dot: editors and this program keep unfinished files under such.
func fragments(paths []string) (body, error) {
	b := body{}
	for _, path := range paths {
		st, err := statSource(path)
		if err != nil {
			return nil, err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			b = append(b, part{from: atomicfile.At(path), follow: true})
			continue
		}
		fd, names, err := open(atomicfile.At(path), true, st.Uid)
		if err != nil {
			return nil, err
		}
		atomicfile.Close(fd)
		for _, name := range names {
			if strings.HasPrefix(name, ".") {
				continue
			}
			path := filepath.Join(path, name)
			if st, err = statSource(path); err != nil {
				return nil, err
			}
			if st.Mode&unix.S_IFMT == unix.S_IFREG {
				b = append(b, part{from: atomicfile.At(path), follow: true})
			}
		}
	}
	return b, nil
}

// statSource describes what is to be copied, behind any links.
func statSource(path string) (*unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return &st, nil
}

// size is the length of b in bytes, or -1 if it shows only on reading, as with files of
// /proc.
func (b body) size() (int64, error) {
	var n int64
	for _, p := range b {
		if p.from.Path == "" {
			n += int64(len(p.text))
			continue
		}
		var st unix.Stat_t
		flags := unix.AT_SYMLINK_NOFOLLOW
		if p.follow {
			flags = 0
		}
		if err := unix.Fstatat(p.from.Dir, p.from.Name, &st, flags); err != nil {
			return 0, p.from.Error("stat", err)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			return 0, fmt.Errorf("%s is a %s, so there is no content to take from it", p.from.Path, kindOf(st.Mode))
		}
		if st.Size == 0 {
			return -1, nil
		}
		n += st.Size
	}
	return n, nil
}

// same reports whether the rest of the open file fd, which p names, is b.
func (b body) same(ctx context.Context, fd int, p atomicfile.Place) (bool, error) {
	got := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(got)
	if len(b) == 1 && b[0].from.Path == "" {
		return sameText(ctx, fd, p, got[:], b[0].text)
	}
	want := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(want)
	s := stream{rest: b, fd: -1}
	defer s.close()
	for {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		n, err := s.read(want[:])
		if err != nil {
			return false, err
		}
		m, err := atomicfile.Read(fd, got[:])
		switch {
		case err != nil:
			return false, p.Error("read", err)
		case string(got[:m]) != string(want[:n]):
			return false, nil
		case n < len(want):
			return true, nil
		}
	}
}

// sameText compares with a text of the same size as the file had a moment ago.
func sameText(ctx context.Context, fd int, p atomicfile.Place, buf []byte, text string) (bool, error) {
	for text != "" {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		n, err := atomicfile.Read(fd, buf[:min(len(buf), len(text))])
		switch {
		case err != nil:
			return false, p.Error("read", err)
		case n == 0 || string(buf[:n]) != text[:n]:
			return false, nil
		}
		text = text[n:]
	}
	return true, nil
}

// write puts b into t.
func (b body) write(t *atomicfile.Temp) error {
	for _, p := range b {
		if p.from.Path == "" {
			if err := writeText(t, p.text); err != nil {
				return err
			}
			continue
		}
		fd, err := p.open()
		if err != nil {
			return err
		}
		err = t.Copy(fd, p.from.Path)
		atomicfile.Close(fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// writeText spares a copy of all of the text as bytes.
func writeText(t *atomicfile.Temp, text string) error {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	for text != "" {
		n := copy(buf[:], text)
		if _, err := t.Write(buf[:n]); err != nil {
			return err
		}
		text = text[n:]
	}
	return nil
}

// open opens the file that p takes its content from. It is a regular file: a pipe or
// device that was put there since size looked is refused.
func (p part) open() (int, error) {
	fd, err := p.from.Open(0, p.follow, self)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = unix.EINVAL
	}
	if err != nil {
		atomicfile.Close(fd)
		return -1, p.from.Error("open", err)
	}
	return fd, nil
}

// stream reads a body from its beginning to its end.
type stream struct {
	rest []part
	off  int // in the text of the first part
	fd   int // of the first part, or -1
}

// read fills buf as far as the body goes.
func (s *stream) read(buf []byte) (int, error) {
	n := 0
	for n < len(buf) && len(s.rest) > 0 {
		p := s.rest[0]
		if p.from.Path == "" {
			m := copy(buf[n:], p.text[s.off:])
			n, s.off = n+m, s.off+m
			if s.off == len(p.text) {
				s.next()
			}
			continue
		}
		if s.fd < 0 {
			var err error
			if s.fd, err = p.open(); err != nil {
				return n, err
			}
		}
		m, err := atomicfile.Read(s.fd, buf[n:])
		if err != nil {
			return n, p.from.Error("read", err)
		}
		if n += m; n < len(buf) {
			s.next()
		}
	}
	return n, nil
}

func (s *stream) next() {
	s.close()
	s.rest, s.off = s.rest[1:], 0
}

func (s *stream) close() {
	if s.fd >= 0 {
		atomicfile.Close(s.fd)
		s.fd = -1
	}
}

// show is b, of size bytes, as a change shows it. Whatever can't be read is left out:
// the change itself does not depend on it.
func (b body) show(size int64) string {
	if len(b) == 1 && b[0].from.Path == "" {
		if text := b[0].text; utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 {
			return text // as Text would, but without copies
		}
		return sinks.Text([]byte(b[0].text))
	}
	if size < 0 {
		size = sinks.MaxText
	}
	s := stream{rest: b, fd: -1}
	defer s.close()
	buf := make([]byte, size)
	n, err := s.read(buf)
	if err != nil {
		return ""
	}
	return sinks.Text(buf[:n])
}

// showFile is the content of an open file as a change shows it.
func showFile(fd int, size int64) string {
	b := make([]byte, size)
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return bytesOf(size)
	}
	n, err := atomicfile.Read(fd, b)
	if err != nil {
		return bytesOf(size)
	}
	return sinks.Text(b[:n])
}

// bytesOf is a content that is not shown.
func bytesOf(size int64) string {
	if size < 0 {
		return "(of unknown size)"
	}
	return fmt.Sprintf("(%d bytes)", size)
}
