package operators

import "time"

// A pause is a vertex that waits for its next attempt, or for the end of its rest.
type pause struct {
	v     int32 // none when it was stopped
	rest  bool
	timer *time.Timer
}

// pause lets v go on after d.
func (s *sequencer) pause(v int32, d time.Duration, rest bool) {
	p := &pause{v: v, rest: rest}
	s.pauses[p] = true
	s.wg.Add(1)
	p.timer = time.AfterFunc(d, func() { s.resume(p) })
}

// resume is what the timer of p does.
func (s *sequencer) resume(p *pause) {
	defer s.wg.Done()
	s.mu.Lock()
	if p.v == none || s.ctx.Err() != nil {
		s.mu.Unlock()
		return
	}
	delete(s.pauses, p)
	if p.rest {
		delete(s.until, p.v)
		s.rested(p.v)
	} else {
		s.again(p.v)
	}
	s.settle(0)
}

// stop stops the timer of p. If it has fired already, resume finds that p is stopped.
func (s *sequencer) stop(p *pause) {
	delete(s.pauses, p)
	p.v = none
	if p.timer.Stop() {
		s.wg.Done()
	}
}

// movePauses renumbers the pauses and rests, and ends those of vertices that have left.
func (s *sequencer) movePauses(from []int32) {
	for p := range s.pauses {
		if v := from[p.v]; v != none {
			p.v = v
		} else {
			s.stop(p)
		}
	}
	if len(s.until) == 0 {
		return
	}
	until := make(map[int32]time.Time, len(s.until))
	for v, t := range s.until {
		if from[v] != none {
			until[from[v]] = t
		}
	}
	s.until = until
}

// startRests times the vertices that have become dirty while they rest. A rest that
// nobody has disturbed has no timer, and may be over.
func (s *sequencer) startRests() {
	for _, v := range s.delayed {
		switch left := time.Until(s.until[v]); {
		case s.ctx.Err() != nil:
		case left > 0:
			s.pause(v, left, true)
		default:
			delete(s.until, v)
			s.rested(v)
		}
	}
	s.delayed = s.delayed[:0]
}
