package sshauthorizedkey

import (
	"sync"
	"time"

	"github.com/mgmtproject/mgmt/sinks"
)

var (
	_ sinks.Provider = (*authorizedKey)(nil)
	_ sinks.Needer   = (*authorizedKey)(nil)
)

// Provides implements sinks.Provider.
func (k *authorizedKey) Provides() []sinks.Fact {
	if k.file == "" {
		return nil
	}
	return []sinks.Fact{{Space: sinks.SpaceEdits, Name: k.file}}
}

// Needs implements sinks.Needer. Where the file of a user is, is known if the user exists
// already. A key that is absent needs no directory.
func (k *authorizedKey) Needs() []sinks.Need {
	needs := sinks.AddAccount(nil, sinks.SpaceUser, k.user, "whose key it is")
	path := k.file
	if path == "" {
		path = recent.path(k)
	}
	if path == "" {
		return needs
	}
	needs = append(needs,
		sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceFile, Name: path}, Why: "its file"},
		sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceOwned, Name: path}, Why: "which brings its file"})
	if k.absent {
		return append(needs, sinks.Need{Fact: sinks.Fact{Space: sinks.SpaceMount, Name: path}, Above: true, Why: "on which it is"})
	}
	return sinks.AddHolders(needs, path)
}

// recent has a graph with thousands of keys of a user look the user up once.
var recent files

// files remembers for a moment where the files of users are.
type files struct {
	mu     sync.Mutex
	since  time.Time
	byUser map[string]string
}

// path is where the file of the key's user is; empty if that is not known.
func (f *files) path(k *authorizedKey) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byUser == nil || time.Since(f.since) > time.Second {
		f.since, f.byUser = time.Now(), map[string]string{}
	}
	path, ok := f.byUser[k.user]
	if !ok {
		if h, err := k.holder(); err == nil {
			path = h.path
		}
		f.byUser[k.user] = path
	}
	return path
}
