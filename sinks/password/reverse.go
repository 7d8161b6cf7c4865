package password

import (
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/derived"
)

// absent is the State of a password whose file shall not be there.
const absent = "absent"

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser: the file of a password that was made is removed. A mode
// that let others read a password is not given back.
func (c *Config) Reverse(was map[string]string) (sinks.Config, error) {
	if !c.Saved {
		return nil, nil
	}
	from, changed := was["password"]
	return derived.Undo(from, changed, &Config{Length: c.Length, Saved: true, Path: c.Path, State: absent})
}
