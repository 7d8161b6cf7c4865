package tar

import "github.com/mgmtproject/mgmt/sinks"

var _ sinks.Reader = (*archive)(nil)

// Reads implements sinks.Reader: an archive holds the modes of its members, beside the
// inputs themselves.
func (a *archive) Reads() []string {
	names := make([]string, len(a.inputs))
	for i, in := range a.inputs {
		names[i] = "mode " + in.path
	}
	return names
}
