package cli

import (
	"os"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// loadHeap is how large the heap may grow before it is collected during the start.
	loadHeap = 192 << 20

	// loadText is the largest graph file for which that is enough: to decode it makes
	// forty times as much.
	loadText = 4 << 20

	// loadTime bounds the start, should it not converge.
	loadTime = 10 * time.Second
)

// collector puts garbage collection off until the first graph has been loaded and has
// converged: what is made until then mostly lives on, and to look through it again and
// again takes a seventh of the CPU time of a start with 10,000 files. It leaves alone
// what the environment has set.
type collector struct {
	percent int
	limit   int64
	timer   *time.Timer
	once    sync.Once
}

func newCollector() *collector {
	c := &collector{}
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		c.once.Do(func() {})
		return c
	}
	c.limit = debug.SetMemoryLimit(loadHeap)
	c.percent = debug.SetGCPercent(-1)
	c.timer = time.AfterFunc(time.Hour, c.restore)
	c.timer.Reset(loadTime) // only now may restore look at c.timer
	return c
}

// loaded is told the size of a graph file, before it is decoded.
func (c *collector) loaded(size int) {
	if size > loadText {
		c.restore()
	}
}

// restore ends the exception.
func (c *collector) restore() {
	c.once.Do(func() {
		c.timer.Stop()
		debug.SetGCPercent(c.percent)
		debug.SetMemoryLimit(c.limit)
	})
}

// settle is restore for a run that goes on: it also returns what the start needed to
// the system.
func (c *collector) settle() {
	c.restore()
	debug.FreeOSMemory()
}
