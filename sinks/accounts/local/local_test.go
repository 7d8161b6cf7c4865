package local_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks/accounts/local"
)

const passwd = `# all users
root:x:0:0:root:/root:/bin/sh
twin:x:0:0::/home/twin:/bin/bash
broken line
+nis::::::
www:x:70001:70002:The Web,room 1:/srv:/bin/false
www:x:70009:70002:again:/:/bin/false
big:x:4294967294:1:::
odd:x:many:1:::
`

const groups = "root:x:0:\nstaff:x:70003:www,root,www\nadm:x:4:www\n+:::\nstaff:x:8:odd\nodd:x:-1:\n"

func TestParse(t *testing.T) {
	u := local.ParseUsers([]byte(passwd))
	for _, want := range []local.User{
		{Name: "root", Home: "/root", Shell: "/bin/sh"},
		{Name: "twin", Home: "/home/twin", Shell: "/bin/bash"},
		{Name: "www", UID: 70001, GID: 70002, Home: "/srv", Shell: "/bin/false"},
		{Name: "big", UID: local.MaxID, GID: 1},
	} {
		if got, ok := u.Named(want.Name); !ok || got != want {
			t.Errorf("got %+v, %v; want %+v", got, ok, want)
		}
	}
	for _, name := range []string{"", "odd", "+nis", "nis", "broken line", "nobody"} {
		if got, ok := u.Named(name); ok {
			t.Errorf("%q is taken for a user: %+v", name, got)
		}
	}
	if u.Holder(0) != "root" || u.Holder(70009) != "" {
		t.Errorf("0 is held by %q, and 70009 by %q", u.Holder(0), u.Holder(70009))
	}

	g := local.ParseGroups([]byte(groups))
	want := local.Group{Name: "staff", GID: 70003, Members: []string{"www", "root", "www"}}
	if got, _ := g.Named("staff"); !cmp.Equal(want, got) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for user, want := range map[string][]string{"www": {"adm", "staff"}, "root": {"staff"}, "odd": nil} {
		if diff := cmp.Diff(want, g.Of(user)); diff != "" {
			t.Errorf("the groups of %s, -want +got:\n%s", user, diff)
		}
	}
}

func TestDatabasesOfThisHost(t *testing.T) {
	u, err := local.ReadUsers()
	if err != nil {
		t.Fatal(err)
	}
	if root, ok := u.Named("root"); !ok || root.UID != 0 {
		t.Errorf("root is %+v, %v", root, ok)
	}
	g, err := local.ReadGroups()
	if err != nil {
		t.Fatal(err)
	}
	if root, ok := g.Named("root"); !ok || root.GID != 0 {
		t.Errorf("the group root is %+v, %v", root, ok)
	}
}

// A database that is changed twice within a tick of the clock is read twice.
func TestEveryChangeIsSeen(t *testing.T) {
	path := t.TempDir() + "/group"
	read := local.Reading(path)
	if _, err := read(); !os.IsNotExist(err) || !strings.Contains(err.Error(), path) {
		t.Errorf("there is no file, but got %v", err)
	}
	for range 200 {
		for _, name := range []string{"one", "two"} {
			if err := os.WriteFile(path, []byte(name+":x:1:\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			g, err := read()
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := g.Named(name); !ok {
				t.Fatalf("%s was written, but is not found", name)
			}
		}
	}
}

// Any file will do that nobody has changed of late.
func TestSettledDatabaseIsReadOnce(t *testing.T) {
	const path = "/etc/nsswitch.conf"
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || time.Since(time.Unix(st.Ctim.Unix())) < time.Minute {
		t.Skipf("%s is not there, or was changed just now: %v", path, err)
	}
	read := local.Reading(path)
	one, err1 := read()
	two, err2 := read()
	if err1 != nil || err2 != nil || one != two {
		t.Errorf("it is read for each look-up (%v, %v)", err1, err2)
	}
}

func TestCheckName(t *testing.T) {
	for name, want := range map[string]string{
		"root": "", "_apt": "", "a.b-c_d": "", "machine$": "", "Ärger": "", "1st": "", "user@realm": "",
		"": "empty", "a b": "blank", "a\nb": "blank", "a:b": ":", "a/b": "/", "-f": "begins with -", "+x": "begins with +", "~": "begins with ~", "42": "a number",
	} {
		switch err := local.CheckName(name); {
		case (err == nil) != (want == ""):
			t.Errorf("%q: %v", name, err)
		case err != nil && !strings.Contains(err.Error(), want):
			t.Errorf("%q: %v, want %q in it", name, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(passwd))
	f.Add([]byte(groups))
	f.Fuzz(func(t *testing.T, text []byte) {
		u, g := local.ParseUsers(text), local.ParseGroups(text)
		for id := range int64(5) {
			for _, name := range []string{u.Holder(id), g.Holder(id)} {
				if strings.ContainsAny(name, ":\n") {
					t.Errorf("%q is a name", name)
				}
			}
			for _, name := range g.Of(u.Holder(id)) {
				if _, ok := g.Named(name); !ok {
					t.Errorf("the group %q has a member, but is not there", name)
				}
			}
		}
	})
}

// BenchmarkRead looks an account up in a database of ten thousand.
func BenchmarkRead(b *testing.B) {
	path := b.TempDir() + "/group"
	if err := os.WriteFile(path, []byte(strings.Repeat("somebody:x:1:root\n", 10_000)), 0o644); err != nil {
		b.Fatal(err)
	}
	for _, test := range []struct {
		name string
		at   string
	}{{"changed=just-now", path}, {"changed=long-ago", "/etc/nsswitch.conf"}} {
		b.Run(test.name, func(b *testing.B) {
			read := local.Reading(test.at)
			for b.Loop() {
				if _, err := read(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
