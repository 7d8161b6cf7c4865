// Package mesh defines what hosts share: a small store of keys and values that every host
// of a mesh sees, with watches. It knows nothing of who keeps the store: package etcd below
// it does it with etcd, and package wire reaches one in another process. Source makes the
// store's watches a source of events.
package mesh

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/streams"
)

// TTL is how long what is bound to a host outlives it when it dies without a word.
const TTL = 10 * time.Second

// MaxOps is how many Ops and Conditions a Txn may have each: one less than an etcd takes,
// which the store needs itself.
const MaxOps = 127

var (
	// ErrConflict says that a Condition of a Txn did not hold: nothing was written.
	ErrConflict = errors.New("somebody else has changed it meanwhile")

	// ErrUnreachable says that no host that serves the store has answered in time. A write
	// may have happened all the same, or still happen, but not after another write of the
	// same host has succeeded.
	ErrUnreachable = errors.New("the mesh can't be reached")

	// ErrRefused says that this host may not do what it was about to: it is somebody else's
	// to write, or nobody knows the host.
	ErrRefused = errors.New("the mesh does not allow it")
)

// Store is the memory of a mesh, as seen by one host. All hosts see the same changes in the
// same order. Its methods may be called from any goroutine. Without a deadline in ctx a
// call gives up after some seconds, with ErrUnreachable.
type Store interface {
	// Host is the name by which the mesh knows this host.
	Host() string

	// Get returns the newest version of a key, and whether there is one.
	Get(ctx context.Context, key string) (Entry, bool, error)

	// List returns the newest versions of all keys that begin with prefix, in the order of
	// the keys.
	List(ctx context.Context, prefix string) (List, error)

	// Write makes all changes of t or none, and returns the revision of the store at which
	// they are made; when it returns, they outlive any minority of the servers.
	Write(ctx context.Context, t Txn) (revision int64, err error)

	// Changes emits what w covers as it is, with Reset set, and then all that changes, until
	// its subscription is cancelled. After it has lost track, or the connection, it emits a
	// Reset again, as soon as it can. Several steps may come as one, with what they lead to,
	// when they are made faster than they are taken. It ends by itself only with an error
	// that no waiting can mend, such as a permission that is missing.
	Changes(w Watch) streams.Observable[Change]
}

// Vault hides values from all hosts but some. A Store may be one.
type Vault interface {
	// Seal makes of plain what only the named hosts can open. The error names hosts whose
	// keys the mesh does not know.
	Seal(ctx context.Context, hosts []string, plain []byte) (sealed []byte, err error)

	// Open returns what was sealed for this host.
	Open(ctx context.Context, sealed []byte) (plain []byte, err error)
}

// Entry is one version of a key.
type Entry struct {
	Key   string `json:"key"`
	Value []byte `json:"value,omitempty"`

	// Revision is that of the store when this version was written, and Created when the key
	// last came into being.
	Revision int64 `json:"revision"`
	Created  int64 `json:"created"`

	// Bound says that the key goes when the host that has written it does.
	Bound bool `json:"bound,omitempty"`
}

// List is what a store held at a revision.
type List struct {
	Entries  []Entry `json:"entries,omitempty"`
	Revision int64   `json:"revision"`
}

// Txn is a set of changes under conditions.
type Txn struct {
	If  []Condition `json:"if,omitempty"`
	Ops []Op        `json:"ops"`
}

// Condition is something that must hold for a Txn to be made.
type Condition struct {
	// Key has to be at Revision; 0 stands for no such key.
	Key      string `json:"key"`
	Revision int64  `json:"revision"`

	// Below makes it a condition on all keys that begin with Key: none was written after
	// Revision. Keys that were deleted don't count.
	Below bool `json:"below,omitempty"`
}

// Op changes one key. A Txn has no two for the same key.
type Op struct {
	Key   string `json:"key"`
	Value []byte `json:"value,omitempty"`

	// Delete takes the key away; with Below also all others that begin with Key.
	Delete bool `json:"delete,omitempty"`
	Below  bool `json:"below,omitempty"`

	// Bound lets the key go when this host does: at once when it leaves in order, and
	// otherwise TTL after its last sign of life. As long as it lives the store sees to it
	// that the key is there, also after a pause that was longer.
	Bound bool `json:"bound,omitempty"`
}

