package exec_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mgmtproject/mgmt/sinks"
)

func TestPlan(t *testing.T) {
	dir := t.TempDir()
	trace, there := filepath.Join(dir, "trace"), filepath.Join(dir, "there")
	if err := os.WriteFile(there, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	const yes, no = "; true", "; false"
	ask := func(answer string) string { return "echo x >>" + trace + answer }
	for _, c := range []struct {
		name          string
		params        values
		safe, refresh bool
		want          string // From of the change; empty for none
		asked         bool
	}{
		{"a command runs", values{}, false, false, "(not run)", false},
		{"ifcmd is not asked unless it is safe", values{"ifcmd": ask(no)}, false, false, "(not run; would run, if ifcmd agrees)", false},
		{"nifcmd is not asked unless it is safe", values{"nifcmd": ask(yes)}, false, false, "(not run; would run, if nifcmd agrees)", false},
		{"neither of both is asked", values{"ifcmd": ask(yes), "nifcmd": ask(no)}, false, false, "(not run; would run, if ifcmd and nifcmd agree)", false},
		{"a safe ifcmd that says no is believed", values{"ifcmd": ask(no)}, true, false, "", true},
		{"a safe ifcmd that says yes is believed", values{"ifcmd": ask(yes)}, true, false, "(not run)", true},
		{"a safe nifcmd that says no need is believed", values{"nifcmd": ask(yes)}, true, false, "", true},
		{"files decide before commands that can't be asked", values{"creates": there, "ifcmd": ask(yes)}, false, false, "", false},
		{"what is not there yet does not decide", values{"creates": filepath.Join(dir, "nothing"), "ifcmd": ask(yes)}, false, false, "(not run; would run, if ifcmd agrees)", false},
		{"a notification asks nobody", values{"ifcmd": ask(no), "creates": there}, true, true, "(not run)", false},
		{"the other commands never run", values{"watchcmd": ask(yes), "watchshell": sh, "donecmd": ask(yes), "doneshell": sh}, true, false, "(not run)", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			_ = os.Remove(trace)
			c.params["shell"], c.params["ifshell"], c.params["nifshell"] = sh, sh, sh
			out, err := build(t, ask(yes), c.params).(sinks.Planner).Plan(t.Context(), c.safe, c.refresh)
			if err != nil {
				t.Fatal(err)
			}
			from := ""
			if out.Changed {
				from = out.Changes[0].From
			}
			if from != c.want || out.Changed != (len(out.Changes) == 1) {
				t.Errorf("got %+v, want a change from %q", out, c.want)
			}
			if _, err := os.Stat(trace); (err == nil) != c.asked {
				t.Errorf("whether a command has run: %v, want %v", err == nil, c.asked)
			}
		})
	}
}

func TestReads(t *testing.T) {
	r := build(t, "true", values{
		"mtimes": "/m", "ifcmd": `test -f "/etc/a b" && grep -q x </etc/x`, "ifshell": sh, "nifcmd": "test -e made", "nifcwd": "/srv",
	}).(sinks.Reader)
	for _, want := range []string{"path /m", "path /etc/a", "path /etc/x", "path /srv/made"} {
		if got := r.Reads(); !slices.Contains(got, want) {
			t.Errorf("%q is not among %q", want, got)
		}
	}
}
