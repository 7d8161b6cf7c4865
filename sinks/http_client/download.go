package httpclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
)

// noteEach is after how many bytes what has come is certain to be found again.
var noteEach int64 = 16 << 20

// attempts bounds how many requests a download may take.
const attempts = 10

// partPath is where the file at path grows, beside it.
func partPath(path string) string {
	h := fnv.New64a()
	h.Write([]byte(filepath.Base(path)))
	return filepath.Join(filepath.Dir(path), fmt.Sprintf(".mgmt-download-%016x", h.Sum64()))
}

// part is a file that is being downloaded.
type part struct {
	*os.File
	size   int64
	rec    record
	joined bool // from more than one answer
}

// download gets the file, which found describes if it is there, and puts it in place.
func (c *client) download(ctx context.Context, found *unix.Stat_t) error {
	p, err := c.openPart()
	if err != nil {
		return err
	}
	defer p.Close()
	err = c.fetch(ctx, p)
	if err == nil && c.sum != "" {
		err = c.verify(ctx, p)
		if p.joined && errors.Is(err, errChecksum) { // perhaps the parts are of different contents
			if err = p.reset(); err == nil {
				err = c.fetch(ctx, p)
			}
			if err == nil {
				err = c.verify(ctx, p)
			}
		}
	}
	if err != nil {
		if errors.Is(err, errChecksum) || p.size == 0 || p.rec.version() == "" {
			_ = os.Remove(p.Name())
			c.partial = record{}
		} else {
			c.note(p)
		}
		return err
	}
	if _, err := p.Seek(0, io.SeekStart); err != nil {
		return err
	}
	o := atomicfile.Options{Meta: atomicfile.Keep, Found: found}
	err = atomicfile.Replace(ctx, atomicfile.At(c.path), o, func(t *atomicfile.Temp) error {
		return t.Copy(int(p.Fd()), p.Name())
	})
	if err != nil {
		c.note(p)
		return err
	}
	_ = os.Remove(p.Name())
	c.partial = record{}
	var st unix.Stat_t
	if there, err := atomicfile.At(c.path).Stat(&st); err == nil && there && st.Size == p.size {
		c.remember(&st, p.rec, true)
	}
	return nil
}