// Check says what is wrong with a Txn, whatever the store holds. Every Store checks.
func (t Txn) Check() error {
	if len(t.If) > MaxOps || len(t.Ops) > MaxOps {
		return fmt.Errorf("%d changes under %d conditions are too many at once, expected at most %d each", len(t.Ops), len(t.If), MaxOps)
	}
	for _, c := range t.If {
		if c.Key == "" {
			return errors.New("a condition has no key")
		}
		if !utf8.ValidString(c.Key) {
			return fmt.Errorf("the key %q is not valid UTF-8", c.Key)
		}
	}
	written := make(map[string]bool, len(t.Ops))
	for _, op := range t.Ops {
		switch {
		case op.Key == "":
			return errors.New("a change has no key")
		case !utf8.ValidString(op.Key):
			return fmt.Errorf("the key %q is not valid UTF-8", op.Key)
		case op.Delete && (op.Bound || len(op.Value) > 0):
			return fmt.Errorf("%s is deleted with a value, or bound", op.Key)
		case op.Below && !op.Delete:
			return fmt.Errorf("all below %s can't be set, only deleted", op.Key)
		case written[op.Key]:
			return fmt.Errorf("%s is changed twice at once", op.Key)
		}
		written[op.Key] = true
	}
	for _, op := range t.Ops {
		for key := range written {
			if op.Below && key != op.Key && strings.HasPrefix(key, op.Key) {
				return fmt.Errorf("%s is changed twice at once, by itself and with all below %s", key, op.Key)
			}
		}
	}
	return nil
}

// String is what t does, for errors and logs: "writing /mgmt/x and 2 more".
func (t Txn) String() string {
	switch len(t.Ops) {
	case 0:
		return "comparing keys"
	case 1:
		if t.Ops[0].Delete {
			return "deleting " + t.Ops[0].Key
		}
		return "writing " + t.Ops[0].Key
	}
	return fmt.Sprintf("writing %s and %d more", t.Ops[0].Key, len(t.Ops)-1)
}

// Put returns the Op that sets key.
func Put(key string, value []byte) Op { return Op{Key: key, Value: value} }

// Delete returns the Op that takes key away.
func Delete(key string) Op { return Op{Key: key, Delete: true} }

// Change is one step of what a watch covers.
type Change struct {
	// Reset says that Put is all that there is: what is not in it is gone.
	Reset bool `json:"reset,omitempty"`

	// Put are the new versions, and Deleted the keys that are gone.
	Put     []Entry  `json:"put,omitempty"`
	Deleted []string `json:"deleted,omitempty"`

	// Revision is that of the store after the step.
	Revision int64 `json:"revision"`
}

// Fold is what changes that were made one after the other come to as one step.
func Fold(changes ...Change) Change {
	var all Change
	from := 0 // all before a Reset counts no more
	for i, c := range changes {
		if c.Reset {
			all.Reset, from = true, i
		}
		all.Revision = max(all.Revision, c.Revision)
	}
	changes = changes[from:]
	last := make(map[string]int) // the step that says what becomes of a key
	for i, c := range changes {
		for _, e := range c.Put {
			last[e.Key] = i
		}
		for _, key := range c.Deleted {
			last[key] = i
		}
	}
	for i, c := range changes {
		for _, e := range c.Put {
			if last[e.Key] == i {
				all.Put = append(all.Put, e)
			}
		}
		for _, key := range c.Deleted {
			if last[key] == i && !all.Reset { // with it, what is not there is gone
				all.Deleted = append(all.Deleted, key)
			}
		}
	}
	return all
}

// Watch covers one key, or all that begin with it. It is served by the source "mesh".
type Watch struct {
	Key   string
	Below bool
}

var _ sources.Watch = Watch{}

// SourceName is the name of the source that serves a Watch.
const SourceName = "mesh"

// Key returns the watch of one key.
func Key(key string) Watch { return Watch{Key: key} }

// Below returns the watch of all keys that begin with prefix.
func Below(prefix string) Watch { return Watch{Key: prefix, Below: true} }

// Source implements sources.Watch.
func (Watch) Source() string { return SourceName }

// String implements sources.Watch: "/mgmt/kv/x", or "/mgmt/export/..." for all below.
func (w Watch) String() string {
	if w.Below {
		return w.Key + "..."
	}
	return w.Key
}
