// Package outlet writes lines for a reader who may be slow, gone or never there,
// without ever making the writer wait: an engine must not stop because somebody has
// paused a pager. What does not fit into a bounded buffer is dropped, counted, and
// reported in the place where it is missing.
package outlet

import (
	"io"
	"slices"
	"sync"
	"time"
)

// chunkSize is how much is handed to the underlying writer at once: as much as a Linux
// pipe holds by default.
const chunkSize = 64 << 10

// Options of an Outlet.
type Options struct {
	// Bound is how many bytes may wait, those that are being written included.
	Bound int

	// Gap returns what stands in the place of n lines that were dropped. It is called
	// by Write and Close, which do not run at the same time, and must not call them.
	Gap func(n uint64) []byte

	// Failed, if not nil, is called once, with the error of the underlying writer. No
	// more is written after that, and all is dropped silently.
	Failed func(err error)
}

// Outlet is an io.Writer in front of one that may block. Close must be called.
type Outlet struct {
	w    io.Writer
	opts Options
	wake chan struct{}
	done chan struct{}

	mu     sync.Mutex
	chunks [][]byte // what waits
	size   int      // of chunks, and of the one that is being written
	missed uint64   // lines dropped since the last gap
	spare  []byte
	failed bool
	closed bool
}

// New returns an Outlet in front of w.
func New(w io.Writer, opts Options) *Outlet {
	o := &Outlet{w: w, opts: opts, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go o.drain()
	return o
}

// Write takes p, which holds whole lines, as one piece, or drops it as one line. It
// never waits, never fails, and does not keep p.
func (o *Outlet) Write(p []byte) (int, error) {
	o.put(p, false)
	return len(p), nil
}

// Final is Write for the few last lines that must not be dropped for want of room.
func (o *Outlet) Final(p []byte) { o.put(p, true) }

func (o *Outlet) put(p []byte, final bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failed || o.closed {
		return
	}
	// After a drop there must be some room again, so that a reader who is merely slow
	// sees one gap with many lines rather than many with one.
	if room := o.opts.Bound - o.size; !final && (room < len(p) || o.missed > 0 && room < o.opts.Bound/4) {
		o.missed++
		return
	}
	o.fillGap()
	o.add(p)
	o.signal()
}

func (o *Outlet) fillGap() {
	if o.missed > 0 {
		n := o.missed
		o.missed = 0
		o.add(o.opts.Gap(n))
	}
}

func (o *Outlet) add(p []byte) {
	o.size += len(p)
	if last := len(o.chunks) - 1; last >= 0 && len(o.chunks[last])+len(p) <= chunkSize {
		o.chunks[last] = append(o.chunks[last], p...)
		return
	}
	o.chunks = append(o.chunks, append(o.spare[:0], p...))
	o.spare = nil
}

func (o *Outlet) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// drain writes chunk by chunk until Close.
func (o *Outlet) drain() {
	defer close(o.done)
	for {
		chunk, ok := o.next()
		if !ok {
			return
		}
		if chunk == nil {
			<-o.wake
			continue
		}
		n, err := o.w.Write(chunk)
		if err == nil && n < len(chunk) {
			err = io.ErrShortWrite
		}
		o.written(chunk, err)
		if err != nil && o.opts.Failed != nil {
			o.opts.Failed(err)
		}
	}
}

// next returns the oldest chunk, nil if there is none, and false after Close.
func (o *Outlet) next() ([]byte, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.chunks) == 0 {
		return nil, !o.closed
	}
	chunk := o.chunks[0]
	o.chunks = slices.Delete(o.chunks, 0, 1)
	return chunk, true
}

func (o *Outlet) written(chunk []byte, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.size -= len(chunk)
	if cap(chunk) <= 2*chunkSize {
		o.spare = chunk
	}
	if err != nil {
		o.failed, o.chunks, o.size, o.missed = true, nil, 0, 0
	}
}

// Close writes what waits, for no longer than limit, and reports whether all has been
// taken. Nothing may be written after it. It does not close the underlying writer; a
// write that hangs there goes on hanging.
func (o *Outlet) Close(limit time.Duration) bool {
	o.mu.Lock()
	if !o.closed && !o.failed {
		o.fillGap()
	}
	o.closed = true
	o.signal()
	o.mu.Unlock()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-o.done:
		o.mu.Lock()
		defer o.mu.Unlock()
		return !o.failed
	case <-t.C:
		return false
	}
}
