package line

import (
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
)

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser: a line that was added is removed, and one that was
// removed is added again, at the end of the file. A file that was made for it stays.
func (c *Config) Reverse(was map[string]string) (sinks.Config, error) {
	if _, changed := was["content"]; !changed {
		return nil, nil
	}
	undo := *c
	undo.State = exists
	if c.State != absent {
		undo.State = absent
		if c.Trim { // it was added without white space, and nobody asked for the others
			undo.Trim, undo.Content = false, strings.TrimSpace(c.Content)
		}
	}
	return &undo, nil
}