// openPart opens the part, with what is there of it, if that can be continued.
func (c *client) openPart() (*part, error) {
	f, err := c.lockPart()
	if err != nil {
		return nil, err
	}
	p := &part{File: f}
	if p.rec, p.size = c.noted(f); p.size > 0 && c.method == http.MethodGet {
		err = f.Truncate(p.size) // what was written after the note may be damaged
		if err == nil {
			_, err = f.Seek(0, io.SeekEnd)
		}
	} else {
		err = p.reset()
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return p, nil
}

// lockPart opens the file of the part. The lock keeps other processes from writing to it.
func (c *client) lockPart() (*os.File, error) {
	path := partPath(c.path)
	const flags = os.O_RDWR | os.O_CREATE | unix.O_NOFOLLOW | unix.O_NONBLOCK
	for {
		f, err := os.OpenFile(path, flags, 0o600)
		if errors.Is(err, os.ErrNotExist) {
			if err := os.MkdirAll(filepath.Dir(c.path), 0o755); err != nil {
				return nil, err
			}
			f, err = os.OpenFile(path, flags, 0o600)
		}
		if err != nil {
			return nil, err
		}
		var st unix.Stat_t
		locked := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil
		err = unix.Fstat(int(f.Fd()), &st)
		switch {
		case err != nil:
		case st.Nlink == 0: // another process is done with it in this moment
			_ = f.Close()
			continue
		case st.Mode&unix.S_IFMT != unix.S_IFREG || int(st.Uid) != os.Geteuid() || st.Nlink != 1:
			err = fmt.Errorf("%s, in which %s is to grow, is no file of ours: remove it", path, c.path)
		case !locked:
			err = fmt.Errorf("another process is downloading %s", c.path)
		default:
			return f, nil
		}
		_ = f.Close()
		return nil, err
	}
}

// noted returns which content f is the beginning of, and how much of it is certain.
func (c *client) noted(f *os.File) (record, int64) {
	rec := c.partial
	if rec.Source == "" {
		b := make([]byte, 4096)
		n, err := unix.Fgetxattr(int(f.Fd()), attribute, b)
		if err != nil || json.Unmarshal(b[:n], &rec) != nil {
			return record{}, 0
		}
	}
	info, err := f.Stat()
	if err != nil || rec.Source != c.source() || rec.version() == "" || info.Size() < rec.Size {
		return record{}, 0
	}
	return rec, rec.Size
}

// reset begins anew.
func (p *part) reset() error {
	p.rec, p.size, p.joined = record{}, 0, false
	_ = unix.Fremovexattr(int(p.Fd()), attribute) // there may be none
	if err := p.Truncate(0); err != nil {
		return err
	}
	_, err := p.Seek(0, io.SeekStart)
	return err
}

// note writes down which content the part is the beginning of, for the next attempt, of
// this process or of another.
func (c *client) note(p *part) {
	c.partial = record{}
	if p.rec.version() == "" || unix.Fdatasync(int(p.Fd())) != nil {
		return
	}
	p.rec.Size = p.size
	c.partial = p.rec
	if b, err := json.Marshal(p.rec); err == nil {
		_ = unix.Fsetxattr(int(p.Fd()), attribute, b, 0)
	}
}

var (
	errChecksum = errors.New("the checksum is wrong")
	errRange    = errors.New("the server does not continue where it was asked to")
)

// verify compares the part with the checksum.
func (c *client) verify(ctx context.Context, p *part) error {
	if _, err := p.Seek(0, io.SeekStart); err != nil {
		return err
	}
	sum, err := checksum(ctx, atomicfile.At(p.Name()), int(p.Fd()))
	if err != nil {
		return err
	}
	if sum != c.sum {
		return fmt.Errorf("%s has the sha256 %s, expected %s: %w", bare(c.url), sum, c.sum, errChecksum)
	}
	return nil
}

// fetch fills the part. As long as each request brings it further it asks again, and once
// for the whole content if the server can't continue.
func (c *client) fetch(ctx context.Context, p *part) error {
	continues := true
	for i := 1; ; i++ {
		before := p.size
		err := c.request(ctx, p)
		switch {
		case err == nil && (p.rec.Total == 0 || p.size == p.rec.Total):
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			err = io.ErrUnexpectedEOF
		}
		further := p.size > before && p.rec.version() != "" || errors.Is(err, errRange)
		if !continues || !further || i == attempts || c.method != http.MethodGet {
			if p.size > 0 {
				return fmt.Errorf("after %d bytes of %s: %w", p.size, bare(c.url), err)
			}
			return err
		}
		continues = !errors.Is(err, errRange)
	}
}

// request asks the server for what is missing, and appends it to the part.
func (c *client) request(ctx context.Context, p *part) error {
	header := http.Header{}
	if p.size > 0 {
		if p.rec.version() == "" {
			if err := p.reset(); err != nil {
				return err
			}
		} else {
			header.Set("Range", fmt.Sprintf("bytes=%d-", p.size))
			header.Set("If-Range", p.rec.version())
		}
	}
	if p.rec.Total > 0 && p.size == p.rec.Total {
		return nil // only what comes after the download has failed
	}
	x, err := c.ask(ctx, header)
	if err != nil {
		return err
	}
	defer x.close()
	switch {
	case x.StatusCode == http.StatusPartialContent && p.size > 0:
		if !c.continues(p, x.Response) {
			return errors.Join(errRange, p.reset())
		}
		p.joined = true
	case x.StatusCode == http.StatusRequestedRangeNotSatisfiable && p.size > 0:
		return errors.Join(errRange, p.reset())
	case x.StatusCode == http.StatusOK || x.StatusCode == http.StatusCreated && c.method != http.MethodGet:
		if err := p.reset(); err != nil {
			return err
		}
		p.rec = c.recordOf(x.Response)
	default:
		return c.refused(x.Response)
	}
	for err == nil {
		var n int64
		n, err = io.CopyN(p.File, x, noteEach)
		if p.size += n; n == noteEach {
			c.note(p)
		}
	}
	if err != io.EOF {
		return x.failed(err)
	}
	if p.rec.Total > 0 && p.size > p.rec.Total {
		return errors.Join(errRange, p.reset())
	}
	return nil
}

// continues reports whether r is the rest of the part, and of no other content.
func (c *client) continues(p *part, r *http.Response) bool {
	unit, rest, _ := strings.Cut(r.Header.Get("Content-Range"), " ")
	span, whole, _ := strings.Cut(rest, "/")
	first, _, _ := strings.Cut(span, "-")
	start, err1 := strconv.ParseInt(first, 10, 64)
	total, err2 := strconv.ParseInt(whole, 10, 64)
	if !strings.EqualFold(unit, "bytes") || err1 != nil || err2 != nil || start != p.size || total < start {
		return false
	}
	now := c.recordOf(r)
	if now.ETag != p.rec.ETag && now.ETag != "" || now.Modified != p.rec.Modified && now.Modified != "" {
		return false
	}
	if p.rec.Total != 0 && p.rec.Total != total {
		return false
	}
	p.rec.Total = total
	return true
}
