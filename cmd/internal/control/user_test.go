package control_test

import (
	"context"
	"errors"
	"runtime"
	"syscall"

	"github.com/mgmtproject/mgmt/pipeline"
)

var noCancel = context.Background()

// empty is an agent without a graph.
type empty struct{}

func (empty) Status() pipeline.Snapshot { return pipeline.Snapshot{} }

func (empty) Find(string) (*pipeline.Graph, *pipeline.Vertex, pipeline.ResourceStatus, error) {
	return nil, nil, pipeline.ResourceStatus{}, errors.New("there is no graph")
}

// lockThread keeps the goroutine on its thread, which ends with it.
func lockThread() { runtime.LockOSThread() }

// asNobody makes the calling thread, and no other, act as the user nobody.
func asNobody() error {
	const nobody = 65534
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
		return errno
	}
	return nil
}
