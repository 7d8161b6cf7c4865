package tar

import (
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/derived"
)

// absent is the State of an archive that shall not be there.
const absent = "absent"

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser: an archive that was made is removed.
func (c *Config) Reverse(was map[string]string) (sinks.Config, error) {
	from, changed := was["content"]
	return derived.Undo(from, changed, &Config{Path: c.Path, State: absent, Format: "pax"})
}
