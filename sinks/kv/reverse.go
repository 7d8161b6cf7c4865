package kv

import (
	"errors"

	"github.com/mgmtproject/mgmt/sinks"
)

// The values of the field state of a change.
const (
	absent = "absent"
	exists = "exists"
)

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser: the key is deleted if there was none, and otherwise
// holds again what it has held before.
func (c *Config) Reverse(was map[string]string) (sinks.Config, error) {
	state, value := was["state"], was["value"]
	undo := &Config{Key: c.Key, SkipCmpStyle: styleInt}
	_, changed := was["value"]
	switch {
	case state == absent:
		return undo, nil
	case !changed && state == "":
		return nil, nil
	case value == sinks.Withheld:
		return nil, errors.New("what the key held before was too long to be remembered")
	}
	undo.Value = &value
	return undo, nil
}
