// Package local is about the accounts that this host itself keeps: it reads /etc/passwd
// and /etc/group, and changes them by the tools of the system (useradd and the like),
// which know of shadow passwords, subordinate IDs and whatever else belongs to an
// account here. The kinds user and group are made of it.
package local

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
)

// The databases, which are watched.
const (
	Passwd    = "/etc/passwd"
	GroupFile = "/etc/group"
)

// MaxID is the highest number of a user or a group.
const MaxID = 1<<32 - 2

// A User is an entry of the database of users.
type User struct {
	Name        string
	UID, GID    int64
	Home, Shell string
}

// A Group is an entry of the database of groups.
type Group struct {
	Name    string
	GID     int64
	Members []string // the users whose supplementary group it is
}

// Users are the users of this host.
type Users struct{ list[User] }

// Groups are the groups of this host.
type Groups struct {
	list[Group]
	of map[string][]string // the groups of a user, in the order of their names
}

// Of returns the names of the groups that list a user as a member, in their order: not
// the primary one, unless it lists it too.
func (g *Groups) Of(user string) []string { return g.of[user] }

// list finds entries.
type list[T any] struct {
	byName map[string]T
	byID   map[int64]string
}

// Named finds an entry by its name.
func (l *list[T]) Named(name string) (entry T, ok bool) {
	entry, ok = l.byName[name]
	return entry, ok
}

// Holder is the name of the first entry with a number; empty if there is none.
func (l *list[T]) Holder(id int64) string { return l.byID[id] }

func (l *list[T]) add(name string, id int64, entry T) {
	if _, twice := l.byName[name]; twice {
		return // whoever looks it up finds the first one
	}
	l.byName[name] = entry
	if _, shared := l.byID[id]; !shared {
		l.byID[id] = name
	}
}

func newList[T any]() list[T] {
	return list[T]{byName: map[string]T{}, byID: map[int64]string{}}
}

// ParseUsers reads the text of a database of users, as passwd(5) describes it. What is no
// entry of this host, such as a reference to another database, is left out.
func ParseUsers(text []byte) *Users {
	users := &Users{newList[User]()}
	for f := range entries(text, 7) {
		uid, ok1 := number(f[2])
		gid, ok2 := number(f[3])
		if ok1 && ok2 {
			users.add(f[0], uid, User{f[0], uid, gid, f[5], f[6]})
		}
	}
	return users
}

// ParseGroups reads the text of a database of groups, as group(5) describes it.
func ParseGroups(text []byte) *Groups {
	groups := &Groups{newList[Group](), map[string][]string{}}
	for f := range entries(text, 4) {
		gid, ok := number(f[2])
		if !ok {
			continue
		}
		members := strings.FieldsFunc(f[3], func(c rune) bool { return c == ',' })
		groups.add(f[0], gid, Group{f[0], gid, members})
	}
	for name, g := range groups.byName {
		for _, user := range g.Members {
			groups.of[user] = append(groups.of[user], name)
		}
	}
	for user, names := range groups.of {
		slices.Sort(names)
		groups.of[user] = slices.Compact(names)
	}
	return groups
}

// entries yields the fields of each line that has as many of them.
func entries(text []byte, fields int) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		for line := range bytes.Lines(text) {
			f := strings.Split(strings.TrimRight(string(line), "\n"), ":")
			if len(f) != fields || f[0] == "" || strings.ContainsAny(f[0][:1], "+-#") {
				continue
			}
			if !yield(f) {
				return
			}
		}
	}
}

func number(text string) (int64, bool) {
	n, err := strconv.ParseUint(text, 10, 32)
	return int64(n), err == nil
}

// Any number of accounts are looked up in one reading of the databases.
var (
	users  = reading[Users]{path: Passwd, parse: ParseUsers}
	groups = reading[Groups]{path: GroupFile, parse: ParseGroups}
)

// ReadUsers returns what the database of users holds now. It is shared, so it is not
// changed. The error is a *fs.PathError.
func ReadUsers() (*Users, error) { return users.now() }

// ReadGroups returns what the database of groups holds now, as ReadUsers does.
func ReadGroups() (*Groups, error) { return groups.now() }

// reading keeps what a database held when it was read last.
type reading[T any] struct {
	path  string
	parse func([]byte) *T

	mu    sync.Mutex
	stamp atomicfile.Stamp // of what is known; zero if it may have changed unnoticed
	text  []byte
	known *T
}

func (r *reading[T]) now() (*T, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := atomicfile.At(r.path)
	var st unix.Stat_t
	if there, err := p.Stat(&st); err == nil && there && r.known != nil && atomicfile.StampOf(&st) == r.stamp {
		return r.known, nil
	}
	fd, err := p.Open(0, true, 0) // leaves no trace in the access time
	if err != nil {
		return nil, err
	}
	defer atomicfile.Close(fd)
	began := time.Now()
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, p.Error("fstat", err)
	}
	text, err := readAll(fd, st.Size)
	if err != nil {
		return nil, p.Error("read", err)
	}
	if r.known == nil || !bytes.Equal(text, r.text) {
		r.known, r.text = r.parse(text), text
	}
	r.stamp = atomicfile.Stamp{}
	if stamp := atomicfile.StampOf(&st); stamp.Settled(began) {
		r.stamp = stamp
	}
	return r.known, nil
}

func readAll(fd int, size int64) ([]byte, error) {
	text := make([]byte, 0, size+512)
	for {
		text = slices.Grow(text, 512)
		n, err := atomicfile.Read(fd, text[len(text):cap(text)])
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return text, nil
		}
		text = text[:len(text)+n]
	}
}

// CheckName says what is wrong with the name of a user or a group, without looking
// anything up. What else a host refuses, its tools say.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("it is empty")
	case strings.ContainsAny(name, ":,/\\") || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c == 0x7f }):
		return errors.New("it has a blank, a control character or one of : , / \\, which no account may have in its name")
	case strings.ContainsAny(name[:1], "-+~"):
		return errors.New("it begins with " + name[:1] + ", which no name of an account does")
	case strings.Trim(name, "0123456789") == "":
		return errors.New("it is a number, and not the name of an account")
	}
	return nil
}
