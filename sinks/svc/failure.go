package svc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sources/systemd/bus"
)

// journalLines is how many of the last lines of a unit an error has, and journalTime how
// long they may take to be found.
const (
	journalLines = 10
	journalTime  = 3 * time.Second
)

// now is the time as systemd stamps what units do, in microseconds.
func now() uint64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // every Linux has it
	}
	return uint64(t.Nano() / 1000)
}

// verify looks at the unit after a job that should have it running, and was asked for at
// the time at.
func (s *svc) verify(ctx context.Context, doing string, at uint64, result bus.Result, err error) error {
	if err != nil {
		return fmt.Errorf("%s %s: %w", doing, s.unit, err)
	}
	u, err := s.bus.Unit(ctx, s.unit)
	if err != nil {
		return err
	}
	if s.failed = !u.Running(); s.failed {
		s.tried = s.look()
	} else if result == bus.Done || result == bus.Unknown {
		return nil
	}
	text := fmt.Sprintf("%s %s has not worked: %s", doing, s.unit, s.why(ctx, u, at, result))
	if lines := s.journal(ctx, u.Invocation); lines != "" {
		text += "; its last lines in the journal:\n" + lines
	}
	return errors.New(text)
}

// why says in a few words what went wrong.
func (s *svc) why(ctx context.Context, u bus.Unit, at uint64, result bus.Result) string {
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
	case u.Running():
		return fmt.Sprintf("it runs on as before (%s)", told(result))
	case result == bus.Failed && u.Active == "failed" && s.left(ctx) < at:
		return s.refused(ctx)
	}
	if unmet := s.unmet(ctx); unmet != "" {
		return unmet
	}
	if end := s.end(ctx, u); end != "" {
		return end
	}
	return fmt.Sprintf("it is %s (%s)", u.Active, told(result))
}

// left is when the unit has last begun to start, in the count of now: 0 if it never has,
// and the latest possible if nobody knows.
func (s *svc) left(ctx context.Context) uint64 {
	v, err := s.bus.UnitProperty(ctx, s.unit, "Unit", "InactiveExitTimestampMonotonic")
	if at, ok := v.(uint64); ok && err == nil {
		return at
	}
	return math.MaxUint64
}

// refused says why systemd does not even try to start the unit, and what to do.
func (s *svc) refused(ctx context.Context) string {
	limit := "too often in a short time"
	burst, err := s.bus.UnitProperty(ctx, s.unit, "Unit", "StartLimitBurst")
	interval, err2 := s.bus.UnitProperty(ctx, s.unit, "Unit", "StartLimitIntervalUSec")
	if usec, ok := interval.(uint64); ok && err == nil && err2 == nil {
		limit = fmt.Sprintf("%v times within %v, which is all that its StartLimitBurst= allows", burst, time.Duration(usec)*time.Microsecond)
	}
	user := ""
	if s.session {
		user = "--user "
	}
	text := "systemd refuses it, since it was started " + limit
	if end := s.end(ctx, bus.Unit{}); end != "" {
		text += "; the last time, " + end
	}
	return text + fmt.Sprintf("; mend that: it is started again when its files change, when it is notified, or after: systemctl %sreset-failed %s", user, s.unit)
}

// unmet names what systemd requires of the host before it starts the unit, "" if that is
// there.
func (s *svc) unmet(ctx context.Context) string {
	for _, kind := range []string{"Condition", "Assert"} {
		if v, err := s.bus.UnitProperty(ctx, s.unit, "Unit", kind+"Result"); err != nil || v != false {
			continue
		}
		v, err := s.bus.UnitProperty(ctx, s.unit, "Unit", kind+"s")
		tests, ok := v.([][]any) // name, "|", "!", parameter, and whether it holds: 1, -1, or 0 for not tried
		if err != nil || !ok {
			continue
		}
		var unmet []string
		for _, test := range tests {
			if len(test) < 5 {
				continue
			}
			if holds, ok := test[4].(int32); !ok || holds >= 0 {
				continue
			}
			not := ""
			if test[2] == true {
				not = "!"
			}
			unmet = append(unmet, fmt.Sprintf("%v=%s%v", test[0], not, test[3]))
		}
		if len(unmet) > 0 {
			return "systemd does not start it, since its file asks for " + strings.Join(unmet, " and ") + ", which is not so"
		}
	}
	return ""
}

// end says how a run of a service has ended, "" if that is not known.
func (s *svc) end(ctx context.Context, u bus.Unit) string {
	if !strings.HasSuffix(s.unit, ".service") {
		return ""
	}
	switch end := s.property(ctx, "Result"); {
	case end == "exit-code":
		return "it ended with the exit status " + s.property(ctx, "ExecMainStatus")
	case end == "signal" || end == "core-dump":
		return "it was killed by the signal " + s.property(ctx, "ExecMainStatus")
	case end == "success" && u.Active == "inactive":
		return "it has ended at once, without an error, or was stopped: a unit that shall be running needs a process that stays, or RemainAfterExit=yes"
	case end == "exec-condition":
		return "its ExecCondition= does not let it"
	case end != "success" && end != "start-limit-hit":
		return end
	}
	return ""
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
