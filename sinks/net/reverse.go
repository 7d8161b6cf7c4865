package net

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
)

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser: what was changed is as it was.
func (c *Config) Reverse(was map[string]string) (sinks.Config, error) {
	if len(was) == 0 {
		return nil, nil
	}
	if slices.Contains(slices.Collect(maps.Values(was)), sinks.Withheld) {
		return nil, errors.New("there were too many addresses to be kept")
	}
	undo := &Config{State: c.State}
	if state, changed := was["state"]; changed {
		undo.State = state
	}
	if addrs, changed := was["addrs"]; changed {
		undo.Addrs = append([]string{}, strings.Fields(addrs)...)
	}
	if gateway, changed := was["gateway"]; changed && undo.State != down {
		switch {
		case gateway == onLink || strings.Contains(gateway, " "):
			return nil, fmt.Errorf("the default route was %q, which is not one gateway", gateway)
		case gateway != none:
			undo.Gateway = gateway
		case strings.Contains(c.Gateway, ":"):
			undo.Gateway = netip.IPv6Unspecified().String()
		default:
			undo.Gateway = netip.IPv4Unspecified().String()
		}
	}
	if forward, changed := was["ip_forward"]; changed {
		undo.IPForward = new(forward == "true")
	}
	return undo, nil
}
