package cli

import (
	"errors"
	"os"
	"time"

	"github.com/mgmtproject/mgmt/cmd/internal/console"
	"github.com/mgmtproject/mgmt/cmd/internal/control"
	"github.com/mgmtproject/mgmt/cmd/internal/eventlog"
	"github.com/mgmtproject/mgmt/cmd/internal/instance"
	"github.com/mgmtproject/mgmt/pipeline"
)

const (
	// listed is how many resources are in each list of a status that somebody asks for.
	listed = 1000

	// unasked is how long a run goes on before it can be asked. The file of a socket costs
	// some 0.3 ms, which is much for a run that only finds all to be right.
	unasked = 50 * time.Millisecond
)

// header is what is told about the run to who reads events.
func (a *agent) header(file string) eventlog.Header {
	host, _ := os.Hostname()
	return eventlog.Header{Program: "mgmt " + release(a.prog.Version), PID: os.Getpid(), Host: host, File: file, Noop: a.opts.noop}
}

// listen lets other processes ask the run once it has gone on for a moment, and returns
// what ends that. A run that has no place can't be asked.
func (a *agent) listen(place instance.Place) (leave func()) {
	if place.Dir == "" {
		return func() {}
	}
	listening := make(chan struct{})
	timer := time.AfterFunc(unasked, func() {
		defer close(listening)
		a.answer(place)
	})
	return func() {
		if timer.Stop() {
			return
		}
		<-listening
		a.mu.Lock()
		server := a.control
		a.mu.Unlock()
		if server != nil {
			server.Leave()
		}
	}
}

func (a *agent) answer(place instance.Place) {
	server, err := control.Listen(place.Socket(), asked{a}, a.header(place.File), a.began)
	if err != nil {
		a.log.Warn("the run can't be asked", "error", console.Describe(err), "why", "mgmt status, tap and explain will not find it")
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		server.Close(eventlog.Exit{})
		return
	}
	a.control = server
}

// asked answers for a run.
type asked struct{ a *agent }

// Status implements control.Agent.
func (q asked) Status() pipeline.Snapshot {
	q.a.mu.Lock()
	defer q.a.mu.Unlock()
	return q.a.status.Snapshot(listed)
}

// Find implements control.Agent.
func (q asked) Find(resource string) (*pipeline.Graph, *pipeline.Vertex, pipeline.ResourceStatus, error) {
	q.a.mu.Lock()
	g := q.a.status.Graph()
	q.a.mu.Unlock()
	if g == nil {
		return nil, nil, pipeline.ResourceStatus{}, errors.New("the graph is not loaded yet")
	}
	v, err := g.Lookup(resource) // which takes its time with a large graph
	if err != nil {
		return nil, nil, pipeline.ResourceStatus{}, err
	}
	q.a.mu.Lock()
	defer q.a.mu.Unlock()
	now, _ := q.a.status.Resource(v)
	return g, v, now, nil
}
