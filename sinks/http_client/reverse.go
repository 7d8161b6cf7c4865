package httpclient

import (
	"net/http"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/derived"
)

// absent is the State of a file that shall not be there.
const absent = "absent"

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser: a file that was made is removed.
func (c *Config) Reverse(was map[string]string) (sinks.Config, error) {
	from, changed := was["content"]
	return derived.Undo(from, changed, &Config{File: c.File, State: absent, Method: http.MethodGet})
}
