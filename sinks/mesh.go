package sinks

import (
	"errors"
	"fmt"

	"github.com/mgmtproject/mgmt/sources/mesh"
)

// ErrNoMesh is the failure of a resource that is kept in the mesh where Options has none.
var ErrNoMesh = errors.New("it needs the mesh, and there is none here: a run of mgmt is part of one, a plan is not")

// MeshError is an error of a mesh.Store as a resource returns it. The watch of the
// resource lets it run again when a mesh that can't be reached is back.
func MeshError(err error) error {
	if errors.Is(err, mesh.ErrUnreachable) {
		return fmt.Errorf("it waits for the mesh: %w", err)
	}
	return err
}
