package svc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/mgmtproject/mgmt/sources/systemd/bus"
)

// journalLines is how many of the last lines of a unit an error has, and journalTime how
// long they may take to be found.
const (
	journalLines = 10
	journalTime  = 3 * time.Second
)

// verify looks at the unit after a job that should have it running.
func (s *svc) verify(ctx context.Context, doing string, result bus.Result, err error) error {
	if err != nil {
		return fmt.Errorf("%s %s: %w", doing, s.unit, err)
	}
	u, err := s.bus.Unit(ctx, s.unit)
	if err != nil {
		return err
	}
	if u.Running() && (result == bus.Done || result == bus.Unknown) {
		return nil
	}
	text := fmt.Sprintf("%s %s has not worked: %s", doing, s.unit, s.why(ctx, u, result))
	if lines := s.journal(ctx, u.Invocation); lines != "" {
		text += "; its last lines in the journal:\n" + lines
	}
	return errors.New(text)
}

// why says in a few words what went wrong.
func (s *svc) why(ctx context.Context, u bus.Unit, result bus.Result) string {
	switch {
	case u.Load == "masked":
		return "it is masked"
	case u.Load != "loaded" && u.Load != "":
		return "its file can't be used (" + u.Load + ")"
	case result == bus.Dependency:
		return "a unit that it requires has failed"
	case result == bus.Timeout:
		return "it took longer than the unit allows"
	case result == bus.Canceled:
		return "another job came in between"
	}
	if !strings.HasSuffix(s.unit, ".service") {
		return fmt.Sprintf("it is %s (%s)", u.Active, told(result))
	}
	switch end := s.property(ctx, "Result"); {
	case end == "start-limit-hit":
		return "it was started too often in a short time (StartLimitBurst= of the unit)"
	case end == "exit-code":
		return "it ended with the exit status " + s.property(ctx, "ExecMainStatus")
	case end == "signal" || end == "core-dump":
		return "it was killed by the signal " + s.property(ctx, "ExecMainStatus")
	case end == "success" && u.Active == "inactive":
		return "it has ended at once, without an error: a unit that shall be running needs a process that stays, or RemainAfterExit=yes"
	case end != "" && end != "success":
		return end
	}
	return fmt.Sprintf("it is %s (%s)", u.Active, told(result))
}

// property is a property of the service in words, "" if it can't be had.
func (s *svc) property(ctx context.Context, name string) string {
	v, err := s.bus.UnitProperty(ctx, s.unit, "Service", name)
	if err != nil {
		return ""
	}
	return fmt.Sprint(v)
}

// journal returns the last lines of a run of the unit, each indented, or "" if there are
// none or this user may not read them.
func (s *svc) journal(ctx context.Context, invocation string) string {
	if strings.Trim(invocation, "0") == "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, journalTime)
	defer cancel()
	journalctl := func(args ...string) []byte {
		cmd := exec.CommandContext(ctx, "journalctl", args...)
		cmd.WaitDelay = time.Second
		out, err := cmd.Output()
		if err != nil {
			return nil
		}
		return out
	}
	// What the service has just written may not have been read by the journal. Only
	// root may ask for that.
	journalctl("--sync")
	lines := func(match ...string) []byte {
		return journalctl(append([]string{"--quiet", "--no-pager", "--output=cat", fmt.Sprintf("--lines=%d", journalLines)}, match...)...)
	}
	unit, its := "_SYSTEMD_UNIT=", "INVOCATION_ID="
	if s.session {
		unit, its = "_SYSTEMD_USER_UNIT=", "USER_INVOCATION_ID="
	}
	out := lines("_SYSTEMD_INVOCATION_ID=" + invocation)
	if len(out) == 0 {
		// Of a process that ends at once the journal may know no more than the unit.
		if began, err := strconv.ParseUint(s.property(ctx, "ExecMainStartTimestamp"), 10, 64); err == nil && began > 0 {
			out = lines(unit+s.unit, fmt.Sprintf("--since=@%d.%06d", began/1e6, began%1e6))
		}
	}
	if len(out) == 0 { // what systemd itself says of it
		out = lines(its + invocation)
	}
	var b strings.Builder
	for line := range bytes.Lines(bytes.TrimSpace(out)) {
		b.WriteString("\t")
		b.Write(bytes.ToValidUTF8(line, []byte("?")))
	}
	return b.String()
}
