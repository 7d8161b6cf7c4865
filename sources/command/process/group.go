package process

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// group is a process group: the number of its leader.
type group int

// signal sends to all members. The dead whom nobody has reaped are still members: the
// error is ESRCH when there is nobody at all.
func (g group) signal(s syscall.Signal) error { return syscall.Kill(-int(g), s) }

// wait returns true when no member lives, and false at limit. The leader must have been
// reaped. Nobody tells when the others end, so it looks, for as long as it must.
func (g group) wait(limit time.Time) bool {
	// An init reaps at once what has lost its parent, or nearly so. One that doesn't
	// makes it necessary to tell the dead from the living.
	patience := time.Now().Add(10 * time.Millisecond)
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 50*time.Millisecond) {
		_, _ = unix.Wait4(-int(g), nil, unix.WNOHANG, nil) // we may be that init, in a container
		if errors.Is(g.signal(0), syscall.ESRCH) || time.Now().After(patience) && !living.has(g) {
			return true
		}
		if time.Until(limit) <= 0 {
			return false
		}
		time.Sleep(pause)
	}
}

// living looks for groups with living members. Many who ask at once share an answer.
var living groups

type groups struct {
	mu     sync.Mutex
	asOf   time.Time // when the look round began
	groups map[group]bool
}

// has is true if a member of g lived at some time since the call.
func (l *groups) has(g group) bool {
	asked := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.asOf.After(asked) {
		l.asOf, l.groups = time.Now(), livingGroups()
	}
	return l.groups[g]
}

// livingGroups reads /proc. Where it can't be read, every group is empty.
func livingGroups() map[group]bool {
	found := make(map[group]bool)
	dir, err := os.Open("/proc")
	if err != nil {
		return found
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue // it has ended meanwhile
		}
		// proc(5): pid (name) state ppid pgrp …, where the name can hold anything.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) < 3 || fields[0][0] == 'Z' || fields[0][0] == 'X' {
			continue
		}
		if pgrp, err := strconv.Atoi(string(fields[2])); err == nil {
			found[group(pgrp)] = true
		}
	}
	return found
}
