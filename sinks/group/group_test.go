package group_test

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/group"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sinks/sinktest/needs"
)

type params = map[string]any

// run is a command that has to succeed.
func run(name string, args ...string) func() error {
	return func() error {
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
		}
		return nil
	}
}

func must(t *testing.T, name string, args ...string) {
	t.Helper()
	if err := run(name, args...)(); err != nil {
		t.Fatal(err)
	}
}

var (
	state  = sinktest.Files("/etc/passwd", "/etc/group", "/etc/gshadow")
	undone = sinktest.Contents("/etc/passwd", "/etc/group", "/etc/gshadow")
)

// host has the test run in a test host, which has its accounts back afterwards.
func host(t *testing.T) {
	t.Helper()
	needs.Systemd(t)
	sinktest.Restore(t, "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid")
}

func TestConformance(t *testing.T) {
	host(t)
	must(t, "groupadd", "--gid", "5003", "changed")
	must(t, "useradd", "--no-create-home", "--gid", "changed", "its-user")
	sinktest.Run(t, group.Spec,
		sinktest.Case{Name: "a group exists", Resource: "some", Disturb: run("groupdel", "some"), State: state, Undone: undone},
		sinktest.Case{Name: "a group exists with its number", Resource: "numbered", Params: params{"gid": 5001},
			Disturb: run("groupdel", "numbered"), State: state, Undone: undone},
		sinktest.Case{Name: "a group has its number", Resource: "changed", Params: params{"gid": 5002},
			Disturb: run("groupmod", "--gid", "5003", "changed"), State: state, Undone: undone},
		sinktest.Case{Name: "a group is absent", Resource: "gone", Params: params{"state": "absent", "gid": 5004},
			Disturb: run("groupadd", "gone"), State: state},
	)
}

func TestInvalid(t *testing.T) {
	for _, tt := range []struct {
		name, resource string
		params         params
		want           string
	}{
		{"a state that there is not", "a", params{"state": "gone"}, "exists"},
		{"a number below those of groups", "a", params{"gid": -1}, "gid: -1 is not between 0 and 4294967294"},
		{"the number that stands for none", "a", params{"gid": 1<<32 - 1}, "gid: 4294967295 is not between 0 and 4294967294"},
		{"a name with a colon", "a:b", nil, `"a:b" can't be the name of a group: it has a blank`},
		{"a name that tools take for a flag", "-f", nil, "it begins with -"},
		{"a name that is a number", "12", nil, "it is a number"},
		{"no name", "", nil, "it is empty"},
	} {
		t.Run(tt.name, func(t *testing.T) { sinktest.Invalid(t, group.Spec, tt.resource, tt.params, tt.want) })
	}
}

func TestWhatCannotBeIsSaidSo(t *testing.T) {
	host(t)
	must(t, "useradd", "--no-create-home", "--user-group", "member")
	for _, tt := range []struct {
		name, resource string
		params         params
		want           string
	}{
		{"a number that another group has", "a", params{"gid": 0}, "the gid 0 is that of the group root already: choose another one"},
		{"the primary group of a user", "member", params{"state": "absent"}, "cannot remove the primary group of user 'member'"},
		{"a name that the host refuses", strings.Repeat("long", 20), nil, "is not a valid group name"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, _ := state()
			out, err := sinktest.Build(t, group.Spec, tt.resource, tt.params).CheckApply(t.Context(), true)
			if err == nil || !strings.Contains(err.Error(), tt.want) || out.Changed {
				t.Errorf("got %+v, %v; want an error with %q", out, err, tt.want)
			}
			if after, _ := state(); after != before {
				t.Errorf("it has changed\n%s\nto\n%s", before, after)
			}
		})
	}
}

func TestOutputs(t *testing.T) {
	r, err := (&group.Config{}).Build("root", sinks.Options{Sends: []string{"gid"}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.CheckApply(context.Background(), false)
	if diff := cmp.Diff(sinks.Outcome{Values: map[string]any{"gid": int64(0)}}, out); diff != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
	if _, err := (&group.Config{State: "absent"}).Build("root", sinks.Options{Sends: []string{"gid"}}); err == nil {
		t.Error("a group that is absent sends its number")
	}
}

func TestEdges(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  *group.Config
		want []string
	}{
		{"a group comes after its tool", &group.Config{}, []string{
			"provides group web", "needs owned /usr/sbin/groupadd, which brings the tool for it"}},
		{"a group can be asked for by its number", &group.Config{GID: new(int64(7))}, []string{
			"provides group web", "provides group 7", "needs owned /usr/sbin/groupadd, which brings the tool for it"}},
		{"a group is removed after the users who were in it", &group.Config{State: "absent"}, []string{
			"needs owned /usr/sbin/groupadd, which brings the tool for it", "needs freed web, which was in it"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, sinktest.Edges(t, tt.cfg, "web")); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestReverse(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  *group.Config
		was  map[string]string
		want string
	}{
		{"a group that was removed", &group.Config{State: "absent"}, map[string]string{"state": "exists"}, "is not kept"},
		{"a number that is none", &group.Config{}, map[string]string{"gid": sinks.Withheld}, "which is no number"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if cfg, err := tt.cfg.Reverse(tt.was); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %+v, %v; want an error with %q", cfg, err, tt.want)
			}
		})
	}
}
