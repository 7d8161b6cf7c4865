package meshcli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/command"
	"github.com/mgmtproject/mgmt/cmd/internal/instance"
	"github.com/mgmtproject/mgmt/cmd/internal/mesh"
)

// statusCommand shows how a mesh is.
func statusCommand(p Program) *cobra.Command {
	var at place
	asJSON := false
	cmd := &cobra.Command{
		Use:   "status [FLAGS]",
		Short: "Show how a mesh is: its servers, its hosts, what they export",
		Long: `Show how a mesh is, as a host of this machine sees it: which hosts serve it, whether they answer,
how quickly, and how much they hold; which hosts are there, and how many resources each exports.
A host that is away keeps what it exports in force, until mgmt mesh forget takes it out.

It is of use without a majority of the servers too: then it says what each one has.

Exit status:
    0  the servers can decide, each of them answers, and nobody complains
    1  otherwise, or if no host of this machine has been in a mesh
    2  a mistake in the arguments`,
		Example: `  mgmt mesh status
  mgmt mesh status --json | jq '.servers[] | {host, revision, db_bytes}'`,
		ValidArgsFunction: cobra.NoFileCompletions,
		Args:              command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := at.settle(); err != nil {
				return err
			}
			r, err := at.reach()
			if err != nil {
				return err
			}
			defer r.close()
			status := r.survey(cmd.Context())
			if asJSON {
				err = writeJSON(p.Out, status)
			} else {
				err = status.write(p.Out)
			}
			if err == nil && !status.well() {
				return command.ExitStatus(exitFailed)
			}
			return err
		},
	}
	at.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "write the answer as a JSON document; docs/mesh.md describes it")
	return cmd
}

// settle takes one of several hosts whose peers run, if none was named: what they see of a
// mesh is the same.
func (p *place) settle() error {
	_, _, err := p.find()
	if _, several := errors.AsType[command.UsageError](err); !several {
		return err
	}
	prefix, _, prefixErr := instance.Prefix(p.prefix)
	locks, globErr := filepath.Glob(filepath.Join(prefix, "mesh", "*", "lock"))
	if err := errors.Join(prefixErr, globErr); err != nil {
		return err
	}
	for _, lock := range locks {
		if pid, err := holder(lock); err == nil && pid != 0 {
			p.host = mesh.Host(filepath.Base(filepath.Dir(lock)))
			return nil
		}
	}
	return err
}

func writeJSON(w io.Writer, value any) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(value)
}

// write writes a report for people.
func (r *report) write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "mesh %s, seen from %s\n", orUnknown(r.Mesh), r.Host)
	all, up := r.voters()
	switch {
	case r.Foreign:
		b.WriteString("it is kept by an etcd that others run\n")
	case !r.Reached:
		fmt.Fprintf(&b, "it can't be reached: %s\n", r.Error)
		if all > 0 && up <= all/2 {
			fmt.Fprintf(&b, "%d of %d voters answer, which are too few to decide; if the others don't come back, mgmt mesh recover begins anew with what is left\n", up, all)
		}
	default:
		fmt.Fprintf(&b, "led by %s; %d of %d voters answer (ideal: %d), %s\n", orUnknown(r.Leader), up, all, r.Ideal, spare(all, up))
	}
	if r.Reached {
		fmt.Fprintf(&b, "revision %d, latency %.1f ms\n", r.Revision, r.Latency)
	}
	for _, a := range r.Alarms {
		fmt.Fprintf(&b, "alarm %s\n", a)
	}
	r.writeServers(&b)
	r.writeHosts(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func orUnknown(s string) string {
	if s == "" {
		return "(unknown)"
	}
	return s
}

// spare says how many servers may still be lost.
func spare(all, up int) string {
	n := up - all/2 - 1
	switch {
	case n <= 0:
		return "none may be lost"
	case n == 1:
		return "1 may be lost"
	}
	return fmt.Sprintf("%d may be lost", n)
}

func (r *report) writeServers(b *strings.Builder) {
	if len(r.Servers) == 0 {
		return
	}
	b.WriteString("\n")
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SERVER\tROLE\tLATENCY\tREVISION\tTERM\tDATABASE\tURL")
	for _, s := range r.Servers {
		role := "voter"
		switch {
		case s.Learner:
			role = "learner"
		case s.Leader:
			role = "leader"
		}
		url := strings.Join(s.URLs, ",")
		if s.Problem != "" {
			fmt.Fprintf(t, "%s\t%s\tdown\t\t\t\t%s\n", orUnknown(s.Host), role, url)
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%.1f ms\t%d\t%d\t%s\t%s\n", s.Host, role, s.Latency, s.Revision, s.Term, bytesText(s.Size), url)
	}
	_ = t.Flush() // to a strings.Builder
	for _, s := range r.Servers {
		if s.Problem != "" {
			fmt.Fprintf(b, "%s: %s\n", orUnknown(s.Host), s.Problem)
		}
	}
}

func (r *report) writeHosts(b *strings.Builder) {
	if len(r.Hosts) == 0 {
		return
	}
	b.WriteString("\n")
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "HOST\tSTATE\tEXPORTS")
	for _, h := range r.Hosts {
		state := "away"
		runs := slices.ContainsFunc(r.Servers, func(s serverReport) bool { return s.Host == h.Name })
		switch {
		case h.Leaving:
			state = "leaving"
		case h.Alive && runs:
			state = "serves"
		case h.Alive && h.Serves:
			state = "there, would serve"
		case h.Alive:
			state = "there"
		}
		if h.Trouble != "" {
			state += "; " + h.Trouble
		}
		fmt.Fprintf(t, "%s\t%s\t%d\n", h.Name, state, h.Exports)
	}
	_ = t.Flush() // to a strings.Builder
}

// bytesText is a number of bytes as people are told it.
func bytesText(n int64) string {
	switch {
	case n < 10<<10:
		return fmt.Sprintf("%d B", n)
	case n < 10<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
