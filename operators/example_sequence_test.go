package operators_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mgmtproject/mgmt/operators"
	"github.com/mgmtproject/mgmt/streams"
)

// task is a sink that says that it runs.
type task struct {
	name    string
	outcome operators.Outcome
}

func (t *task) CheckApply(_ context.Context, run operators.Run) operators.Outcome {
	fmt.Printf("%s runs because of %v\n", t.name, run.Cause.Kind)
	return t.outcome
}

// right is a sink that has nothing to do.
type right struct{}

func (right) CheckApply(context.Context, operators.Run) operators.Outcome { return operators.Outcome{} }

// A vertex runs when those before it have: at first all of them, and later those that an
// input has woken and, if these change something, those behind.
func ExampleSequence() {
	fetch := &task{name: "fetch", outcome: operators.Outcome{Changed: true}}
	unpack := &task{name: "unpack"}
	clean := &task{name: "clean"}
	graph, err := operators.NewGraph(
		[]operators.Sink{fetch, unpack, clean},
		[]operators.Edge{{From: 0, To: 1}, {From: 1, To: 2}},
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	inputs := make(chan operators.Input, 1)
	inputs <- operators.Input{Graph: graph}
	woken := false
	err = operators.Sequence(streams.FromChan(inputs), operators.SequenceOptions{}).
		Subscribe(context.Background(), func(r operators.Result) bool {
			switch {
			case r.Kind != operators.Idle:
			case !woken:
				woken = true
				fmt.Println("nothing is pending")
				inputs <- operators.Input{Wake: []int32{0}}
			default:
				close(inputs) // Sequence ends when its input has, and nothing is pending
			}
			return true
		})
	fmt.Println(err)
	// Output:
	// fetch runs because of swap
	// unpack runs because of predecessor
	// clean runs because of swap
	// nothing is pending
	// fetch runs because of event
	// unpack runs because of predecessor
	// <nil>
}

// A failure holds back what is behind it.
func ExampleSequence_failure() {
	graph, err := operators.NewGraph([]operators.Sink{
		&task{name: "fetch", outcome: operators.Outcome{Err: errors.New("no route to host")}},
		&task{name: "unpack"},
	}, []operators.Edge{{From: 0, To: 1}})
	if err != nil {
		fmt.Println(err)
		return
	}
	inputs := streams.Of(operators.Input{Graph: graph})
	for r, err := range operators.Sequence(inputs, operators.SequenceOptions{}).Seq(context.Background()) {
		switch {
		case err != nil:
			fmt.Println(err)
		case r.Kind == operators.Finished:
			fmt.Println(r.Sink.(*task).name, "failed:", r.Outcome.Err)
		case r.Kind == operators.Blocked:
			fmt.Println(r.Sink.(*task).name, "waits for", r.By.(*task).name)
		}
	}
	// Output:
	// fetch runs because of swap
	// fetch failed: no route to host
	// unpack waits for fetch
}

// Converge ends a run when nothing has been pending for a while.
func ExampleConverge() {
	graph, err := operators.NewGraph([]operators.Sink{right{}}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	inputs := streams.Merge(1, streams.Of(operators.Input{Graph: graph}), streams.Never[operators.Input]())
	results := operators.Converge(
		operators.Sequence(inputs, operators.SequenceOptions{}),
		operators.ConvergedOptions{Timeout: 10 * time.Millisecond, Exit: true},
	)
	err = results.Subscribe(context.Background(), func(r operators.Result) bool {
		fmt.Println(r.Kind)
		return true
	})
	fmt.Println(err)
	// Output:
	// swapped
	// busy
	// finished
	// idle
	// converged
	// <nil>
}

func ExampleNewGraph() {
	sinks := []operators.Sink{&task{name: "a"}, &task{name: "b"}, &task{name: "c"}}
	_, err := operators.NewGraph(sinks, []operators.Edge{{From: 0, To: 1}, {From: 1, To: 2}, {From: 2, To: 1}})
	fmt.Println(err)
	_, err = operators.NewGraph(sinks, []operators.Edge{{From: 2, To: 3}})
	fmt.Println(err)
	// Output:
	// the graph has a cycle among 2 of its vertices
	// edge 2 -> 3: the graph has vertices 0 to 2
}

// A packet is a sink that can be installed together with others, and not while somebody
// else holds the lock.
type packet struct {
	task
	store *store
}

func (p *packet) Schedule() operators.Schedule {
	return operators.Schedule{
		Batch:      p.store,
		Semaphores: []operators.Semaphore{{Name: "lock", Count: 2}},
	}
}

// A store installs packets, all that are ready at once.
type store struct{}

func (*store) CheckApply(_ context.Context, members []operators.Sink, _ []operators.Run) []operators.Outcome {
	fmt.Println("one transaction:")
	outcomes := make([]operators.Outcome, len(members))
	for i, m := range members {
		fmt.Println("-", m.(*packet).name)
		outcomes[i].Changed = true
	}
	return outcomes
}

// Packets are applied together, but for those that have to wait: for a packet before
// them, or for a semaphore.
func ExampleScheduled() {
	s := &store{}
	graph, err := operators.NewGraph([]operators.Sink{
		&packet{task{name: "editor"}, s}, &packet{task{name: "shell"}, s}, &packet{task{name: "fonts"}, s}, &packet{task{name: "plugin"}, s},
	}, []operators.Edge{{From: 0, To: 3}})
	if err != nil {
		fmt.Println(err)
		return
	}
	inputs := streams.Of(operators.Input{Graph: graph})
	for r, err := range operators.Sequence(inputs, operators.SequenceOptions{}).Seq(context.Background()) {
		switch {
		case err != nil:
			fmt.Println(err)
		case r.Kind == operators.Finished:
			fmt.Println(r.Sink.(*packet).name, "is one of", r.Batch)
		}
	}
	// Output:
	// one transaction:
	// - editor
	// - shell
	// editor is one of 2
	// shell is one of 2
	// one transaction:
	// - fonts
	// - plugin
	// fonts is one of 2
	// plugin is one of 2
}

// A value that is sent reaches whom it is for, though nothing has changed.
func ExampleOutcome_sent() {
	reader := &task{name: "reader"}
	other := &task{name: "other"}
	clock := &task{name: "clock", outcome: operators.Outcome{Sent: []operators.Sink{reader}}}
	graph, err := operators.NewGraph(
		[]operators.Sink{clock, reader, other},
		[]operators.Edge{{From: 0, To: 1}, {From: 0, To: 2}},
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	inputs := make(chan operators.Input, 1)
	inputs <- operators.Input{Graph: graph}
	woken := false
	err = operators.Sequence(streams.FromChan(inputs), operators.SequenceOptions{Workers: 1}).
		Subscribe(context.Background(), func(r operators.Result) bool {
			switch {
			case r.Kind != operators.Idle:
			case !woken:
				woken = true
				inputs <- operators.Input{Wake: []int32{0}}
			default:
				close(inputs)
			}
			return true
		})
	fmt.Println(err)
	// Output:
	// clock runs because of swap
	// reader runs because of predecessor
	// other runs because of swap
	// clock runs because of event
	// reader runs because of predecessor
	// <nil>
}
