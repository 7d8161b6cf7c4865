package accounts_test

import (
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mgmtproject/mgmt/sinks/accounts"
)

const (
	passwd = "# all users\nroot:x:0:0:root:/root:/bin/sh\nbroken line\nwww:x:70001:70002:The Web,room 1:/srv:/bin/false\n"
	group  = "root:x:0:\nstaff:x:70003:www,root\n"
)

// host has databases of its own.
func host(t *testing.T, passwd, group, nsswitch string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"passwd": passwd, "group": group, "nsswitch": nsswitch} {
		if text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(accounts.Use(filepath.Join(dir, "passwd"), filepath.Join(dir, "group"), filepath.Join(dir, "nsswitch")))
}

func TestFound(t *testing.T) {
	host(t, passwd, group, "passwd: files systemd\ngroup: files\n")
	want := user.User{Uid: "70001", Gid: "70002", Username: "www", Name: "The Web", HomeDir: "/srv"}
	for _, look := range []func() (*user.User, error){
		func() (*user.User, error) { return accounts.Lookup("www") },
		func() (*user.User, error) { return accounts.LookupID("70001") },
	} {
		if u, err := look(); err != nil || *u != want {
			t.Errorf("got %+v, %v", u, err)
		}
	}
	for _, look := range []func() (*user.Group, error){
		func() (*user.Group, error) { return accounts.LookupGroup("staff") },
		func() (*user.Group, error) { return accounts.LookupGroupID("70003") },
	} {
		if g, err := look(); err != nil || *g != (user.Group{Gid: "70003", Name: "staff"}) {
			t.Errorf("got %+v, %v", g, err)
		}
	}
}

func TestUnknown(t *testing.T) {
	for _, nsswitch := range []string{"", "passwd: files # nothing else\ngroup: files\n", "hosts: dns\n", "passwd: files systemd\ngroup: files systemd\n"} {
		host(t, passwd, group, nsswitch)
		_, err1 := accounts.Lookup("no-such-user")
		_, err2 := accounts.LookupID("4000000001")
		_, err3 := accounts.LookupGroup("no-such-group")
		_, err4 := accounts.LookupGroupID("4000000001")
		_, is1 := errors.AsType[user.UnknownUserError](err1)
		_, is2 := errors.AsType[user.UnknownUserIdError](err2)
		_, is3 := errors.AsType[user.UnknownGroupError](err3)
		_, is4 := errors.AsType[user.UnknownGroupIdError](err4)
		if !is1 || !is2 || !is3 || !is4 {
			t.Errorf("with %q: got %v, %v, %v, %v", nsswitch, err1, err2, err3, err4)
		}
	}
	if _, err := accounts.LookupID("www"); err == nil {
		t.Error("a name is taken for a number")
	}
}

// The user www is in the file only, root on the host too.
func TestOthersHaveASay(t *testing.T) {
	for _, c := range []struct{ name, passwd, nsswitch string }{
		{"the file is not the first to be asked", passwd, "passwd: sss files\n"},
		{"the file refers to another database", "+::::::\n" + passwd, "passwd: compat\n"},
		{"there is no file", "", "passwd: files\n"},
		{"no database is named", passwd, "passwd:\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			host(t, c.passwd, group, c.nsswitch)
			if u, err := accounts.Lookup("www"); err == nil {
				t.Errorf("got %+v, which the system does not know", u)
			}
			if u, err := accounts.Lookup("root"); err != nil || u.Uid != "0" {
				t.Errorf("got %+v, %v", u, err)
			}
		})
	}
}

func TestLongFile(t *testing.T) {
	host(t, strings.Repeat("someone:x:1:1::/:/bin/sh\n", 5000)+passwd, group, "")
	if u, err := accounts.Lookup("www"); err != nil || u.Uid != "70001" {
		t.Errorf("got %+v, %v", u, err)
	}
}
