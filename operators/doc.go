// Package operators holds the operators over streams.Observable that need a clock, a
// buffer or a graph, one a file. Names follow ReactiveX where it has one.
//
// They stand here because RxGo's own do not hold what the engine needs: its Debounce
// loses the pending value at completion and polls while idle, its Retry leaves failed
// attempts running, and nothing in it limits a rate or shares a stream with observers
// that come and go.
//
// Sequence and Converge are the engine: sequence.go, jobs.go and pauses.go are workers,
// timers and results around the state machine of machine.go and schedule.go, which has
// no goroutine, lock or clock.
//
// Each operator is a function from one Observable to another. It starts nothing before
// the result is subscribed, waits without polling, hands values on in their order from
// the goroutine of its subscriber, and has ended every goroutine that it started when
// Subscribe returns.
package operators
