package site

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// File is what is served at one path: a text, or a file of this host as it is when it is
// asked for.
type File struct {
	path string
	text string
	etag string
}

// Text serves a text.
func Text(text string) *File {
	return &File{text: text, etag: fmt.Sprintf(`"%x"`, sha256.Sum256([]byte(text)))}
}

// Path serves the file at an absolute path of this host, also behind symbolic links.
func Path(path string) *File { return &File{path: path} }

// ServeHTTP implements http.Handler.
func (f *File) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.path == "" {
		w.Header().Set("ETag", f.etag)
		http.ServeContent(w, r, path.Base(r.URL.Path), time.Time{}, strings.NewReader(f.text))
		return
	}
	file, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe would block
	if err != nil {
		fail(w, r, err)
		return
	}
	defer file.Close()
	serveFile(w, r, file)
}

// serveFile serves an open file, if it is a regular one, with the type that the name in
// the address has.
func serveFile(w http.ResponseWriter, r *http.Request, f *os.File) {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		http.NotFound(w, r)
		return
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		w.Header().Set("ETag", tag(st))
	}
	name := path.Base(r.URL.Path)
	if strings.HasSuffix(r.URL.Path, "/") {
		name = index
	}
	http.ServeContent(w, r, name, info.ModTime(), f)
}

// tag tells the contents of files apart: each write changes a time, and each file that
// takes the place of another has a number of its own. While another write could come at
// the same time, by the clock of the file system, the tag is weak: no download goes on by it.
func tag(st *syscall.Stat_t) string {
	mtime, ctime := unix.TimespecToNsec(unix.Timespec(st.Mtim)), unix.TimespecToNsec(unix.Timespec(st.Ctim))
	weak := ""
	if time.Since(time.Unix(0, ctime)) < 2*time.Second {
		weak = "W/"
	}
	return fmt.Sprintf(`%s"%x-%x-%x-%x"`, weak, st.Ino, st.Size, mtime, ctime)
}
