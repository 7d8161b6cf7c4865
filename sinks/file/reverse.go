package file

import (
	"errors"
	"fmt"

	"github.com/mgmtproject/mgmt/sinks"
)

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser. What was not there before is removed: a directory only
// if nothing is left in it, and directories that led to it stay. Otherwise the owner, group,
// mode, link target and text from before are put back. A text that is not known can't be,
// and then nothing is: its mode was not meant for the new one.
func (c *Config) Reverse(was map[string]string) (sinks.Config, error) {
	switch {
	case c.State == "absent":
		return nil, errors.New("what is removed is not kept")
	case c.Purge:
		return nil, errors.New("what purge removes is not kept")
	case c.Recurse:
		return nil, errors.New("what was below the directory is not kept: leave out recurse")
	}
	undo := &Config{Path: c.Path, Dirname: c.Dirname, Basename: c.Basename, Durable: c.Durable}
	switch state, changed := was["state"]; {
	case state == "absent":
		undo.State = "absent"
		return undo, nil
	case changed:
		return nil, fmt.Errorf("there was a %s before, which is not kept", state)
	}
	found := false
	for field, param := range map[string]*string{"symlink": &undo.Symlink, "owner": &undo.Owner, "group": &undo.Group, "mode": &undo.Mode} {
		value, changed := was[field]
		if value == sinks.Withheld {
			return nil, fmt.Errorf("the %s from before is not kept", field)
		}
		*param = value
		found = found || changed
	}
	if text, changed := was["content"]; changed {
		if !known(text) {
			return nil, errors.New("the content from before is not kept: it was not a short text that everybody may read")
		}
		undo.Content, found = &text, true
	}
	if !found {
		return nil, nil
	}
	return undo, nil
}

// known reports whether text is a content as a change shows it, and not a description. A
// content that reads like a description counts as one.
func known(text string) bool {
	var n int64
	if text == sinks.Withheld || len(text) >= sinks.MaxText || text == bytesOf(-1) {
		return false
	}
	if _, err := fmt.Sscanf(text, "(%d bytes)", &n); err == nil && text == bytesOf(n) {
		return false
	}
	_, err := fmt.Sscanf(text, "(binary, %d bytes)", &n)
	return err != nil || text != fmt.Sprintf("(binary, %d bytes)", n)
}
