package user_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/group"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sinks/sinktest/needs"
	"github.com/mgmtproject/mgmt/sinks/user"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type params = map[string]any

// run is commands that have to succeed, each a line.
func run(lines ...string) func() error {
	return func() error {
		for _, line := range lines {
			words := strings.Fields(line)
			if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w: %s", line, err, out)
			}
		}
		return nil
	}
}

func must(t *testing.T, lines ...string) {
	t.Helper()
	if err := run(lines...)(); err != nil {
		t.Fatal(err)
	}
}

// entry is what the system says of a user.
func entry(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("getent", "passwd", name).Output()
	if err != nil {
		t.Fatalf("there is no user %s: %v", name, err)
	}
	ids, err := exec.Command("id", "-Gn", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out)) + " " + strings.TrimSpace(string(ids))
}

var (
	databases = []string{"/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid"}
	state     = withHomes(sinktest.Files(databases...))
	undone    = withHomes(sinktest.Contents(databases...))
)

// withHomes adds the names of the home directories.
func withHomes(state func() (string, error)) func() (string, error) {
	return func() (string, error) {
		text, err1 := state()
		homes, err2 := filepath.Glob("/home/*")
		return fmt.Sprint(text, homes), errors.Join(err1, err2)
	}
}

// host has the test run in a test host, which has its accounts back afterwards.
func host(t *testing.T) {
	t.Helper()
	needs.Systemd(t)
	sinktest.Restore(t, "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid")
}

func TestConformance(t *testing.T) {
	host(t)
	must(t, "groupadd --gid 6000 crew", "groupadd --gid 6001 own",
		"useradd --no-create-home two", "useradd --no-create-home in", "useradd --no-create-home some",
		"useradd --no-create-home --gid crew --uid 5000 all", "useradd --no-create-home --uid 5005 twin")
	sinktest.Run(t, user.Spec,
		sinktest.Case{Name: "a user exists", Resource: "some", Disturb: run("userdel some"), State: state, Undone: undone},
		sinktest.Case{Name: "a user exists with all that there is", Resource: "all",
			Params:  params{"uid": 5001, "group": "users", "groups": []any{"video", "audio"}, "homedir": "/srv/all", "shell": "/bin/false"},
			Disturb: run("usermod --uid 5000 --gid crew --groups games,audio --home /nowhere --shell /bin/true all"), State: state, Undone: undone},
		sinktest.Case{Name: "a user that was removed exists with all that there is", Resource: "all",
			Params:  params{"uid": 5001, "group": "users", "groups": []any{"video", "audio"}, "homedir": "/srv/all", "shell": "/bin/false"},
			Disturb: run("userdel all"), State: state, Undone: undone},
		sinktest.Case{Name: "a user has a primary group by its number", Resource: "two", Params: params{"gid": 6000},
			Disturb: run("usermod --gid users two"), State: state, Undone: undone},
		sinktest.Case{Name: "a user is in no other group", Resource: "in", Params: params{"groups": []any{}},
			Disturb: run("usermod --groups audio,video in"), State: state, Undone: undone},
		sinktest.Case{Name: "a user is in a group that was there with nobody in it", Resource: "in", Params: params{"groups": "crew"},
			Disturb: run("gpasswd --delete in crew"), State: state, Undone: undone},
		sinktest.Case{Name: "a user has the number of another one", Resource: "twin", Params: params{"uid": 0, "allowduplicateuid": true},
			Disturb: func() error {
				text, err := os.ReadFile("/etc/passwd") // usermod refuses, since processes run as 0
				if err != nil {
					return err
				}
				return replace("/etc/passwd", strings.Replace(string(text), "twin:x:0:", "twin:x:5005:", 1))
			}, State: state, Undone: nil},
		sinktest.Case{Name: "a user whose group is there already exists", Resource: "own", Disturb: run("userdel own", "groupadd own"), State: state},
		sinktest.Case{Name: "a user is absent", Resource: "gone", Params: params{"state": "absent", "groups": "audio"},
			Disturb: run("useradd --create-home gone", "rm -r /home/gone"), State: state},
	)
}

