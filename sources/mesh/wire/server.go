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
)

// storeLimit is how long a call without a deadline waits for a store to be attached.
const storeLimit = 8 * time.Second

// Server is the end of the peer: it answers for a store, once it has one.
type Server struct {
	line  *line
	ctx   context.Context
	stop  context.CancelFunc
	ready chan struct{} // closed when there is a store
	once  sync.Once
	store mesh.Store // once ready is closed
	tasks sync.WaitGroup

	mu      sync.Mutex
	running map[uint64]context.CancelFunc // calls and subscriptions
}

// Serve answers for store, which may be a mesh.Vault too, until ctx is done or the agent
// has gone: then it returns nil. It owns conn.
func Serve(ctx context.Context, conn io.ReadWriteCloser, store mesh.Store) error {
	s := NewServer(conn)
	defer s.Close()
	s.Attach(store)
	select {
	case <-ctx.Done():
		return nil
	case <-s.Done():
		return s.Err()
	}
}

// NewServer begins to serve over conn, which it owns. Calls wait for Attach.
func NewServer(conn io.ReadWriteCloser) *Server {
	s := &Server{line: newLine(conn), ready: make(chan struct{}), running: make(map[uint64]context.CancelFunc)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.line.send(frame{Op: opHello, Version: version})
	s.line.begin(s.handle)
	s.line.wg.Go(func() {
		<-s.line.done
		s.stop()
	})
	return s
}

// Attach says which store to answer for. Only the first counts.
func (s *Server) Attach(store mesh.Store) {
	s.once.Do(func() {
		s.store = store
		s.line.send(frame{Op: opHost, Host: store.Host()})
		close(s.ready)
	})
}

// Handler returns what sends a log, from a level on, to the agent.
func (s *Server) Handler(level slog.Leveler) slog.Handler { return handler{line: s.line, level: level} }

// Report tells the agent how the peer is, which Client.Status returns: something that
// can be written as JSON.
func (s *Server) Report(status any) error {
	text, err := json.Marshal(status)
	if err == nil {
		s.line.send(frame{Op: opStatus, Status: text})
	}
	return err
}

// Done is closed when the agent has gone, or Close was called.
func (s *Server) Done() <-chan struct{} { return s.line.done }

// Err is why the connection has ended, once Done is closed: nil if the agent has gone.
func (s *Server) Err() error {
	if errors.Is(s.line.err, errGone) || errors.Is(s.line.err, errClosed) {
		return nil
	}
	return s.line.err
}

// Close ends all calls and the connection, once what was logged has been written. Calls
// that were not answered fail with mesh.ErrUnreachable.
func (s *Server) Close() {
	s.line.close()
	s.line.wg.Wait()
	s.tasks.Wait()
}

// handle is called with what the agent asks for.
func (s *Server) handle(f *frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cancel, known := s.running[f.ID]
	if f.Op == opCancel {
		if known {
			cancel()
		}
		return nil
	}
	if known {
		return fmt.Errorf("the agent has begun call %d twice", f.ID)
	}
	ctx, cancel := f.limited(s.ctx)
	s.running[f.ID] = cancel
	s.tasks.Go(func() {
		answer := s.answer(ctx, f)
		cancel()
		s.mu.Lock()
		delete(s.running, f.ID)
		s.mu.Unlock()
		answer.Op, answer.ID = opResult, f.ID
		s.line.send(answer)
	})
	return nil
}

// answer does what f asks for.
func (s *Server) answer(ctx context.Context, f *frame) (answer frame) {
	err := s.attached(ctx, f)
	if err != nil {
		return frame{Fail: failed(err)}
	}
	switch f.Op {
	case opGet:
		var e mesh.Entry
		var ok bool
		if e, ok, err = s.store.Get(ctx, f.Key); ok {
			answer.Entry = &e
		}
	case opList:
		var l mesh.List
		l, err = s.store.List(ctx, f.Key)
		answer.List = &l
	case opWrite:
		if f.Txn == nil {
			f.Txn = &mesh.Txn{}
		}
		answer.Revision, err = s.store.Write(ctx, *f.Txn)
	case opSeal, opOpen:
		answer.Data, err = s.vault(ctx, f)
	case opWatch:
		err = s.watch(ctx, f)
	default:
		err = fmt.Errorf("the peer does not know how to %q", f.Op)
	}
	switch {
	case err == nil || errors.Is(err, mesh.ErrUnreachable):
	case s.ctx.Err() != nil:
		err = fmt.Errorf("%w: this host is about to leave it", mesh.ErrUnreachable)
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("%w in time: %w", mesh.ErrUnreachable, err)
	}
	answer.Fail = failed(err)
	return answer
}

// attached waits for a store.
func (s *Server) attached(ctx context.Context, f *frame) error {
	limit := (<-chan time.Time)(nil)
	if f.Op != opWatch {
		limit = time.After(storeLimit)
	}
	select {
	case <-s.ready:
		return nil
	default:
	}
	select {
	case <-s.ready:
		return nil
	case <-limit:
	case <-ctx.Done():
	}
	return fmt.Errorf("%w yet: this host is still looking for it", mesh.ErrUnreachable)
}

func (s *Server) vault(ctx context.Context, f *frame) ([]byte, error) {
	vault, ok := s.store.(mesh.Vault)
	if !ok {
		return nil, errors.New("this mesh can't hide what is secret")
	}
	if f.Op == opSeal {
		return vault.Seal(ctx, f.Hosts, f.Data)
	}
	return vault.Open(ctx, f.Data)
}

// watch sends changes until ctx is done. If they come faster than the agent reads, several
// become one.
func (s *Server) watch(ctx context.Context, f *frame) error {
	var pending latest
	return s.store.Changes(mesh.Watch{Key: f.Key, Below: f.Below}).Subscribe(ctx, func(c mesh.Change) bool {
		if pending.put(c) {
			s.line.later(func() *frame {
				c, _ := pending.take()
				return &frame{Op: opChange, ID: f.ID, Change: &c}
			})
		}
		return true
	})
}
