// Package inotify observes paths and directory trees through one inotify instance.
//
// The kernel reports on directories, and on what they are and not on what they are
// called. So a path is watched by watching every directory that is passed on the way
// to it, symlinks included: whatever is created, removed, renamed or replaced there
// makes the source look again. Directories are shared between all watches; ten
// thousand files in one of them cost one kernel watch for it and one for each of its
// ancestors.
//
// What may have been lost is said: an overflow of the kernel's queue is an event
// without a watch. Mounts and unmounts, which inotify reports badly or not at all, are
// noticed through /proc/self/mountinfo. Where the kernel can't or won't report (a
// network filesystem, the watch limit, a directory that may not be read), the paths
// concerned are polled, and a warning says why and what would mend it.
//
// Not seen are writes through a shared memory mapping, and writes through another hard
// link of a file in a directory that nobody watches.
package inotify

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sources"
)

// Name is the name of the source.
const Name = "inotify"

// DefaultPollEvery is how often paths are compared that can't be watched.
const DefaultPollEvery = time.Second

type (
	pathWatch string
	treeWatch string
)

// Path watches one path, made absolute and cleaned. It fires when what is there
// appears, vanishes, is replaced, or changes in content or attributes; if it is a
// symlink, for the link and for what it leads to. It also fires when a directory or
// symlink on the way there appears, vanishes, is replaced or changes who may pass. Of
// a directory it watches the directory itself and not its entries; that is Tree.
func Path(path string) sources.Watch { return pathWatch(absolute(path)) }

// Tree watches a directory as Path does, and everything in and below it. Symlinks below
// are watched and not followed. A path that is no directory is watched as by Path
// until it becomes one.
func Tree(path string) sources.Watch { return treeWatch(absolute(path)) }

// absolute leaves what can't be made absolute to Add, which refuses it.
func absolute(path string) string {
	if path == "" {
		return ""
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return filepath.Clean(path)
	}
	return abs
}

// Source implements sources.Watch.
func (pathWatch) Source() string { return Name }

// String is the path.
func (w pathWatch) String() string { return string(w) }

// Source implements sources.Watch.
func (treeWatch) Source() string { return Name }

// String is the directory followed by /**.
func (w treeWatch) String() string { return strings.TrimSuffix(string(w), "/") + "/**" }

// Options of a Source. The zero value works.
type Options struct {
	// Log is told, once per cause, what has to be polled and why. Nil discards.
	Log *slog.Logger

	// PollEvery is the interval at which paths are compared that can't be watched.
	// 0 stands for DefaultPollEvery.
	PollEvery time.Duration
}

// Source serves watches made by Path and Tree. All its methods may be called from any
// goroutine. After the subscription of Events has ended it has forgotten its watches
// and can be used anew.
type Source struct {
	log   *slog.Logger
	every time.Duration

	baton chan struct{} // held by the goroutine that takes events from the kernel
	yield chan struct{} // asks a tap to put the baton back, for Events
	wake  chan struct{} // tells who holds the baton that there is something to do

	mu       sync.Mutex
	k        *kernel            // nil while nothing is watched
	nodes    map[string]*node   // paths as asked for, by path
	entries  map[string]*entry  // directory entries they depend on, by path without symlinks
	inodes   map[inode][]*entry // kernel watches; more than one entry for a bind mount
	aliased  int                // inodes with more than one entry
	trees    int                // nodes watched as a tree
	listed   []*kernelWatch     // those with a listing
	pass     int                // numbers the calls of changed
	fresh    string             // the entry at and below which kernel watches are renewed
	polled   map[*entry]*polled
	compared time.Time         // when, the last time
	special  map[uint64]string // filesystems that do not report, by device; "" for one that does
	mounts   map[string]uint64 // what is mounted where
	warned   map[string]bool   // causes that have been logged

	serving bool // Events is subscribed
	counted int  // watches added
	taps    int
	pending []firing // not yet emitted
	lost    string   // why everything is suspect, "" if it isn't
	flight  *batch   // callers of Flush whose cookie is in the kernel's queue
	next    *batch   // those who came since
	ripe    []*batch // those who may go once pending is emitted

	spare []firing // an array for pending; belongs to the holder of the baton
}

var (
	_ sources.Source  = (*Source)(nil)
	_ sources.Flusher = (*Source)(nil)
)

// New returns a source that has nothing open until the first Add.
func New(opts Options) *Source {
	s := &Source{
		log:   opts.Log,
		every: opts.PollEvery,
		baton: make(chan struct{}, 1),
		yield: make(chan struct{}, 1),
		wake:  make(chan struct{}, 1),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.every <= 0 {
		s.every = DefaultPollEvery
	}
	s.baton <- struct{}{}
	s.forget()
	return s
}

// forget drops all watches.
func (s *Source) forget() {
	s.nodes = make(map[string]*node)
	s.entries = make(map[string]*entry)
	s.inodes = make(map[inode][]*entry)
	s.polled = make(map[*entry]*polled)
	s.special = make(map[uint64]string)
	s.mounts = nil
	s.warned = make(map[string]bool)
	s.listed, s.pending = nil, nil
	s.aliased, s.trees, s.counted, s.lost = 0, 0, 0, ""
}

// Name implements sources.Source.
func (s *Source) Name() string { return Name }

// Add implements sources.Source. It fails only for a watch that is not one of this
// package or whose path can't exist: a path that can't be watched is polled.
func (s *Source) Add(w sources.Watch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.target(w)
	if err != nil {
		return err
	}
	t.count++
	s.counted++
	return nil
}

// Remove implements sources.Source.
func (s *Source) Remove(w sources.Watch) {
	s.mu.Lock()
	if t := s.find(w); t != nil && t.count > 0 {
		t.count--
		s.counted--
		s.prune(t)
	}
	s.closeIdle() // unlocks
}

// target is a watch that somebody has added.
type target struct {
	node   *node
	watch  sources.Watch
	count  int    // Adds less Removes
	taps   []*tap // subscriptions of Observe
	queued bool   // it is in pending
}

// A firing is a target of which something is to be emitted.
type firing struct {
	t    *target
	what string
}

// find returns the target of w, nil if there is none.
func (s *Source) find(w sources.Watch) *target {
	switch w := w.(type) {
	case pathWatch:
		if n := s.nodes[string(w)]; n != nil {
			return n.self
		}
	case treeWatch:
		if n := s.nodes[string(w)]; n != nil {
			return n.tree
		}
	}
	return nil
}

// target returns the target of w and begins to watch it if it is new.
func (s *Source) target(w sources.Watch) (*target, error) {
	if t := s.find(w); t != nil {
		return t, nil
	}
	var path string
	switch w := w.(type) {
	case pathWatch:
		path = string(w)
	case treeWatch:
		path = string(w)
	default:
		return nil, fmt.Errorf("%T is not a watch of the source %s", w, Name)
	}
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("the path %q is not absolute", path)
	}
	if strings.IndexByte(path, 0) >= 0 {
		return nil, fmt.Errorf("the path %q contains a zero byte: %w", path, unix.EINVAL)
	}
	s.open()
	n := s.node(path)
	t := &target{node: n, watch: w}
	if _, tree := w.(treeWatch); tree {
		n.tree = t
		s.trees++
		s.plant(n)
	} else {
		n.self = t
	}
	return t, nil
}

// prune ends the target if nobody wants it any more.
func (s *Source) prune(t *target) {
	if t.count > 0 || len(t.taps) > 0 {
		return
	}
	n := t.node
	if n.tree == t {
		s.uproot(n)
		n.tree = nil
		s.trees--
	} else {
		n.self = nil
	}
	s.cut(n)
}