// replace puts a file in the place of another, as all tools do that change databases.
func replace(path, text string) error {
	if err := os.WriteFile(path+"+", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(path+"+", path)
}

func TestInvalid(t *testing.T) {
	for _, tt := range []struct {
		name, resource string
		params         params
		want           string
	}{
		{"a state that there is not", "a", params{"state": "gone"}, "exists"},
		{"a number below those of users", "a", params{"uid": -1}, "uid: -1 is not between 0 and 4294967294"},
		{"the number that stands for none", "a", params{"gid": 1<<32 - 1}, "gid: 4294967295 is not between"},
		{"two primary groups", "a", params{"gid": 1, "group": "daemon"}, "gid: it can't be given together with group"},
		{"a group by number where names are", "a", params{"group": "12"}, `group: "12" can't be the name of a group: it is a number`},
		{"two groups in one", "a", params{"groups": "audio,video"}, "groups: \"audio,video\" can't be"},
		{"a relative home directory", "a", params{"homedir": "home/a"}, `homedir: "home/a" is not an absolute path`},
		{"a home directory with a colon", "a", params{"homedir": "/home/a:b"}, "homedir: \"/home/a:b\" has a colon"},
		{"a shell with a second line", "a", params{"shell": "/bin/sh\nroot"}, "shell: \"/bin/sh\\nroot\" has a colon, the end of a line"},
		{"a shell that is looked for", "a", params{"shell": "bash"}, "shell: \"bash\" is not an absolute path"},
		{"a number that may be double but is not given", "a", params{"allowduplicateuid": true}, "allowduplicateuid: it is about the uid"},
		{"a name that tools take for a flag", "-r", nil, "it begins with -"},
		{"a name with a line in it", "a:x:0:0::/:/bin/sh\nb", nil, "can't be the name of a user"},
	} {
		t.Run(tt.name, func(t *testing.T) { sinktest.Invalid(t, user.Spec, tt.resource, tt.params, tt.want) })
	}
}

func TestWhatCannotBeIsSaidSo(t *testing.T) {
	host(t)
	must(t, "useradd --no-create-home busy")
	sleep := exec.Command("setpriv", "--reuid=busy", "--clear-groups", "sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleep.Process.Kill(); _ = sleep.Wait() }()
	for deadline := 10000; ; deadline-- {
		if exec.Command("pgrep", "-u", "busy", "sleep").Run() == nil || deadline == 0 {
			break
		}
	}
	for _, tt := range []struct {
		name, resource string
		params         params
		want           string
	}{
		{"a number that another user has", "a", params{"uid": 0}, "the uid 0 is that of the user root already: choose another one, or set allowduplicateuid"},
		{"a primary group that there is not", "a", params{"group": "nowhere"}, "there is no group nowhere on this host: make it first"},
		{"a number of a group that there is not", "a", params{"gid": 59999}, "there is no group with the gid 59999 on this host"},
		{"groups that there are not", "a", params{"groups": []any{"b", "audio", "c"}}, "there is no group b and no group c on this host"},
		{"a user with processes is removed", "busy", params{"state": "absent"}, "user busy is currently used by process"},
		{"a name that the host refuses", strings.Repeat("long", 20), nil, "invalid user name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, _ := state()
			out, err := sinktest.Build(t, user.Spec, tt.resource, tt.params).CheckApply(t.Context(), true)
			if err == nil || !strings.Contains(err.Error(), tt.want) || out.Changed {
				t.Errorf("got %+v, %v; want an error with %q", out, err, tt.want)
			}
			if after, _ := state(); after != before {
				t.Errorf("it has changed\n%s\nto\n%s", before, after)
			}
		})
	}
}

// A check does not fail for want of a group that another resource would make before.
func TestCheckAllowsForGroupsToCome(t *testing.T) {
	host(t)
	out, err := sinktest.Build(t, user.Spec, "early", params{"group": "late", "groups": "later"}).CheckApply(t.Context(), false)
	if want := `[state: absent -> exists group: "" -> late groups: "" -> later]`; err != nil || fmt.Sprint(out.Changes) != want {
		t.Errorf("got %v, %v; want %v", out.Changes, err, want)
	}
}

// What useradd would do by the configuration of the system is not left to it.
func TestHomeDirectoryIsNobodysBusiness(t *testing.T) {
	host(t)
	defs, err := os.ReadFile("/etc/login.defs")
	if err == nil {
		err = os.WriteFile("/etc/login.defs", append(defs, "\nCREATE_HOME yes\n"...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.WriteFile("/etc/login.defs", defs, 0o644) }()

	t.Cleanup(func() { os.RemoveAll("/home/guest") })
	apply(t, "guest", params{"homedir": "/home/guest"})
	if _, err := os.Stat("/home/guest"); !os.IsNotExist(err) {
		t.Errorf("a home directory was made (%v)", err)
	}
	must(t, "mkdir /home/guest", "touch /home/guest/file", "chown -R guest:guest /home/guest")
	apply(t, "guest", params{"homedir": "/srv/guest"})
	apply(t, "guest", params{"state": "absent"})
	if _, err := os.Stat("/home/guest/file"); err != nil {
		t.Errorf("a home directory was moved or removed: %v", err)
	}
}

// apply applies a user, which has to change something.
func apply(t *testing.T, name string, p params) {
	t.Helper()
	if out, err := sinktest.Build(t, user.Spec, name, p).CheckApply(t.Context(), true); err != nil || !out.Changed {
		t.Fatalf("applying %v: %+v, %v", p, out, err)
	}
}

func TestOnlyWhatIsGivenChanges(t *testing.T) {
	host(t)
	must(t, "useradd --no-create-home --uid 5100 --comment The_One --groups audio,games --home-dir /srv/one --shell /bin/false one")
	for _, tt := range []struct {
		name   string
		params params
		want   string
	}{
		{"the shell", params{"shell": "/bin/sh"}, "one:x:5100:5100:The_One:/srv/one:/bin/sh one audio games"},
		{"the home directory", params{"homedir": "/srv//one/two/"}, "one:x:5100:5100:The_One:/srv/one/two:/bin/sh one audio games"},
		{"the number", params{"uid": 5101}, "one:x:5101:5100:The_One:/srv/one/two:/bin/sh one audio games"},
		{"the groups", params{"groups": []any{"video", "audio", "video"}}, "one:x:5101:5100:The_One:/srv/one/two:/bin/sh one audio video"},
		{"the primary group", params{"group": "users"}, "one:x:5101:100:The_One:/srv/one/two:/bin/sh users audio video"},
		{"all groups", params{"groups": []any{}}, "one:x:5101:100:The_One:/srv/one/two:/bin/sh users"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			apply(t, "one", tt.params)
			if got := entry(t, "one"); got != tt.want {
				t.Errorf("it is\n%s, want\n%s", got, tt.want)
			}
		})
	}
}

// A host without the tools gets them while the resource waits.
func TestToolsAreMissing(t *testing.T) {
	host(t)
	must(t, "mv /usr/sbin/useradd /run/useradd")
	back := sync.OnceFunc(func() { must(t, "mv /run/useradd /usr/sbin/useradd") })
	t.Cleanup(back)
	r := sinktest.Build(t, user.Spec, "late", nil)
	if out, err := r.CheckApply(t.Context(), false); err != nil || !out.Changed {
		t.Errorf("a check: %+v, %v", out, err)
	}
	if _, err := r.CheckApply(t.Context(), true); err == nil || !strings.Contains(err.Error(), "there is no /usr/sbin/useradd on this host, by which accounts are changed: install the package passwd") {
		t.Errorf("got %v", err)
	}
	source := inotify.New(inotify.Options{})
	for _, w := range r.Watches() {
		if err := source.Add(w); err != nil {
			t.Fatal(err)
		}
	}
	back()
	for e, err := range source.Events().Seq(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Watch == inotify.Path("/usr/sbin/useradd") {
			break
		}
	}
	if out, err := r.CheckApply(t.Context(), true); err != nil || !out.Changed {
		t.Errorf("with the tool: %+v, %v", out, err)
	}
}

// One tool at a time: two at once would refuse to work.
func TestUsersAndGroupsAtTheSameTime(t *testing.T) {
	host(t)
	var running sync.WaitGroup
	for i := range 10 {
		name := fmt.Sprintf("team%d", i)
		for _, r := range []sinks.Resource{
			sinktest.Build(t, user.Spec, name, params{"group": "users", "shell": "/bin/false"}),
			sinktest.Build(t, group.Spec, name, nil),
		} {
			running.Go(func() {
				if out, err := r.CheckApply(t.Context(), true); err != nil || !out.Changed {
					t.Errorf("%s: %+v, %v", name, out, err)
				}
			})
		}
	}
	running.Wait()
}

func TestOutputs(t *testing.T) {
	r, err := (&user.Config{}).Build("root", sinks.Options{Sends: []string{"uid", "gid", "homedir"}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.CheckApply(t.Context(), false)
	want := sinks.Outcome{Values: map[string]any{"uid": int64(0), "gid": int64(0), "homedir": "/root"}}
	if diff := cmp.Diff(want, out); diff != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	if _, err := (&user.Config{State: "absent"}).Build("root", sinks.Options{Sends: []string{"uid"}}); err == nil {
		t.Error("a user that is absent sends its number")
	}
}
