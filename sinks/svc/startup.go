package svc

import (
	"context"
	"fmt"
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
)

// installed is what a state of unit files, as systemctl is-enabled prints it, comes to.
func installed(files string) string {
	switch files {
	case "enabled", "alias":
		return enabled
	case "masked":
		return masked
	case "disabled", "linked", "linked-runtime", "indirect", "static", "transient", "generated", absent:
		return disabled // it is not started because of its own [Install] section
	}
	return files // until the next boot: "enabled-runtime", "masked-runtime"; "bad"
}

// install makes the unit enabled, disabled or masked.
func (s *svc) install(ctx context.Context, apply bool, files string, out *sinks.Outcome) error {
	if s.startup == "" || installed(files) == s.startup {
		return nil
	}
	switch {
	case files == "bad":
		return fmt.Errorf("the file of %s is bad: systemctl status %s says why", s.unit, s.unit)
	case s.startup == enabled && (files == "generated" || files == "transient"):
		return fmt.Errorf("%s can't be enabled: it is %s, and has no file of its own", s.unit, files)
	}
	if err := s.change(ctx, apply, out, "startup", files, s.startup); err != nil || !apply {
		return err
	}
	changed, err := s.link(ctx, files)
	if changed {
		if again := s.bus.DaemonReload(ctx); err == nil && again != nil {
			err = fmt.Errorf("having systemd read its unit files: %w", again)
		}
	}
	return err
}

// link makes and removes the links that startup stands for.
func (s *svc) link(ctx context.Context, files string) (changed bool, err error) {
	if strings.HasPrefix(files, "masked") {
		if changed, err = s.bus.Unmask(ctx, s.unit); err != nil {
			return changed, fmt.Errorf("unmasking %s: %w", s.unit, err)
		}
	}
	var more bool
	switch s.startup {
	case enabled:
		var installable bool
		installable, more, err = s.bus.Enable(ctx, s.unit)
		if err == nil && !installable {
			err = fmt.Errorf("its file has no [Install] section: it is started by other units, and can't be enabled by itself")
		}
	case disabled:
		more, err = s.bus.Disable(ctx, s.unit)
	case masked:
		more, err = s.bus.Mask(ctx, s.unit)
	}
	if err != nil {
		err = fmt.Errorf("making %s %s: %w", s.unit, s.startup, err)
	}
	return changed || more, err
}
