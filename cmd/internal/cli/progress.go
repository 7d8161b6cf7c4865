package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mgmtproject/mgmt/pipeline"
)

// stillPending says what a run that has not converged was doing, to be put behind that.
func stillPending(s *pipeline.Status) string {
	if !s.Loaded {
		return ": the graph was not loaded yet"
	}
	var running, waiting []string
	for _, r := range s.Snapshot(s.Resources).Pending {
		switch r.State {
		case "running":
			running = append(running, r.Resource)
		case "pending":
			waiting = append(waiting, r.Resource)
		}
	}
	return list("; still running: ", running) + list("; not begun: ", waiting)
}

// list names the first few of many.
func list(prefix string, names []string) string {
	const most = 5
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	text := prefix + strings.Join(names[:min(most, len(names))], ", ")
	if more := len(names) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
