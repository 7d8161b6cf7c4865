package user_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sinks/user"
)

func TestEdges(t *testing.T) {
	const tool = "needs owned /usr/sbin/useradd, which brings the tool for it"
	for _, tt := range []struct {
		name string
		cfg  *user.Config
		want []string
	}{
		{"a user comes after the group of its name, or brings it", &user.Config{}, []string{
			"provides user web", "provides group web", tool, "needs group web, its group"}},
		{"a user comes after its groups", &user.Config{Group: "www", Groups: []string{"audio", "video"}}, []string{
			"provides user web", tool, "needs group www, its group", "needs group audio, one of its groups", "needs group video, one of its groups"}},
		{"a user comes after a group with a number", &user.Config{GID: new(int64(7))}, []string{
			"provides user web", tool, "needs group 7, its group"}},
		{"a user comes after its shell and the mount for its home directory", &user.Config{Group: "w", Shell: "/bin/zsh", Homedir: "/home/web"}, []string{
			"provides user web", tool, "needs group w, its group",
			"needs file /bin/zsh, its shell", "needs owned /bin/zsh, which brings a file that it uses", "needs edits /bin/zsh, which changes a file that it uses",
			"needs dir above /bin/zsh, which holds a file that it uses", "needs mount above /bin/zsh, on which a file is that it uses",
			"needs mount above /home/web, on which its home directory is"}},
		{"the groups of a user that is absent can be removed", &user.Config{State: "absent", Group: "www"}, []string{
			"provides freed web", "provides freed www", tool}},
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
		cfg  *user.Config
		was  map[string]string
		want *user.Config
		err  string
	}{
		{"a user that was made", &user.Config{UID: new(int64(7))}, map[string]string{"state": "absent", "uid": ""}, &user.Config{State: "absent"}, ""},
		{"numbers that were changed", &user.Config{AllowDuplicateUID: true}, map[string]string{"uid": "7", "gid": "8"},
			&user.Config{State: "exists", UID: new(int64(7)), GID: new(int64(8)), AllowDuplicateUID: true}, ""},
		{"a primary group without a name", &user.Config{AllowDuplicateUID: true}, map[string]string{"group": "8"}, &user.Config{State: "exists", GID: new(int64(8))}, ""},
		{"names that were changed", &user.Config{}, map[string]string{"group": "a", "groups": "b,c", "homedir": "/d", "shell": "/e"},
			&user.Config{State: "exists", Group: "a", Groups: []string{"b", "c"}, Homedir: "/d", Shell: "/e"}, ""},
		{"groups where there were none", &user.Config{}, map[string]string{"groups": ""}, &user.Config{State: "exists", Groups: []string{}}, ""},
		{"a user that was removed", &user.Config{State: "absent"}, map[string]string{"state": "exists"}, nil, "are not kept"},
		{"a shell where there was none", &user.Config{}, map[string]string{"shell": ""}, nil, "there was no shell before"},
		{"a number that is none", &user.Config{}, map[string]string{"uid": sinks.Withheld}, nil, "which is no number"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.cfg.Reverse(tt.was)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("got %+v, %v; want an error with %q", got, err, tt.err)
				}
				return
			}
			if diff := cmp.Diff(sinks.Config(tt.want), got); diff != "" || err != nil {
				t.Errorf("%v, -want +got:\n%s", err, diff)
			}
		})
	}
}
