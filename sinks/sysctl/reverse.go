package sysctl

import (
	"errors"

	"github.com/mgmtproject/mgmt/sinks"
)

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser: the value that was in force is put into force again,
// and the line of the file is removed, or says what it has said. If file and kernel
// differed, both are what the file said.
func (c *Config) Reverse(was map[string]string) (sinks.Config, error) {
	value, live := was["value"]
	line, file := was["persist"]
	switch {
	case !live && !file:
		return nil, nil
	case value == sinks.Withheld || line == sinks.Withheld:
		return nil, errors.New("the value that it had was too long to be kept")
	}
	undo := &Config{State: exists, Runtime: live, Persist: file, Path: c.Path}
	if live {
		undo.Value = &value
	}
	if !file {
		return undo, nil
	}
	if line == "" {
		undo.State = absent
		return undo, nil
	}
	_, value, _ = assignment(line)
	undo.Value = &value
	return undo, nil
}
