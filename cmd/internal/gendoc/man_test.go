package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/mgmtproject/mgmt/cmd/internal/cli"
)

func TestManHasTheHelpOfEachCommand(t *testing.T) {
	text := strings.NewReplacer(`\e`, `\`, `\-`, "-", `\(aq`, "'", `\(ga`, "`", `\(ha`, "^", `\(ti`, "~", `\&`, "").Replace(Man())
	for _, c := range documented() {
		if !strings.Contains(text, "\n.SS "+c.CommandPath()+"\n.nf\n"+cli.HelpText(c)+".fi\n") {
			t.Errorf("the page has no help of %s", c.CommandPath())
		}
	}
	if len(documented()) < 5 || !strings.Contains(text, ".SH NAME\nmgmt - keep a host") {
		t.Error("the page begins otherwise")
	}
}

func TestRoff(t *testing.T) {
	for _, c := range []struct{ name, line, want string }{
		{"an option", "--file FILE", `\-\-file FILE`},
		{"a request", ".nf", `\&.nf`},
		{"another request", "'tis", `\(aqtis`},
		{"an escape", `\n`, `\en`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := roff(c.line); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestManIsOneForGroff(t *testing.T) {
	if _, err := exec.LookPath("groff"); err != nil {
		t.Skip("groff is not installed; lintian or man would tell")
	}
	cmd := exec.CommandContext(t.Context(), "groff", "-man", "-Tutf8", "-ww", "-z")
	cmd.Stdin = strings.NewReader(Man())
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("groff: %v: %s", err, out)
	}
}
