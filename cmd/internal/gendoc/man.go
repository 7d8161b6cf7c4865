package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/cli"
)

// Man is the manual page of the program, mgmt(1): the help of each command, as it is.
func Man() string {
	root := cli.New(cli.Program{})
	var b strings.Builder
	b.WriteString(".TH MGMT 1\n.SH NAME\nmgmt \\- " + roff(lower(root.Short)) + "\n")
	b.WriteString(".SH SYNOPSIS\n.nf\n")
	commands := documented()
	for _, c := range commands {
		b.WriteString(roff(c.UseLine()) + "\n")
	}
	b.WriteString(".fi\n.SH DESCRIPTION\n" + preformatted(cli.HelpText(root)))
	b.WriteString(".SH COMMANDS\n")
	for _, c := range commands {
		fmt.Fprintf(&b, ".SS %s\n%s", roff(c.CommandPath()), preformatted(cli.HelpText(c)))
	}
	b.WriteString(".SH SEE ALSO\nThe pages below /usr/share/doc/mgmt, for the graph file above all.\n")
	return b.String()
}

// documented are the commands that a user may mean.
func documented() []*cobra.Command {
	var list []*cobra.Command
	programs(func(cmd *cobra.Command) {
		if cmd.CommandPath() != "mgmt" {
			list = append(list, cmd)
		}
	})
	return list
}

func lower(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// preformatted is text that keeps its lines.
func preformatted(text string) string {
	var b strings.Builder
	b.WriteString(".nf\n")
	for line := range strings.Lines(text) {
		b.WriteString(roff(strings.TrimSuffix(line, "\n")) + "\n")
	}
	b.WriteString(".fi\n")
	return b.String()
}

// roff is a line without anything that has a meaning to roff(7).
func roff(line string) string {
	line = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(line)
	if strings.HasPrefix(line, ".") {
		line = `\&` + line
	}
	return line
}
