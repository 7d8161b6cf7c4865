// Package wire lets one process use the store of a mesh that another one has: an agent, and
// its peer, which speak JSON, a line each, over a socket between them. Calls run side by
// side; what is slow at one end never holds up anything else.
package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/streams"
)

// callLimit is how long a call without a deadline waits for a peer, which gives up earlier
// unless it has stopped.
const callLimit = 10 * time.Second

// Client is the end of the agent. When the connection ends all calls and subscriptions
// fail with mesh.ErrUnreachable, and so does what begins later: it is not made again.
type Client struct {
	line *line
	log  chan *record
	host chan struct{} // closed when the host is known

	mu     sync.Mutex
	last   uint64
	calls  map[uint64]chan<- *frame
	subs   map[uint64]*subscription
	name   string
	status json.RawMessage

	dropped int // lines of the log for which there was no room; for handle only
}

// subscription is one that runs.
type subscription struct {
	latest
	wake  chan struct{} // holds an item when there is something to take
	end   error         // once ended is closed
	ended chan struct{}
}

var (
	_ mesh.Store = (*Client)(nil)
	_ mesh.Vault = (*Client)(nil)
)

// Dial begins to speak with a peer over conn, which the Client owns. Log gets what the
// peer logs.
func Dial(conn io.ReadWriteCloser, log *slog.Logger) *Client {
	c := &Client{
		line:  newLine(conn),
		log:   make(chan *record, maxLogs),
		host:  make(chan struct{}),
		calls: make(map[uint64]chan<- *frame),
		subs:  make(map[uint64]*subscription),
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c.line.wg.Go(func() { c.tell(log) })
	c.line.begin(c.handle)
	return c
}

// Close ends the connection, which the peer notices. What the peer has logged and was not
// read yet is lost: wait for Done if it ends by itself.
func (c *Client) Close() {
	c.line.end(errClosed)
	c.line.wg.Wait()
}

// Done is closed when the connection has ended.
func (c *Client) Done() <-chan struct{} { return c.line.done }

// Status is what the peer has reported last, nil if nothing: see Server.Report.
func (c *Client) Status() json.RawMessage {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// tell writes the log of the peer, beside all else: it may have to wait.
func (c *Client) tell(log *slog.Logger) {
	for {
		select {
		case r := <-c.log:
			tell(log, r)
		case <-c.line.done:
			for { // its last words
				select {
				case r := <-c.log:
					tell(log, r)
				default:
					return
				}
			}
		}
	}
}

// handle is called with what the peer sends. It never waits.
func (c *Client) handle(f *frame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f.Op {
	case opHello:
		if f.Version != version {
			return fmt.Errorf("the peer speaks version %d of the language between them, and this program version %d: install both of the same release", f.Version, version)
		}
	case opHost:
		if c.name == "" && f.Host != "" {
			c.name = f.Host
			close(c.host)
		}
	case opStatus:
		c.status = f.Status
	case opLog:
		if f.Log == nil {
			break
		}
		f.Log.Dropped += c.dropped
		select {
		case c.log <- f.Log:
			c.dropped = 0
		default:
			c.dropped = f.Log.Dropped + 1
		}
	case opChange:
		if s := c.subs[f.ID]; s != nil && f.Change != nil && s.put(*f.Change) {
			s.wake <- struct{}{} // there is room: it was taken, and so had been the item
		}
	case opResult:
		if s := c.subs[f.ID]; s != nil {
			delete(c.subs, f.ID)
			s.end = f.Fail.err()
			close(s.ended)
		}
		if call := c.calls[f.ID]; call != nil {
			delete(c.calls, f.ID)
			call <- f // there is room for one
		}
	default:
		return fmt.Errorf("the peer has said %q, which this program does not know", f.Op)
	}
	return nil
}

// gone is the error of everything after the connection has ended.
func (c *Client) gone(doing string) error {
	return fmt.Errorf("%s: %w: %w", doing, mesh.ErrUnreachable, c.line.err)
}

// call asks f, and waits for the answer.
func (c *Client) call(ctx context.Context, doing string, f frame) (*frame, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	waiting := ctx
	if deadline, ok := ctx.Deadline(); ok {
		f.Within = max(1, time.Until(deadline).Milliseconds())
	} else {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, callLimit)
		defer cancel()
	}
	answer := make(chan *frame, 1)
	c.mu.Lock()
	c.last++
	f.ID = c.last
	c.calls[f.ID] = answer
	c.mu.Unlock()
	defer c.forget(f.ID)
	c.line.send(f)
	select {
	case a := <-answer:
		return a, a.Fail.err()
	case <-c.line.done:
		return nil, c.gone(doing)
	case <-waiting.Done():
	}
	c.line.send(frame{Op: opCancel, ID: f.ID})
	if errors.Is(waiting.Err(), context.DeadlineExceeded) {
		return nil, fmt.Errorf("%s: %w in time", doing, mesh.ErrUnreachable)
	}
	return nil, context.Cause(ctx)
}

func (c *Client) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, id)
	delete(c.subs, id)
}

