package pipeline

import (
	"errors"

	"github.com/mgmtproject/mgmt/sinks"
)

// Compile builds every resource.
func (g *Graph) Compile(opts sinks.Options) error { return errors.New("not written yet") }
