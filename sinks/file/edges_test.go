package file_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mgmtproject/mgmt/sinks/file"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

func TestEdges(t *testing.T) {
	for _, test := range []struct {
		name     string
		resource string
		cfg      *file.Config
		want     []string
	}{
		{"a file comes after its directory, its owner and the package that brings it", "/etc/motd", &file.Config{State: "exists", Owner: "www", Group: "web"}, []string{
			"provides file /etc/motd",
			"needs dir above /etc/motd, which holds it",
			"needs mount above /etc/motd, on which it is",
			"needs owned /etc/motd, which brings it",
			"needs user www, its owner",
			"needs group web, its group",
		}},
		{"numbers are no names", "/etc/", &file.Config{State: "exists", Owner: "0", Group: "33"}, []string{
			"provides dir /etc",
			"needs dir above /etc, which holds it",
			"needs mount above /etc, on which it is",
			"needs owned /etc, which brings it",
		}},
		{"a file whose mode is managed comes after who makes it", "/srv/tool", &file.Config{Mode: "0755"}, []string{
			"provides file /srv/tool",
			"needs dir above /srv/tool, which holds it",
			"needs mount above /srv/tool, on which it is",
			"needs owned /srv/tool, which brings it",
			"needs file /srv/tool, which makes it",
		}},
		{"a file that is absent", "/etc/motd", &file.Config{State: "absent"}, []string{
			"provides gone /etc/motd",
			"needs owned /etc/motd, which brings it",
			"needs mount above /etc/motd, on which it is",
		}},
		{"a directory that is absent comes after what is absent in it", "/srv/old/", &file.Config{State: "absent"}, []string{
			"provides gone /srv/old",
			"needs owned /srv/old, which brings it",
			"needs mount above /srv/old, on which it is",
			"needs gone below /srv/old, which may be in it",
		}},
		{"a link leads somewhere", "/srv/current", &file.Config{Symlink: "releases/2"}, []string{
			"provides file /srv/current",
			"provides dir /srv/current",
			"needs dir above /srv/current, which holds it",
			"needs mount above /srv/current, on which it is",
			"needs owned /srv/current, which brings it",
			"needs file /srv/releases/2, its target",
			"needs dir /srv/releases/2, its target",
		}},
		{"a copy comes after its source", "/srv/copy", &file.Config{Source: "/srv/in/x"}, []string{
			"provides file /srv/copy",
			"needs dir above /srv/copy, which holds it",
			"needs mount above /srv/copy, on which it is",
			"needs owned /srv/copy, which brings it",
			"needs file /srv/in/x, its source",
			"needs owned /srv/in/x, which brings a file that it uses",
			"needs edits /srv/in/x, which changes a file that it uses",
			"needs dir above /srv/in/x, which holds a file that it uses",
			"needs mount above /srv/in/x, on which a file is that it uses",
		}},
		{"a file that is made from a template comes after it", "/srv/x", &file.Config{TemplateFile: "/srv/in/x.tmpl"}, []string{
			"provides file /srv/x",
			"needs dir above /srv/x, which holds it",
			"needs mount above /srv/x, on which it is",
			"needs owned /srv/x, which brings it",
			"needs file /srv/in/x.tmpl, its template",
			"needs owned /srv/in/x.tmpl, which brings a file that it uses",
			"needs edits /srv/in/x.tmpl, which changes a file that it uses",
			"needs dir above /srv/in/x.tmpl, which holds a file that it uses",
			"needs mount above /srv/in/x.tmpl, on which a file is that it uses",
		}},
		{"a file of fragments comes after all that is in them", "/srv/all", &file.Config{Fragments: []string{"/srv/in"}}, []string{
			"provides file /srv/all",
			"needs dir above /srv/all, which holds it",
			"needs mount above /srv/all, on which it is",
			"needs owned /srv/all, which brings it",
			"needs file /srv/in, one of its fragments",
			"needs owned /srv/in, which brings a file that it uses",
			"needs edits /srv/in, which changes a file that it uses",
			"needs dir above /srv/in, which holds a file that it uses",
			"needs mount above /srv/in, on which a file is that it uses",
			"needs dir /srv/in, one of its fragments",
			"needs mount /srv/in, on which a file is that it uses",
			"needs dir below /srv/in, which is in a directory that it uses",
			"needs file below /srv/in, which is in a directory that it uses",
			"needs edits below /srv/in, which is in a directory that it uses",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, sinktest.Edges(t, test.cfg, test.resource)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestUnitFiles(t *testing.T) {
	for _, test := range []struct{ name, path, want string }{
		{"a unit", "/etc/systemd/system/web.service", "provides unit web.service"},
		{"a unit of a package", "/usr/lib/systemd/system/web.socket", "provides unit web.socket"},
		{"a drop-in", "/etc/systemd/system/web.service.d/limits.conf", "provides unit web.service"},
		{"a drop-in of a template", "/run/systemd/system/getty@.service.d/x.conf", "provides unit getty@.service"},
		{"something else beside a drop-in", "/etc/systemd/system/web.service.d/README", ""},
		{"a drop-in for all units of a type", "/etc/systemd/system/service.d/x.conf", ""},
		{"a link that enables", "/etc/systemd/system/multi-user.target.wants/web.service", ""},
		{"a unit of users", "/etc/systemd/user/web.service", ""},
		{"a unit elsewhere", "/srv/systemd/system/web.service", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := sinktest.Edges(t, &file.Config{State: "exists"}, test.path)[1]
			if test.want == "" && strings.HasPrefix(got, "provides") || test.want != "" && got != test.want {
				t.Errorf("after the file it says %q, want %q", got, test.want)
			}
		})
	}
}