// Host implements mesh.Store. It waits until the peer has a store; it is empty if that
// never came about.
func (c *Client) Host() string {
	select {
	case <-c.host:
	case <-c.line.done:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.name
}

// Get implements mesh.Store.
func (c *Client) Get(ctx context.Context, key string) (mesh.Entry, bool, error) {
	a, err := c.call(ctx, "reading "+key, frame{Op: opGet, Key: key})
	if err != nil || a.Entry == nil {
		return mesh.Entry{}, false, err
	}
	return *a.Entry, true, nil
}

// List implements mesh.Store.
func (c *Client) List(ctx context.Context, prefix string) (mesh.List, error) {
	a, err := c.call(ctx, "reading "+mesh.Below(prefix).String(), frame{Op: opList, Key: prefix})
	if err != nil || a.List == nil {
		return mesh.List{}, err
	}
	return *a.List, nil
}

// Write implements mesh.Store.
func (c *Client) Write(ctx context.Context, t mesh.Txn) (int64, error) {
	if err := t.Check(); err != nil {
		return 0, err
	}
	a, err := c.call(ctx, t.String(), frame{Op: opWrite, Txn: &t})
	if err != nil {
		return 0, err
	}
	return a.Revision, nil
}

// Seal implements mesh.Vault.
func (c *Client) Seal(ctx context.Context, hosts []string, plain []byte) ([]byte, error) {
	a, err := c.call(ctx, "sealing", frame{Op: opSeal, Hosts: hosts, Data: plain})
	if err != nil {
		return nil, err
	}
	return a.Data, nil
}

// Open implements mesh.Vault.
func (c *Client) Open(ctx context.Context, sealed []byte) ([]byte, error) {
	a, err := c.call(ctx, "opening what is sealed", frame{Op: opOpen, Data: sealed})
	if err != nil {
		return nil, err
	}
	return a.Data, nil
}

// Changes implements mesh.Store. Changes that come faster than they are taken become one.
func (c *Client) Changes(w mesh.Watch) streams.Observable[mesh.Change] {
	return streams.New(func(ctx context.Context, emit func(mesh.Change) bool) error {
		s := &subscription{wake: make(chan struct{}, 1), ended: make(chan struct{})}
		c.mu.Lock()
		c.last++
		id := c.last
		c.subs[id] = s
		c.mu.Unlock()
		defer c.forget(id)
		c.line.send(frame{Op: opWatch, ID: id, Key: w.Key, Below: w.Below})
		for {
			select {
			case <-s.wake:
			case <-s.ended:
				if change, ok := s.take(); ok && !emit(change) {
					return nil
				}
				return s.end
			case <-c.line.done:
				return c.gone("watching " + w.String())
			case <-ctx.Done():
				c.line.send(frame{Op: opCancel, ID: id})
				return context.Cause(ctx)
			}
			if change, ok := s.take(); ok && !emit(change) {
				c.line.send(frame{Op: opCancel, ID: id})
				return nil
			}
		}
	})
}
