package group

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/mgmtproject/mgmt/sinks"
)

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser: a group that was made is removed, and one whose number
// was changed gets the old one.
func (c *Config) Reverse(was map[string]string) (sinks.Config, error) {
	if c.State == absent {
		return nil, errors.New("who was in a group that is removed is not kept")
	}
	if was["state"] == absent {
		return &Config{State: absent}, nil
	}
	text, changed := was["gid"]
	if !changed {
		return nil, nil
	}
	gid, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("the gid from before is %q, which is no number", text)
	}
	return &Config{State: exists, GID: &gid}, nil
}
