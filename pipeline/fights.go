package pipeline

import (
	"sync"
	"time"

	"github.com/mgmtproject/mgmt/operators"
)

// Fights says when a resource counts as being fought over: something else undoes it
// again and again. The engine then leaves it alone for a while after each repair, for
// longer and longer, so that the fight does not burn the processor; nothing is lost, since
// it looks again afterwards. The zero value is the default.
type Fights struct {
	// Repairs within Window are a fight; 0 means 20, and less never.
	Repairs int

	// Window is 10 s if it is 0. Without a repair for that long, and for twice as long as
	// the resource was left alone, the fight is over.
	Window time.Duration

	// Longest is the longest time that the resource is left alone; 0 means 30 s.
	Longest time.Duration
}

// firstRest is how long a resource is left alone at first.
const firstRest = 500 * time.Millisecond

func (f Fights) withDefaults() Fights {
	if f.Repairs == 0 {
		f.Repairs = 20
	}
	if f.Window == 0 {
		f.Window = 10 * time.Second
	}
	if f.Longest == 0 {
		f.Longest = 30 * time.Second
	}
	return f
}

// fight remembers the repairs of a resource.
type fight struct {
	repairs []time.Time // the newest ones, in a ring of Fights.Repairs
	next    int
	count   int // since the fight began, that is; before it those in the window
	rest    time.Duration

	mu    sync.Mutex
	quiet func() // stops the timer that ends the fight; nil while there is none
}

// fighting is what a run tells about a fight.
type fighting struct {
	count int
	rest  time.Duration
}

// contend takes into account that a run has succeeded, and returns nil if there is no
// fight, or no repair.
func (u *unit) contend(run operators.Run, changed bool) *fighting {
	f := u.engine.fights
	if !changed || f.Repairs < 0 || run.Refresh || run.Cause.Kind != operators.CauseEvent || run.Cause.Ref == swapRef || u.acts() {
		return nil
	}
	s := u.extra()
	if s.fight == nil {
		s.fight = &fight{repairs: make([]time.Time, f.Repairs)}
	}
	t, now := s.fight, time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.repairs[t.next] = now
	t.next = (t.next + 1) % len(t.repairs)
	oldest := t.repairs[t.next]
	if t.quiet == nil {
		if oldest.IsZero() || now.Sub(oldest) > f.Window {
			return nil
		}
		t.count, t.rest = len(t.repairs), min(firstRest, f.Longest)
	} else {
		t.count, t.rest = t.count+1, min(2*t.rest, f.Longest)
		t.quiet()
	}
	count := t.count
	t.quiet = u.engine.later(max(f.Window, 2*t.rest), func() {
		if t.ends(count) {
			u.engine.mail.post(message{steady: u})
		}
	})
	return &fighting{t.count, t.rest}
}

// ends ends the fight, unless there was a repair after that many.
func (t *fight) ends(count int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.quiet == nil || t.count != count {
		return false
	}
	t.quiet = nil
	clear(t.repairs)
	return true
}
