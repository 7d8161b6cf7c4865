package file

import (
	"errors"
	"fmt"
	"math"
	"os/user"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	quiet "github.com/mgmtproject/mgmt/sinks/accounts"
)

// account is a user or group as a parameter names it. The zero value is none.
type account struct {
	name string
	id   int // if name is a number; -1 otherwise
	in   *accounts
}

// parseAccount tells names from numbers. It looks nothing up.
func parseAccount(in *accounts, name string) (account, error) {
	a := account{name: name, id: -1, in: in}
	if name == "" || name[0] < '0' || name[0] > '9' {
		return a, nil
	}
	id, err := strconv.ParseUint(name, 10, 32)
	if err != nil || id == math.MaxUint32 {
		return a, fmt.Errorf("%q is neither a name nor a number below 4294967295", name)
	}
	a.id = int(id)
	return a, nil
}

// named reports whether a needs a look-up.
func (a account) named() bool { return a.name != "" && a.id < 0 }

// lookup returns the number, or -1 for no account.
func (a account) lookup() (int, error) {
	switch {
	case a.name == "":
		return -1, nil
	case a.id >= 0:
		return a.id, nil
	}
	return a.in.lookup(a.name)
}

// accounts remembers the numbers of the users, or groups, of this host. Ten thousand
// files of the same owner lead to one look-up. What it knows is forgotten when the
// database has changed, and after a minute, since there are others behind it.
type accounts struct {
	what   string // "user", for errors
	file   string // the database
	byName func(string) (string, error)
	byID   func(string) (string, error)

	mu    sync.Mutex
	seen  stamp // of the database, when ids was filled
	since time.Time
	ids   map[string]int
}

// stamp changes when a file does.
type stamp struct {
	ino   uint64
	size  int64
	mtime unix.Timespec
	ctime unix.Timespec
}

var users = &accounts{
	what: "user",
	file: "/etc/passwd",
	byName: func(name string) (string, error) {
		u, err := quiet.Lookup(name)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	},
	byID: func(id string) (string, error) {
		u, err := quiet.LookupID(id)
		if err != nil {
			return "", err
		}
		return u.Username, nil
	},
}

var groups = &accounts{
	what: "group",
	file: "/etc/group",
	byName: func(name string) (string, error) {
		g, err := quiet.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	},
	byID: func(id string) (string, error) {
		g, err := quiet.LookupGroupID(id)
		if err != nil {
			return "", err
		}
		return g.Name, nil
	},
}

func (a *accounts) lookup(name string) (int, error) {
	var st unix.Stat_t
	var now stamp
	if unix.Stat(a.file, &st) == nil {
		now = stamp{st.Ino, st.Size, st.Mtim, st.Ctim}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if now != a.seen || time.Since(a.since) > time.Minute {
		a.seen, a.since, a.ids = now, time.Now(), map[string]int{}
	}
	if id, ok := a.ids[name]; ok {
		return id, nil
	}
	text, err := a.byName(name)
	if _, unknown := errors.AsType[user.UnknownUserError](err); unknown {
		return -1, fmt.Errorf("there is no %s %q on this host", a.what, name)
	}
	if _, unknown := errors.AsType[user.UnknownGroupError](err); unknown {
		return -1, fmt.Errorf("there is no %s %q on this host", a.what, name)
	}
	if err != nil {
		return -1, fmt.Errorf("looking up the %s %q: %w", a.what, name, err)
	}
	id, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return -1, fmt.Errorf("looking up the %s %q: its number is %q", a.what, name, text)
	}
	a.ids[name] = int(id)
	return int(id), nil
}

// display is an account number as a change shows it: by name where there is one.
func (a *accounts) display(id uint32) string {
	text := strconv.FormatUint(uint64(id), 10)
	if name, err := a.byID(text); err == nil {
		return name
	}
	return text
}
