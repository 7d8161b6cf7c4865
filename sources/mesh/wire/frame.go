package wire

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/mgmtproject/mgmt/sources/mesh"
)

// version is that of the protocol. It changes whenever two programs that differ in it would
// misunderstand each other.
const version = 1

// A frame is one line of JSON. Those of the agent ask, and those of the peer answer or tell.
type frame struct {
	Op op     `json:"op"`
	ID uint64 `json:"id,omitempty"` // of a call or a subscription, chosen by the agent

	// Asked by the agent:
	Within int64     `json:"within,omitempty"` // milliseconds that a call has; 0: not said
	Key    string    `json:"key,omitempty"`
	Below  bool      `json:"below,omitempty"`
	Txn    *mesh.Txn `json:"txn,omitempty"`
	Hosts  []string  `json:"hosts,omitempty"`

	// Asked and answered:
	Data []byte `json:"data,omitempty"`

	// Answered by the peer:
	Entry    *mesh.Entry  `json:"entry,omitempty"`
	List     *mesh.List   `json:"list,omitempty"`
	Revision int64        `json:"revision,omitempty"`
	Change   *mesh.Change `json:"change,omitempty"`
	Fail     *failure     `json:"fail,omitempty"`

	// Told by the peer:
	Version int             `json:"version,omitempty"`
	Host    string          `json:"host,omitempty"`
	Log     *record         `json:"log,omitempty"`
	Status  json.RawMessage `json:"status,omitempty"`
}

// op is what a frame is about.
type op string

const (
	opGet    op = "get"
	opList   op = "list"
	opWrite  op = "write"
	opSeal   op = "seal"
	opOpen   op = "open"
	opWatch  op = "watch"
	opCancel op = "cancel"

	opResult op = "result" // of a call; of a watch its end
	opChange op = "change"
	opHello  op = "hello" // the first frame of a peer
	opHost   op = "host"  // it has a store from now on
	opLog    op = "log"
	opStatus op = "status"
)

// failure is an error on its way.
type failure struct {
	Text string `json:"text"`
	Sort string `json:"sort,omitempty"` // of sorts, "" for none
}

// sorts are the errors that are more than their text. The first that fits counts.
var sorts = []struct {
	name string
	err  error
}{
	{"unreachable", mesh.ErrUnreachable},
	{"conflict", mesh.ErrConflict},
	{"refused", mesh.ErrRefused},
}

func failed(err error) *failure {
	if err == nil {
		return nil
	}
	f := &failure{Text: err.Error()}
	for _, sort := range sorts {
		if errors.Is(err, sort.err) {
			f.Sort = sort.name
			break
		}
	}
	return f
}

// farError is an error that came over the wire.
type farError struct {
	text string
	sort error
}

func (e *farError) Error() string { return e.text }
func (e *farError) Unwrap() error { return e.sort }

func (f *failure) err() error {
	if f == nil {
		return nil
	}
	err := &farError{text: f.Text}
	for _, sort := range sorts {
		if sort.name == f.Sort {
			err.sort = sort.err
		}
	}
	return err
}

// limited is ctx with the time that a frame gives.
func (f *frame) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if f.Within <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Duration(f.Within)*time.Millisecond)
}
