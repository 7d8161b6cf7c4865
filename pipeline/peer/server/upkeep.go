package server

import "time"

// Upkeep says when to do what keeps a server in shape. What is zero has a default, given in
// brackets.
type Upkeep struct {
	// Every is how often to look after the server [1 minute].
	Every time.Duration

	// KeepAge and KeepRevisions say what of the past stays: what is younger [10 minutes],
	// but not more than so many revisions [10,000]. Who has lost touch for longer has to
	// read everything anew.
	KeepAge       time.Duration
	KeepRevisions int64

	// Waste is how much of the database may lie idle, in bytes, before it is made smaller
	// [64 MiB], if it is also more than half of it.
	Waste int64

	// SlowSync is how long the disk may take to have something written for good, in 99 of
	// 100 cases, before there is a warning [10 ms].
	SlowSync time.Duration
}

func (u Upkeep) withDefaults() Upkeep {
	if u.Every == 0 {
		u.Every = time.Minute
	}
	if u.KeepAge == 0 {
		u.KeepAge = 10 * time.Minute
	}
	if u.KeepRevisions == 0 {
		u.KeepRevisions = 10_000
	}
	if u.Waste == 0 {
		u.Waste = 64 << 20
	}
	if u.SlowSync == 0 {
		u.SlowSync = 10 * time.Millisecond
	}
	return u
}

func (s *Server) keep() {}
