package sshauthorizedkey

import (
	"encoding/base64"
	"errors"

	"github.com/mgmtproject/mgmt/sinks"
)

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser: a key that was added is removed, and a comment that was
// changed is put back. Who may write to the file is left as it is, and so is a directory
// that was made.
func (c *Config) Reverse(was map[string]string) (sinks.Config, error) {
	if c.State == absent {
		return nil, errors.New("the options of a key that is removed are not kept, and without them it would open more than before")
	}
	key, found := was["key"]
	options, restricted := was["options"]
	comment, commented := was["comment"]
	switch {
	case found && key == absent:
		undo := *c
		undo.State = absent
		return &undo, nil
	case found:
		return nil, errors.New("there were several lines with the key, and they are not kept")
	case restricted && options != size(""):
		return nil, errors.New("the key had other options, and they are not kept")
	case comment == sinks.Withheld:
		return nil, errors.New("the comment of the key is not kept")
	case !restricted && !commented:
		return nil, nil
	}
	e, err := c.entry()
	if err != nil {
		return nil, err
	}
	undo := &Config{User: c.User, File: c.File, State: exists, Key: base64.StdEncoding.EncodeToString([]byte(e.blob)), Comment: c.Comment, Mkdir: c.Mkdir}
	if !restricted && e.options != "" {
		undo.Options = []string{e.options}
	}
	switch {
	case commented:
		undo.Comment = &comment
	case c.Content != "":
		undo.Comment = &e.comment
	}
	return undo, nil
}
