// Package sinktest holds the tests that every kind of resource must pass. A kind lists
// desired states, each with a function that breaks it on the real system; the rest is
// the same for all: a check changes nothing, an apply converges, a second one is idle,
// every disturbance is seen by a watch and repaired, a cancel is obeyed, nothing leaks.
// What a kind can do beyond that is tested too: to send values, to be applied in a group, to
// foretell, to be undone, to be closed.
package sinktest

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/params"
	"github.com/mgmtproject/mgmt/sources/mesh"
)

// patience is how long anything may take that should happen at once.
var patience = 10 * time.Second

// Case is one desired state of a resource and a way to break it.
type Case struct {
	// Name is a sentence.
	Name string

	// Resource is the resource's name.
	Resource string

	// Params are the parameters as in a graph file.
	Params map[string]any

	// Disturb breaks the desired state on the real system. It is called several
	// times, each time with the state as desired. Nil is for kinds that have no state.
	Disturb func() error

	// Acts says that the kind acts at every CheckApply, so that none is idle.
	Acts bool

	// State is a fingerprint of the real system, by which a check is seen to change
	// nothing; see Files. It is required beside Disturb.
	State func() (string, error)

	// Mesh is what the resource is kept in, if it is in the mesh; see package meshtest.
	Mesh mesh.Store

	// Undone is a fingerprint of what the kind, a sinks.Reverser, brings back when the
	// resource is undone after it has repaired a disturbance; see Contents. Nil is for what
	// can't be undone.
	Undone func() (string, error)
}

// Run puts each case through the contract of sinks.Resource, in a subtest.
func Run(t *testing.T, spec sinks.Spec, cases ...Case) {
	t.Helper()
	if len(cases) == 0 {
		t.Fatalf("the kind %s has no cases", spec.Kind)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			leaks := goleak.IgnoreCurrent()
			defer verifyNone(t, c.Mesh != nil, leaks)
			k := &kit{T: t, spec: spec, c: c}
			k.run()
		})
	}
}

// verifyNone looks for goroutines that are left. A server of a mesh may run in this process,
// and ends what its client has ended in its own time.
func verifyNone(t *testing.T, served bool, leaks goleak.Option) {
	t.Helper()
	for deadline := time.Now().Add(patience); served && time.Now().Before(deadline); {
		if goleak.Find(leaks) == nil { // which waits for a moment
			return
		}
	}
	goleak.VerifyNone(t, leaks)
}

// Invalid checks that the parameters are refused, by decoder or Build, with an error
// that contains want.
func Invalid(t *testing.T, spec sinks.Spec, name string, values map[string]any, want string) {
	t.Helper()
	switch _, _, err := build(spec, name, values, nil); {
	case err == nil:
		t.Errorf("%s[%s]: %v is accepted, want an error with %q", spec.Kind, name, values, want)
	case !strings.Contains(err.Error(), want):
		t.Errorf("%s[%s]: %v is refused with %q, want %q in it", spec.Kind, name, values, err, want)
	}
}

// Build returns the resource that the parameters describe, as a graph file would.
func Build(t testing.TB, spec sinks.Spec, name string, values map[string]any) sinks.Resource {
	t.Helper()
	r, _, err := build(spec, name, values, nil)
	if err != nil {
		t.Fatalf("%s[%s]: %v", spec.Kind, name, err)
	}
	return r
}

func build(spec sinks.Spec, name string, values map[string]any, store mesh.Store) (sinks.Resource, sinks.Config, error) {
	if _, err := sinks.NewRegistry(spec); err != nil {
		return nil, nil, err
	}
	cfg := spec.New()
	if err := params.DecodeMap(cfg, values); err != nil {
		return nil, nil, err
	}
	r, err := cfg.Build(name, sinks.Options{Log: slog.New(slog.DiscardHandler), Ref: spec.Kind + "[" + name + "]", Mesh: store})
	return r, cfg, err
}

// kit is one case under test.
type kit struct {
	*testing.T
	spec sinks.Spec
	c    Case
	r    sinks.Resource
	cfg  sinks.Config

	sends []sinks.Output
}

func (k *kit) run() {
	if k.c.Disturb != nil && k.c.State == nil {
		k.Fatal("the case has Disturb and no State, so nothing could show that a check changes nothing")
	}
	k.build()
	defer k.close()
	k.apply()
	if k.c.Disturb != nil {
		k.repair()
		k.watched()
	}
	k.cancelled()
	k.grouped()
	k.planned()
	k.reversed()
	k.check("in the end")
	if _, cfg, err := build(k.spec, k.c.Resource, k.c.Params, nil); err != nil || !reflect.DeepEqual(cfg, k.cfg) {
		k.Errorf("the Config has changed while the resource ran, so a new graph would seem to differ: %+v, %v; was %+v", k.cfg, err, cfg)
	}
}

