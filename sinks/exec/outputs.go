package exec

import (
	"maps"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources/command/process"
)

var _ sinks.Sender = (*Config)(nil)

// Outputs implements sinks.Sender.
func (*Config) Outputs() []sinks.Output {
	return []sinks.Output{
		{Name: "output", Type: sinks.TypeString, Doc: "What the last run of cmd has printed, on both its outputs, in that order."},
		{Name: "stdout", Type: sinks.TypeString, Doc: "What it has printed on its standard output."},
		{Name: "stderr", Type: sinks.TypeString, Doc: "What it has printed on its standard error."},
		{Name: "exit", Type: sinks.TypeInt, Doc: "Its exit status."},
	}
}

// valuesOf are the outputs of a run.
func valuesOf(r process.Result) map[string]any {
	return map[string]any{"output": r.Output, "stdout": r.Stdout, "stderr": r.Stderr, "exit": int64(r.Status)}
}

// remember keeps the outputs of a run that has succeeded, for when the command is not
// needed, if somebody receives them.
func (e *execution) remember(values map[string]any) {
	if len(e.opts.Sends) > 0 {
		e.sent = maps.Clone(values)
	}
}
