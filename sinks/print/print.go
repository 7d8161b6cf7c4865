// Package print writes a message for people into the log.
package print

import (
	"context"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
)

// Spec is the print resource.
var Spec = sinks.Spec{
	Kind: "print",
	New:  func() sinks.Config { return &Config{} },
}

// Config is a message. It is printed whenever the resource is looked at, which without
// watches is at the start and after a change of what it depends on.
type Config struct {
	// Msg is the message; the default is the name of the resource.
	Msg *string `param:"msg" shown:"true"`

	// RefreshOnly prints only when the resource is notified.
	RefreshOnly bool `param:"refresh_only"`
}

// Build implements sinks.Config.
func (c *Config) Build(name string, opts sinks.Options) (sinks.Resource, error) {
	p := &printer{msg: name, refreshOnly: c.RefreshOnly, opts: opts}
	if c.Msg != nil {
		p.msg = *c.Msg
	}
	return p, nil
}

type printer struct {
	msg         string
	refreshOnly bool
	opts        sinks.Options
}

var (
	_ sinks.Refresher = (*printer)(nil)
	_ sinks.Actor     = (*printer)(nil)
)

// Acts implements sinks.Actor.
func (p *printer) Acts() bool { return !p.refreshOnly }

// Watches implements sinks.Resource.
func (p *printer) Watches() []sources.Watch { return nil }

// CheckApply implements sinks.Resource.
func (p *printer) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if p.refreshOnly {
		return sinks.Outcome{}, nil
	}
	return p.Refresh(ctx, apply)
}

// Refresh implements sinks.Refresher.
func (p *printer) Refresh(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if ctx.Err() != nil {
		return sinks.Outcome{}, context.Cause(ctx)
	}
	if apply {
		p.opts.Logger().Info(p.msg) // which says it all: no Changes
		return sinks.Outcome{Changed: true}, nil
	}
	return sinks.Outcome{Changed: true, Changes: []sinks.Change{{Field: "msg", From: "(not printed)", To: p.msg}}}, nil
}
