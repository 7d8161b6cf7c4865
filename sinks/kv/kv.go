// Package kv manages a key of the mesh, which all hosts see.
package kv

import (
	"context"
	"errors"
	"fmt"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/mesh"
)

// Spec is the kv resource.
var Spec = sinks.Spec{
	Kind: "kv",
	New:  func() sinks.Config { return &Config{SkipCmpStyle: styleInt} },
}

// Config is a key of the mesh and what it shall hold. There is one value for all hosts,
// and any host may change it: where two want different ones, each undoes what the other
// does, and both report that as flapping. With skiplessthan the greatest one wins.
//
// It sends what the key holds, as long as it holds something. While the mesh can't be
// reached the resource has failed; it runs again as soon as the mesh is back.
type Config struct {
	// Key is the name of the key; the default is the name of the resource.
	Key string `param:"key"`

	// Value is what the key holds. Without it the key is deleted. Every host of the mesh can
	// read it, so it receives no secret.
	Value *string `param:"value" shown:"true"`

	// SkipLessThan lets a value that is there stay, unless it is less than value: the key
	// only grows. A notification sets it to value all the same. Without value it has no
	// effect.
	SkipLessThan bool `param:"skiplessthan"`

	// SkipCmpStyle says how skiplessthan compares: as whole numbers of any length (int), of
	// which equal ones may be written differently, or byte by byte (string). What is there
	// and is no number can't be compared, and stays until the resource is notified. 0 is
	// an old name of int, 1 of string.
	SkipCmpStyle string `param:"skipcmpstyle" oneof:"int string 0 1"`

	// Follow changes nothing, and sends what others let the key hold. It counts as changed
	// when that is another value than the resource has sent before; the first one is no
	// change. As long as there is no such key, who receives the value waits.
	Follow bool `param:"follow"`
}

// Build implements sinks.Config.
func (c *Config) Build(name string, opts sinks.Options) (sinks.Resource, error) {
	r := &kv{store: opts.Mesh, key: mesh.KVPrefix + c.Key, follow: c.Follow}
	if c.Key == "" {
		r.key = mesh.KVPrefix + name
	}
	if c.Follow && c.Value != nil {
		return nil, &sinks.ParamError{Param: "value", Err: errors.New("it is given, and follow changes nothing: remove one of them")}
	}
	if c.Value == nil {
		return r, nil
	}
	want := *c.Value
	r.want = &want
	if c.SkipLessThan {
		r.less = less(c.SkipCmpStyle)
		if _, err := r.less(want, want); err != nil {
			return nil, &sinks.ParamError{Param: "value", Err: fmt.Errorf("%w, as skipcmpstyle int asks for", err)}
		}
	}
	return r, nil
}

type kv struct {
	store  mesh.Store
	key    string
	want   *string
	less   func(a, b string) (bool, error) // of skiplessthan; nil without
	follow bool
	sent   *string // what follow has sent; nil before
}

var (
	_ sinks.Refresher = (*kv)(nil)
	_ sinks.Owner     = (*kv)(nil)
	_ sinks.Waiter    = (*kv)(nil)
	_ sinks.Announcer = (*kv)(nil)
)

// Owns implements sinks.Owner.
func (r *kv) Owns() []string {
	if r.follow {
		return nil
	}
	return []string{"key of the mesh " + r.key[len(mesh.KVPrefix):]}
}

// Waits implements sinks.Waiter: it waits for a server.
func (*kv) Waits() bool { return true }

// Announces implements sinks.Announcer.
func (*kv) Announces() {}

// Watches implements sinks.Resource.
func (r *kv) Watches() []sources.Watch {
	if r.store == nil {
		return nil
	}
	return []sources.Watch{mesh.Key(r.key)}
}

// CheckApply implements sinks.Resource.
func (r *kv) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	return r.set(ctx, apply, r.less)
}

// Refresh implements sinks.Refresher: the value is set even if a greater one is there.
func (r *kv) Refresh(ctx context.Context, apply bool) (sinks.Outcome, error) {
	return r.set(ctx, apply, nil)
}

// set brings the key to its value, unless it holds one that is not less.
func (r *kv) set(ctx context.Context, apply bool, less func(a, b string) (bool, error)) (sinks.Outcome, error) {
	if ctx.Err() != nil {
		return sinks.Outcome{}, context.Cause(ctx)
	}
	if r.store == nil {
		return sinks.Outcome{}, sinks.ErrNoMesh
	}
	const tries = 20
	for try := 1; ; try++ {
		now, there, err := r.store.Get(ctx, r.key)
		if err != nil {
			return sinks.Outcome{}, sinks.MeshError(err)
		}
		if r.follow {
			return r.tell(string(now.Value), there, apply), nil
		}
		right, err := r.right(string(now.Value), there, less)
		switch {
		case err != nil:
			return sinks.Outcome{}, err
		case right:
			return sinks.Outcome{Values: values(string(now.Value), there)}, nil
		}
		out := r.change(now, there)
		if !apply {
			return out, nil
		}
		if err := sinks.BeforeChange(ctx); err != nil {
			return sinks.Outcome{}, err
		}
		_, err = r.store.Write(ctx, mesh.Txn{If: []mesh.Condition{{Key: r.key, Revision: now.Revision}}, Ops: []mesh.Op{r.op()}})
		switch {
		case err == nil:
			return out, nil
		case !errors.Is(err, mesh.ErrConflict) || try == tries:
			return sinks.Outcome{}, sinks.MeshError(err)
		}
	}
}

// right says whether the key may stay as it is.
func (r *kv) right(now string, there bool, less func(a, b string) (bool, error)) (bool, error) {
	switch {
	case r.want == nil || !there:
		return there == (r.want != nil), nil
	case less == nil || now == *r.want:
		return now == *r.want, nil
	}
	smaller, err := less(now, *r.want)
	if err != nil {
		return false, fmt.Errorf("the key can't be compared with %q: %w; a notification replaces it", *r.want, err)
	}
	return !smaller, nil
}

func (r *kv) op() mesh.Op {
	if r.want == nil {
		return mesh.Delete(r.key)
	}
	return mesh.Put(r.key, []byte(*r.want))
}

// change is the outcome of setting the key.
func (r *kv) change(now mesh.Entry, there bool) sinks.Outcome {
	state := map[bool]string{false: absent, true: exists}
	out := sinks.Outcome{Changed: true}
	wants, value := r.want != nil, ""
	if wants {
		value = *r.want
	}
	if there != wants {
		out.Changes = append(out.Changes, sinks.Change{Field: "state", From: state[there], To: state[wants]})
	}
	if string(now.Value) != value {
		out.Changes = append(out.Changes, sinks.Change{Field: "value", From: sinks.Text(now.Value), To: sinks.Text([]byte(value))})
	}
	out.Values = values(value, wants)
	return out
}

// tell is the outcome of following the key.
func (r *kv) tell(now string, there, apply bool) sinks.Outcome {
	out := sinks.Outcome{Values: values(now, there)}
	if !there {
		return out
	}
	if r.sent != nil && *r.sent != now {
		out.Changed = true
		out.Changes = []sinks.Change{{Field: "value", From: sinks.Text([]byte(*r.sent)), To: sinks.Text([]byte(now))}}
	}
	if apply {
		r.sent = &now
	}
	return out
}

// values is what is sent.
func values(now string, there bool) map[string]any {
	if !there {
		return nil
	}
	return map[string]any{"value": now}
}
