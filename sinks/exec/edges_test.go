package exec_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mgmtproject/mgmt/sinks/exec"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

func TestEdges(t *testing.T) {
	for _, test := range []struct {
		name     string
		resource string
		cfg      *exec.Config
		want     []string
	}{
		{"a program in PATH needs nothing", "echo hello", &exec.Config{}, nil},
		{"a command comes after its program and its directory", "x", &exec.Config{Cmd: "./run -a", Cwd: "/srv/app/", User: "www", Group: "7"}, []string{
			"needs file /srv/app/run, which it runs",
			"needs owned /srv/app/run, which brings a file that it uses",
			"needs edits /srv/app/run, which changes a file that it uses",
			"needs dir above /srv/app/run, which holds a file that it uses",
			"needs mount above /srv/app/run, on which a file is that it uses",
			"needs dir /srv/app, in which it runs",
			"needs dir above /srv/app, in which it runs",
			"needs mount /srv/app, in which it runs",
			"needs mount above /srv/app, in which it runs",
			"needs owned /srv/app, which brings where it runs",
			"needs user www, as which it runs",
		}},
		{"what it creates is not waited for", "true", &exec.Config{Creates: "/srv/app", WatchFiles: []string{"/srv/app"}}, []string{
			"provides file /srv/app",
			"provides dir /srv/app",
			"needs dir above /srv/app, which holds it",
			"needs mount above /srv/app, on which it is",
		}},
		{"a command comes after the files that it looks at", "true", &exec.Config{Mtimes: []string{"/etc//x"}}, []string{
			"needs file /etc/x, which it looks at",
			"needs owned /etc/x, which brings a file that it uses",
			"needs edits /etc/x, which changes a file that it uses",
			"needs dir above /etc/x, which holds a file that it uses",
			"needs mount above /etc/x, on which a file is that it uses",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, sinktest.Edges(t, test.cfg, test.resource)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestProgramsThatRun(t *testing.T) {
	for _, test := range []struct {
		name string
		cfg  *exec.Config
		want []string
	}{
		{"a program", &exec.Config{Cmd: "/opt/tool -x /etc/motd"}, []string{"/opt/tool"}},
		{"a quoted program", &exec.Config{Cmd: "'/opt/my tool' -x"}, []string{"/opt/my tool"}},
		{"a program with args is not split", &exec.Config{Cmd: "/opt/my tool", Args: []string{"/x"}}, []string{"/opt/my tool"}},
		{"a path that is not clean", &exec.Config{Cmd: "/opt/../bin//x"}, []string{"/bin/x"}},
		{"a relative program without a directory", &exec.Config{Cmd: "./run"}, nil},
		{"a shell and the first word of the script", &exec.Config{Shell: "/bin/sh", Cmd: "/opt/tool && /opt/other"}, []string{"/bin/sh", "/opt/tool"}},
		{"a script that begins with an expansion", &exec.Config{Shell: "sh", Cmd: "/opt/$x"}, nil},
		{"a script that begins with a redirection", &exec.Config{Shell: "sh", Cmd: "/opt/x>y"}, nil},
		{"all commands", &exec.Config{Cmd: "/1", IfCmd: "/2", NifCmd: "/3", DoneCmd: "/4", WatchCmd: "/5"}, []string{"/1", "/5", "/2", "/3", "/4"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, line := range sinktest.Edges(t, test.cfg, "x") {
				if path, ok := strings.CutSuffix(line, ", which it runs"); ok {
					got = append(got, strings.TrimPrefix(path, "needs file "))
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
