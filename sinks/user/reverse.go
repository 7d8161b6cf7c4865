package user

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
)

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser: a user that was made is removed, without its home
// directory, and what was changed of one that was there before is put back.
func (c *Config) Reverse(was map[string]string) (sinks.Config, error) {
	if c.State == absent {
		return nil, errors.New("the password and the groups of a user that is removed are not kept")
	}
	if was[stateField] == absent {
		return &Config{State: absent}, nil
	}
	undo, found := &Config{State: exists}, false
	for _, field := range []string{uidField, gidField, groupField, groupsField, homedirField, shellField} {
		text, changed := was[field]
		if !changed {
			continue
		}
		found = true
		if err := undo.restore(field, text); err != nil {
			return nil, err
		}
	}
	if !found {
		return nil, nil
	}
	undo.AllowDuplicateUID = c.AllowDuplicateUID && undo.UID != nil
	return undo, nil
}

// restore sets the parameter for a field to what was found, as differences has shown it.
func (c *Config) restore(field, text string) error {
	if field == groupsField {
		c.Groups = []string{}
		if text != "" {
			c.Groups = strings.Split(text, ",")
		}
		return nil
	}
	if text == "" {
		return fmt.Errorf("there was no %s before, which can't be said", field)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	switch field {
	case homedirField:
		c.Homedir = text
	case shellField:
		c.Shell = text
	case groupField:
		if err != nil {
			c.Group = text
			break
		}
		c.GID = &n
	case uidField, gidField:
		if err != nil {
			return fmt.Errorf("the %s from before is %q, which is no number", field, text)
		}
		if field == uidField {
			c.UID = &n
		} else {
			c.GID = &n
		}
	}
	return nil
}
