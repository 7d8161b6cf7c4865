package bus

import "sync"

// The signals of the manager that calls of this process bring about, too.
const (
	reloads     = iota // Reloading
	fileChanges        // UnitFilesChanged
	kinds
)

// announced tells signals that calls of this process have brought about from those of
// others, which listeners must be told of. Systemd sends them before it answers the call.
type announced struct {
	mu      sync.Mutex
	windows [kinds]struct {
		open int // calls under way
		seen int // signals during them
		own  int // signals that calls which have ended account for
	}
}

// foreign is called for a signal. If it is true it is somebody else's. If it is false it
// may be: end tells.
func (a *announced) foreign(kind int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := &a.windows[kind]
	if w.open == 0 {
		return true
	}
	w.seen++
	return false
}

func (a *announced) begin(kind int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.windows[kind].open++
}

// end ends a call that brought about n signals, and reports whether some of those that
// came meanwhile were somebody else's.
func (a *announced) end(kind, n int) (foreign bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := &a.windows[kind]
	w.own += n
	if w.open--; w.open > 0 {
		return false
	}
	foreign = w.seen > w.own
	w.seen, w.own = 0, 0
	return foreign
}
