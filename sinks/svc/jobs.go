package svc

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources/systemd/bus"
)

func (s *svc) stop(ctx context.Context) error {
	result, err := s.bus.Stop(ctx, s.unit)
	if err != nil {
		return fmt.Errorf("stopping %s: %w", s.unit, err)
	}
	u, err := s.bus.Unit(ctx, s.unit)
	if err != nil {
		return err
	}
	if u.Stopped() {
		return nil
	}
	return fmt.Errorf("stopping %s has not worked (%s): it is %s", s.unit, told(result), u.Active)
}

// begin has the unit run by a job. Anew has systemd forget first how often it was started:
// it refuses what was started too often.
func (s *svc) begin(ctx context.Context, doing string, job func(context.Context, string) (bus.Result, error), anew bool) error {
	if anew {
		if err := s.bus.ResetFailed(ctx, s.unit); err != nil {
			return fmt.Errorf("%s %s: %w", doing, s.unit, err)
		}
	}
	defer s.bus.Hold(ctx, s.unit)()
	at := now()
	result, err := job(ctx, s.unit)
	if errors.Is(err, bus.ErrNoUnit) {
		// Its file is there, but came so soon after systemd had looked in vain that the
		// times of the directories don't tell.
		if err = s.bus.DaemonReload(ctx); err == nil {
			result, err = job(ctx, s.unit)
		}
	}
	return s.verify(ctx, doing, at, result, err)
}

// look is what the files of the unit are like.
func (s *svc) look() string {
	var b strings.Builder
	for _, dir := range bus.UnitDirs(s.session) {
		for _, name := range s.names() {
			paths := []string{filepath.Join(dir, name)}
			if more, err := filepath.Glob(filepath.Join(dir, name+".d", "*.conf")); err == nil {
				paths = append(paths, more...)
			}
			for _, path := range paths {
				var st unix.Stat_t
				if unix.Stat(path, &st) == nil {
					fmt.Fprintln(&b, path, st.Ino, st.Size, st.Mtim, st.Ctim)
				}
			}
		}
	}
	return b.String()
}

// reload has a unit that runs take in what has changed.
func (s *svc) reload(ctx context.Context, apply bool, out *sinks.Outcome) error {
	can, err := s.bus.UnitProperty(ctx, s.unit, "Unit", "CanReload")
	if err != nil {
		return err
	}
	doing, to := "restarting", "restarted"
	if can == true {
		doing, to = "reloading", "reloaded"
	}
	if err := s.change(ctx, apply, out, "refresh", "due", to); err != nil || !apply {
		return err
	}
	return s.begin(ctx, doing, s.bus.ReloadOrTryRestart, can != true)
}

// told is a result as an error has it.
func told(r bus.Result) string {
	if r == bus.Unknown {
		return "systemd was restarted meanwhile"
	}
	return "systemd says " + string(r)
}
