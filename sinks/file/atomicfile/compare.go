package atomicfile

import (
	"context"
	"errors"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// A Stamp changes when a file does: its content, owner or mode. Stamps are compared
// with ==.
type Stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

// StampOf returns the stamp of the file that st describes.
func StampOf(st *unix.Stat_t) Stamp { return Stamp{st.Dev, st.Ino, st.Size, st.Mtim, st.Ctim} }

// Settled reports whether a change after the time at must lead to another stamp: the
// clock of a filesystem ticks slowly, so one that follows right upon another may not.
func (s Stamp) Settled(at time.Time) bool {
	return time.Unix(s.ctime.Unix()).Before(at.Add(-time.Second))
}

// Holds reports whether the regular file at p holds exactly what fill writes. As soon as
// it does not, the Write that fill calls fails, and so may fill.
func (p Place) Holds(ctx context.Context, fill func(io.Writer) error) (bool, error) {
	fd, err := p.Open(0, false, euid)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer Close(fd)
	c := &comparison{ctx: ctx, p: p, fd: fd}
	err = fill(c)
	switch {
	case c.err != nil:
		return false, c.err
	case c.differs:
		return false, nil
	case err != nil:
		return false, err
	}
	n, err := Read(fd, c.buf[:1])
	return n == 0 && err == nil, p.Error("read", err)
}

// errDiffers ends a fill that has nothing to find out any more.
var errDiffers = errors.New("the content differs")

// comparison reads a file beside what is written to it.
type comparison struct {
	ctx     context.Context
	p       Place
	fd      int
	buf     [32 << 10]byte
	differs bool
	err     error
}

// Write implements io.Writer.
func (c *comparison) Write(b []byte) (int, error) {
	for done := 0; done < len(b); {
		if c.ctx.Err() != nil {
			c.err = context.Cause(c.ctx)
			return done, c.err
		}
		want := b[done:min(len(b), done+len(c.buf))]
		n, err := Read(c.fd, c.buf[:len(want)])
		if err != nil {
			c.err = c.p.Error("read", err)
			return done, c.err
		}
		if string(c.buf[:n]) != string(want) {
			c.differs = true
			return done, errDiffers
		}
		done += n
	}
	return len(b), nil
}
