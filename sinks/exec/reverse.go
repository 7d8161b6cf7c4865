package exec

import (
	"errors"

	"github.com/mgmtproject/mgmt/sinks"
)

var _ sinks.Reverser = (*Config)(nil)

// Reverse implements sinks.Reverser: nobody knows what a command has done.
func (*Config) Reverse(map[string]string) (sinks.Config, error) {
	return nil, errors.New("what a command has done is not known: have an exec of its own undo it when it is time")
}
