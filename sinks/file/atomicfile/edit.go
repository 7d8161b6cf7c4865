package atomicfile

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"

	"golang.org/x/sys/unix"
)

// maxText is how large a text file may be that ReadText returns.
const maxText = 64 << 20

// ReadText returns the text of the file at p, and its description; nil if there is
// none. It refuses what is no regular file, a symbolic link included, and a file of more
// than 64 MiB.
func (p Place) ReadText() (*unix.Stat_t, []byte, error) {
	var st unix.Stat_t
	there, err := p.Stat(&st)
	switch {
	case err != nil || !there:
		return nil, nil, err
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return nil, nil, fmt.Errorf("%s is a symbolic link: name the file that it leads to", p.Path)
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, nil, fmt.Errorf("%s is not a regular file", p.Path)
	case st.Size > maxText:
		return nil, nil, fmt.Errorf("%s has %d bytes, which is more than the 64 MiB that are expected of a text file", p.Path, st.Size)
	}
	fd, err := p.Open(0, false, st.Uid)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer Close(fd)
	text := make([]byte, st.Size)
	n, err := Read(fd, text)
	if err != nil {
		return nil, nil, p.Error("read", err)
	}
	return &st, text[:n], nil
}

// attempts bounds how often an edit begins again because somebody else has changed the
// file meanwhile.
const attempts = 10

// editing serialises the edits of a file among the resources of this process, which run
// side by side. Two files may share a lock; no edit holds two.
var (
	editing [64]sync.Mutex
	seed    = maphash.MakeSeed()
)

// Edit replaces the text of the file at p by what edit makes of it, as Replace does, and
// reports whether it did. Edit gets no text if there is no file; it may be called again,
// with another text, and says that nothing is to be done by returning false. Any number
// of edits of a file may go on at once, in this process and in others that use Edit: none
// is lost. Found and Only of o have no effect.
func Edit(ctx context.Context, p Place, o Options, edit func(text []byte) (edited []byte, differs bool)) (bool, error) {
	mu := &editing[maphash.String(seed, p.Path)%uint64(len(editing))]
	mu.Lock()
	defer mu.Unlock()
	for range attempts {
		found, text, err := p.ReadText()
		if err != nil {
			return false, err
		}
		edited, differs := edit(text)
		if !differs {
			return false, nil
		}
		o.Found, o.Only = found, true
		err = Replace(ctx, p, o, func(t *Temp) error {
			_, err := t.Write(edited)
			return err
		})
		if !errors.Is(err, ErrChanged) {
			return err == nil, err
		}
	}
	return false, fmt.Errorf("editing %s %d times over: %w", p.Path, attempts, ErrChanged)
}
