// Package accounts looks users and groups up as os/user does, but reads the databases of
// this host without leaving a trace in their access times, where that is possible: what
// only looks, such as a plan, changes nothing then.
package accounts

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os/user"
	"strconv"
	"strings"

	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
)

// database is a file of accounts and what is called its name in nsswitch.conf.
type database struct {
	name, file string
	fields     int // of an entry
}

var (
	passwd   = database{"passwd", "/etc/passwd", 7}
	group    = database{"group", "/etc/group", 4}
	nsswitch = "/etc/nsswitch.conf"
)

// The columns that passwd and group have in common, and those of passwd.
const (
	nameColumn = iota
	_
	idColumn
	gidColumn
	commentColumn
	homeColumn
)

// Lookup finds a user by name. The error is a user.UnknownUserError if there is none.
func Lookup(name string) (*user.User, error) {
	return find(passwd, nameColumn, name, asUser, user.Lookup, user.UnknownUserError(name))
}

// LookupID finds a user by number, in decimal digits. The error is a
// user.UnknownUserIdError if there is none.
func LookupID(id string) (*user.User, error) {
	n, err := strconv.Atoi(id)
	if err != nil {
		return nil, err
	}
	return find(passwd, idColumn, id, asUser, user.LookupId, user.UnknownUserIdError(n))
}

// LookupGroup finds a group by name. The error is a user.UnknownGroupError if there is
// none.
func LookupGroup(name string) (*user.Group, error) {
	return find(group, nameColumn, name, asGroup, user.LookupGroup, user.UnknownGroupError(name))
}

// LookupGroupID finds a group by number, in decimal digits. The error is a
// user.UnknownGroupIdError if there is none.
func LookupGroupID(id string) (*user.Group, error) {
	return find(group, idColumn, id, asGroup, user.LookupGroupId, user.UnknownGroupIdError(id))
}

func asUser(e []string) *user.User {
	full, _, _ := strings.Cut(e[commentColumn], ",")
	return &user.User{Uid: e[idColumn], Gid: e[gidColumn], Username: e[nameColumn], Name: full, HomeDir: e[homeColumn]}
}

func asGroup(e []string) *user.Group { return &user.Group{Gid: e[idColumn], Name: e[nameColumn]} }

// find looks into the file if it is asked first on this host, and asks the system if
// others have a say too.
func find[T any](db database, column int, key string, as func([]string) T, system func(string) (T, error), unknown error) (T, error) {
	first, alone := db.order()
	if !first {
		return system(key)
	}
	text, err := read(db.file)
	if err != nil {
		return system(key)
	}
	for line := range bytes.Lines(text) {
		entry := strings.Split(strings.TrimRight(string(line), "\n"), ":")
		switch {
		case strings.HasPrefix(entry[0], "+") || strings.HasPrefix(entry[0], "-"):
			return system(key) // a reference to another database
		case len(entry) == db.fields && entry[column] == key && !strings.HasPrefix(entry[0], "#"):
			return as(entry), nil
		}
	}
	if !alone {
		return system(key)
	}
	var none T
	return none, unknown
}

// order says whether the file is the first database that this host asks, and whether it
// is the only one.
func (db database) order() (first, alone bool) {
	text, err := read(nsswitch)
	if errors.Is(err, fs.ErrNotExist) {
		return true, true
	}
	if err != nil {
		return false, false
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), db.name+":")
		if !ok {
			continue
		}
		services := strings.Fields(rest)
		if len(services) == 0 || services[0] != "files" && services[0] != "compat" {
			return false, false
		}
		return true, len(services) == 1
	}
	return true, true
}

func read(path string) ([]byte, error) {
	fd, err := atomicfile.At(path).Open(0, true, 0)
	if err != nil {
		return nil, err
	}
	defer atomicfile.Close(fd)
	var text []byte
	buf := make([]byte, 16<<10)
	for {
		n, err := atomicfile.Read(fd, buf)
		if err != nil {
			return nil, err
		}
		text = append(text, buf[:n]...)
		if n < len(buf) {
			return text, nil
		}
	}
}
