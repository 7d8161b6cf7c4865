package pipeline

import (
	"github.com/mgmtproject/mgmt/sinks"
)

// Repack returns v as another host would have it, by the form in which it is published.
func Repack(v *Vertex, spec sinks.Spec) (*Vertex, error) {
	c, err := pack(v, v.Config, spec)
	if err != nil {
		return nil, err
	}
	return c.unpack(v.Kind, v.Name, spec)
}

// Unpack returns what another host makes of a value of the mesh.
func Unpack(value []byte, spec sinks.Spec) (*Vertex, error) {
	p, err := openParcel(value)
	if err != nil {
		return nil, err
	}
	return p.unpack(spec.Kind, "x", spec)
}
