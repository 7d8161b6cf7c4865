// Package noop manages nothing: it is a place in a graph that other resources can depend on.
package noop

import (
	"context"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
)

// Spec is the noop resource.
var Spec = sinks.Spec{
	Kind: "noop",
	New:  func() sinks.Config { return &Config{} },
}

// Config has nothing to ask for. The resource is always as desired.
type Config struct {
	// Comment is for whoever reads the graph file.
	Comment string `param:"comment"`
}

// Build implements sinks.Config.
func (*Config) Build(string, sinks.Options) (sinks.Resource, error) { return noop{}, nil }

type noop struct{}

// Watches implements sinks.Resource.
func (noop) Watches() []sources.Watch { return nil }

// CheckApply implements sinks.Resource.
func (noop) CheckApply(ctx context.Context, _ bool) (sinks.Outcome, error) {
	return sinks.Outcome{}, context.Cause(ctx)
}
