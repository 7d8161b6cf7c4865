package httpclient

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
)

// attribute is the extended attribute in which a record lies beside the content.
const attribute = "user.mgmt.http_client"

// record is what a server says of a content, and of which file it has become. A file that
// somebody has written to since then has none.
type record struct {
	Source   string `json:"source"` // a hash of the address, which may hold a password
	ETag     string `json:"etag,omitempty"`
	Modified string `json:"modified,omitempty"` // the header Last-Modified
	Strong   bool   `json:"strong,omitempty"`   // good enough to continue a download
	Total    int64  `json:"total,omitempty"`    // in bytes, if known

	Size  int64         `json:"size"`
	Mtime unix.Timespec `json:"mtime"`
}

// recordOf is what r says of the content.
func (c *client) recordOf(r *http.Response) record {
	rec := record{Source: c.source(), ETag: r.Header.Get("ETag"), Modified: r.Header.Get("Last-Modified"), Total: max(r.ContentLength, 0)}
	if rec.ETag != "" {
		rec.Strong = strings.HasPrefix(rec.ETag, `"`)
		return rec
	}
	// A time alone tells versions apart if it was over when it was told (RFC 9110, 8.8.2.2).
	modified, err1 := http.ParseTime(rec.Modified)
	now, err2 := http.ParseTime(r.Header.Get("Date"))
	rec.Strong = err1 == nil && err2 == nil && now.Sub(modified) >= time.Second
	return rec
}

func (c *client) source() string {
	sum := sha256.Sum256([]byte(c.url.String()))
	return hex.EncodeToString(sum[:])
}

// version names a content to the server, for If-Range; empty if nothing can.
func (r record) version() string {
	switch {
	case !r.Strong:
		return ""
	case r.ETag != "":
		return r.ETag
	}
	return r.Modified
}

// of reports whether r is the record of the file that st describes.
func (r record) of(st *unix.Stat_t, source string) bool {
	return r.Source == source && r.Size == st.Size && r.Mtime == st.Mtim
}

// recall is what is known of the file that found describes, the zero record if nothing.
// What is written on a file of somebody else is not believed.
func (c *client) recall(found *unix.Stat_t) record {
	if c.known.of(found, c.source()) {
		return c.known
	}
	b := make([]byte, 4096)
	n, err := unix.Lgetxattr(c.path, attribute, b)
	if err != nil || found.Uid != 0 && int(found.Uid) != os.Geteuid() {
		return record{}
	}
	var rec record
	if json.Unmarshal(b[:n], &rec) != nil || !rec.of(found, c.source()) {
		return record{}
	}
	return rec
}

// remember takes note that the file which found describes is what rec says. It writes it
// on the file where that is possible, for the next run of the program, if lasting is set.
func (c *client) remember(found *unix.Stat_t, rec record, lasting bool) {
	rec.Size, rec.Mtime = found.Size, found.Mtim
	if rec == c.known {
		return // to write it again would wake us, and that for ever
	}
	c.known = rec
	if b, err := json.Marshal(rec); err == nil && lasting {
		_ = unix.Lsetxattr(c.path, attribute, b, 0)
	}
}

// summed reports whether the file has the checksum. It reads it only if it has changed.
func (c *client) summed(ctx context.Context, found *unix.Stat_t) (bool, error) {
	began := time.Now()
	stamp := atomicfile.StampOf(found)
	if stamp == c.hashed {
		return true, nil
	}
	p := atomicfile.At(c.path)
	fd, err := p.Open(0, false, found.Uid)
	if err != nil {
		return false, err
	}
	defer atomicfile.Close(fd)
	sum, err := checksum(ctx, p, fd)
	if err != nil || sum != c.sum {
		return false, err
	}
	if stamp.Settled(began) {
		c.hashed = stamp
	}
	return true, nil
}

// checksum reads the open file fd, which p names, from where it is.
func checksum(ctx context.Context, p atomicfile.Place, fd int) (string, error) {
	h := sha256.New()
	if err := readAll(ctx, h, p, fd); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
