// Package site is where a web server and the files that it serves meet: the files are
// resources of their own, which come and go while the server runs, and may be there before
// it.
package site

import (
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"sync"
	"syscall"

	"github.com/mgmtproject/mgmt/sinks"
)

// Site holds what one server serves. It may be used by any goroutines at once.
type Site struct {
	mu      sync.RWMutex
	files   map[string]*File
	root    string // a directory that is served, too; empty if none is
	servers int    // that serve it now
}

type key struct{ server string }

// Of returns the site of the server of that name in a run.
func Of(space *sinks.Shared, server string) *Site {
	return space.Value(key{server}, func() any { return &Site{files: map[string]*File{}} }).(*Site)
}

// Has reports whether f is what is served at path.
func (s *Site) Has(path string, f *File) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return f != nil && s.files[path] == f
}

// Put serves f at path, in place of what was served there. It reports whether a server
// is there.
func (s *Site) Put(path string, f *File) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = f
	return s.servers > 0
}

// Remove ends what Put began, unless something else has taken its place.
func (s *Site) Remove(path string, f *File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files[path] == f {
		delete(s.files, path)
	}
}

// Open has a server begin to serve the site, with a directory for what no file is, or
// none if root is empty. The function ends it.
func (s *Site) Open(root string) (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.root = root
	s.servers++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.servers--
	})
}

// ServeHTTP implements http.Handler. A file goes before what is in the directory.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "mgmt")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD are answered", http.StatusMethodNotAllowed)
		return
	}
	s.mu.RLock()
	f, root := s.files[r.URL.Path], s.root
	s.mu.RUnlock()
	switch {
	case f != nil:
		f.ServeHTTP(w, r)
	case root != "":
		serveTree(w, r, root)
	default:
		http.NotFound(w, r)
	}
}

// index is what is served of a directory.
const index = "index.html"

// serveTree serves what is in the directory at root. Nothing is listed, names that begin
// with a dot are not there, and no symbolic link leads out.
func serveTree(w http.ResponseWriter, r *http.Request, root string) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	slash := name == "" || strings.HasSuffix(name, "/")
	name = strings.TrimSuffix(name, "/")
	if name == "" {
		name = "."
	}
	// What is not written as it would be listed (//, /./, /../) is nowhere.
	if !strings.HasPrefix(r.URL.Path, "/") || !fs.ValidPath(name) || hidden(name) {
		http.NotFound(w, r)
		return
	}
	dir, err := os.OpenRoot(root) // each time: it may have been replaced
	if err != nil {
		fail(w, r, err)
		return
	}
	defer func() { _ = dir.Close() }()
	info, err := dir.Stat(name)
	switch {
	case err != nil:
		fail(w, r, err)
		return
	case info.IsDir() && !slash:
		w.Header().Set("Location", redirect(r, path.Base(name)+"/"))
		w.WriteHeader(http.StatusMovedPermanently)
		return
	case info.IsDir():
		name = path.Join(name, index)
	case slash:
		http.NotFound(w, r)
		return
	}
	f, err := dir.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe would block
	if err != nil {
		fail(w, r, err)
		return
	}
	defer f.Close()
	serveFile(w, r, f)
}

// redirect is an address relative to the one that was asked for, so that it leads nowhere
// else.
func redirect(r *http.Request, to string) string {
	to = "./" + (&url.URL{Path: to}).EscapedPath()
	if r.URL.RawQuery != "" {
		to += "?" + r.URL.RawQuery
	}
	return to
}

func hidden(name string) bool {
	for element := range strings.SplitSeq(name, "/") {
		if strings.HasPrefix(element, ".") && element != "." {
			return true
		}
	}
	return false
}

// fail answers that there is nothing, unless something is wrong on our side. It does not
// say what, which might tell what lies outside.
func fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.EIO) {
		http.Error(w, "the file can't be read now", http.StatusServiceUnavailable)
		return
	}
	http.NotFound(w, r)
}