// build makes the resource, which touches nothing.
func (k *kit) build() {
	before := k.state()
	r, cfg, err := build(k.spec, k.c.Resource, k.c.Params, k.c.Mesh)
	if err != nil {
		k.Fatalf("building it: %v", err)
	}
	k.r, k.cfg = r, cfg
	k.sends = k.outputs()
	if o, ok := r.(sinks.Owner); ok {
		o.Owns()
	}
	if o, ok := r.(sinks.Keeper); ok {
		o.Keeps()
	}
	k.unchanged(before, "building it")
	if a, ok := r.(sinks.Actor); ok && a.Acts() && !k.c.Acts {
		k.Error("the resource says, as a sinks.Actor, that it acts at every CheckApply, but the case does not")
	}
}

// apply brings the system to the desired state, and then has nothing to do.
func (k *kit) apply() {
	k.must(true, "the first apply")
	k.check("after the first apply")
	before := k.state()
	if out := k.must(true, "a second apply"); out.Changed != k.c.Acts {
		k.Errorf("a second apply: Changed is %v, want %v (%v)", out.Changed, k.c.Acts, out.Changes)
	}
	if !k.c.Acts {
		k.unchanged(before, "a second apply")
	}
	k.refresh()
}

// close ends a resource that holds something open, as the engine does.
func (k *kit) close() {
	c, ok := k.r.(sinks.Closer)
	if !ok {
		return
	}
	done := make(chan error, 1)
	go func() { done <- c.Close() }()
	select {
	case err := <-done:
		if err != nil {
			k.Errorf("Close: %v", err)
		}
	case <-time.After(patience):
		k.Error("Close does not return")
	}
}

// refresh checks that an unapplied notification does nothing, and an applied one works.
func (k *kit) refresh() {
	r, ok := k.r.(sinks.Refresher)
	if !ok {
		return
	}
	before := k.state()
	if _, err := r.Refresh(k.Context(), false); err != nil {
		k.Fatalf("a refresh that is only a check: %v", err)
	}
	k.unchanged(before, "a refresh that is only a check")
	if _, err := r.Refresh(k.Context(), true); err != nil {
		k.Fatalf("a refresh: %v", err)
	}
}

// repair breaks the state, has it noticed and mended.
func (k *kit) repair() {
	good := k.state()
	k.disturb()
	bad := k.state()
	if bad == good {
		k.Fatal("Disturb does not change what State returns")
	}
	for _, which := range []string{"a check", "a second check"} {
		out := k.must(false, which)
		if !out.Changed {
			k.Fatalf("%s does not notice the disturbance", which)
		}
		k.unchanged(bad, which)
	}
	if out := k.must(true, "the repair"); !out.Changed {
		k.Error("the repair does not report a change")
	}
	if k.state() == bad {
		k.Error("the repair has not changed anything")
	}
	k.check("after the repair")
}

// cancelled has CheckApply return at once with an error when its context is done.
func (k *kit) cancelled() {
	if k.c.Disturb != nil {
		k.disturb()
	}
	k.obeys("CheckApply", func(ctx context.Context) error {
		_, err := k.r.CheckApply(ctx, true)
		return err
	})
	if k.c.Disturb != nil {
		k.must(true, "an apply after a cancelled one")
	}
}

// obeys has do return at once with the cause when its context is done, and change nothing.
func (k *kit) obeys(what string, do func(context.Context) error) {
	k.Helper()
	before := k.state()
	cause := errors.New("the test has cancelled it")
	ctx, cancel := context.WithCancelCause(k.Context())
	cancel(cause)
	done := make(chan error, 1)
	go func() { done <- do(ctx) }()
	select {
	case err := <-done:
		if !errors.Is(err, cause) && !errors.Is(err, context.Canceled) {
			k.Errorf("%s with a cancelled context returned %v, want the cause of the cancel", what, err)
		}
	case <-time.After(patience):
		k.Fatalf("%s with a cancelled context does not return", what)
	}
	k.unchanged(before, what+" with a cancelled context")
}

// check has a check find the state as desired.
func (k *kit) check(when string) {
	k.Helper()
	before := k.state()
	if out := k.must(false, "a check "+when); out.Changed != k.c.Acts {
		k.Fatalf("a check %s: Changed is %v, want %v (%v)", when, out.Changed, k.c.Acts, out.Changes)
	}
	k.unchanged(before, "a check "+when)
}

// must is CheckApply, which must not fail.
func (k *kit) must(apply bool, what string) sinks.Outcome {
	k.Helper()
	out, err := k.r.CheckApply(k.Context(), apply)
	if err != nil {
		k.Fatalf("%s failed: %v", what, err)
	}
	k.values(out, what)
	if !out.Changed && len(out.Changes) > 0 {
		k.Errorf("%s lists changes but says that there are none: %v", what, out.Changes)
	}
	return out
}

func (k *kit) disturb() {
	k.Helper()
	if err := k.c.Disturb(); err != nil {
		k.Fatalf("disturbing it: %v", err)
	}
}

func (k *kit) state() string {
	k.Helper()
	if k.c.State == nil {
		return ""
	}
	s, err := k.c.State()
	if err != nil {
		k.Fatalf("taking the state: %v", err)
	}
	return s
}

func (k *kit) unchanged(before, what string) {
	k.Helper()
	if after := k.state(); after != before {
		k.Fatalf("%s has changed the system\nfrom %s\nto   %s", what, before, after)
	}
}
