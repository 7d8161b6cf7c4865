package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mgmtproject/mgmt/cmd/internal/eventlog"
	"github.com/mgmtproject/mgmt/pipeline"
)

const (
	// tapBound is how many bytes wait for a slow reader of a tap.
	tapBound = 1 << 20

	// maxTaps is how many readers there may be at once, for the memory that they take.
	maxTaps = 64

	// parting is how long a reader of a tap is waited for at the end.
	parting = 200 * time.Millisecond

	forever = time.Duration(math.MaxInt64)
)

// Server answers for a run. Close must be called.
type Server struct {
	path   string
	agent  Agent
	header eventlog.Header
	began  time.Time
	http   *http.Server

	listener  net.Listener
	unlisten  sync.Once
	accepting sync.WaitGroup
	serving   sync.WaitGroup // a connection each
	tapping   sync.WaitGroup // a connection each of those in tapped

	mu     sync.Mutex // of who changes what follows
	taps   atomic.Pointer[[]*tap]
	tapped map[net.Conn]bool
	ended  bool
	over   chan struct{} // closed at the end
	exit   eventlog.Exit // set before
}

// connKey leads to the connection of a request in its context.
type connKey struct{}

// Listen makes a socket at path and answers there.
func Listen(path string, agent Agent, header eventlog.Header, began time.Time) (*Server, error) {
	l, err := listen(path)
	if err != nil {
		return nil, err
	}
	s := &Server{path: path, agent: agent, header: header, began: began, listener: l, tapped: map[net.Conn]bool{}, over: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", s.status)
	mux.HandleFunc("GET /explain", s.explain)
	mux.HandleFunc("GET /tap", s.tap)
	s.http = &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 5 * time.Second,
		ErrorLog:    log.New(io.Discard, "", 0),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ConnState:   s.connection,
	}
	s.accepting.Go(func() { _ = s.http.Serve(l) })
	return s, nil
}

// connection follows the connections, to know when all have ended.
func (s *Server) connection(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.serving.Add(1)
	case http.StateClosed:
		s.mu.Lock()
		if s.tapped[c] {
			delete(s.tapped, c)
			s.tapping.Done()
		}
		s.mu.Unlock()
		s.serving.Done()
	}
}

// Observe shows a result to whoever taps the run. It does not wait. It is called by one
// goroutine at a time.
func (s *Server) Observe(r pipeline.Result) {
	taps := s.taps.Load()
	if taps == nil {
		return
	}
	for _, t := range *taps {
		t.observe(r)
	}
}

// Leave takes no more questions, and removes the socket. Those who tap the run go on.
func (s *Server) Leave() {
	s.unlisten.Do(func() {
		_ = os.Remove(s.path)
		_ = s.listener.Close()
	})
}

// Close tells those who tap the run how it has ended, and ends the server, all within a
// fraction of a second.
func (s *Server) Close(e eventlog.Exit) {
	s.Leave()
	s.accepting.Wait() // so that no connection comes after those that are closed below
	s.mu.Lock()
	s.ended, s.exit = true, e
	close(s.over)
	s.mu.Unlock()
	s.tapping.Wait()
	_ = s.http.Close()
	s.serving.Wait()
}

func answer(w http.ResponseWriter, code int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(value) // who has gone needs no answer
}

func refuse(w http.ResponseWriter, code int, err error) {
	answer(w, code, failure{Version, err.Error()})
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, Status{Version: Version, Header: s.header, Began: s.began.UTC(), Snapshot: s.agent.Status()})
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	g, v, now, err := s.agent.Find(r.URL.Query().Get("resource"))
	if err != nil {
		refuse(w, http.StatusNotFound, err)
		return
	}
	answer(w, http.StatusOK, Explanation{Version: Version, Explanation: pipeline.Explain(g, v), Now: &now})
}

// tap is somebody who is shown what happens.
type tap struct {
	log        *eventlog.Log
	kind, name string // of the resource that is of interest; empty for all
	limited    bool
	left       int
	full       chan struct{} // closed when none is left
}

// observe shows r, if it is of interest.
func (t *tap) observe(r pipeline.Result) {
	if t.kind != "" && (r.Vertex == nil || r.Vertex.Kind != t.kind || r.Vertex.Name != t.name) {
		return
	}
	if t.limited {
		if t.left == 0 {
			return
		}
		if t.left--; t.left == 0 {
			defer close(t.full)
		}
	}
	t.log.Observe(r)
}

// tap answers with the event stream.
func (s *Server) tap(w http.ResponseWriter, r *http.Request) {
	t := &tap{full: make(chan struct{})}
	if text := r.URL.Query().Get("limit"); text != "" {
		var err error
		if t.left, err = strconv.Atoi(text); err != nil || t.left < 1 {
			refuse(w, http.StatusBadRequest, fmt.Errorf("limit: %q is not a number of 1 or more", text))
			return
		}
		t.limited = true
	}
	if resource := r.URL.Query().Get("resource"); resource != "" {
		_, v, _, err := s.agent.Find(resource)
		if err != nil {
			refuse(w, http.StatusNotFound, err)
			return
		}
		t.kind, t.name = v.Kind, v.Name
	}
	s.show(w, r, t)
}

// show writes what t sees until it has seen enough, nobody reads any more, or the run is
// over. Nothing may write to w when it has returned.
func (s *Server) show(w http.ResponseWriter, r *http.Request, t *tap) {
	conn := http.NewResponseController(w)
	gone := make(chan struct{})
	t.log = eventlog.NewBounded(stream{w, conn}, tapBound, func(error) { close(gone) })
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Connection", "close") // for the deadline that it has in the end
	if err := s.add(t, r.Context().Value(connKey{}).(net.Conn)); err != nil {
		t.log.Close(forever)
		refuse(w, http.StatusServiceUnavailable, err)
		return
	}
	over := false
	select {
	case <-r.Context().Done():
	case <-gone:
	case <-t.full:
	case <-s.over:
		over = true
	}
	s.remove(t)
	written := make(chan struct{})
	go func() {
		defer close(written)
		if over {
			t.log.End(time.Now(), s.exit, forever)
		} else {
			t.log.Close(forever)
		}
	}()
	if !over {
		select {
		case <-written:
			return
		case <-r.Context().Done():
		case <-s.over:
		}
	}
	_ = conn.SetWriteDeadline(time.Now().Add(parting))
	<-written
}

// stream writes to a reader at once.
type stream struct {
	http.ResponseWriter
	conn *http.ResponseController
}

// Write implements io.Writer.
func (s stream) Write(p []byte) (int, error) {
	n, err := s.ResponseWriter.Write(p)
	return n, errors.Join(err, s.conn.Flush())
}

func (s *Server) add(t *tap, c net.Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var taps []*tap
	if now := s.taps.Load(); now != nil {
		taps = slices.Clone(*now)
	}
	switch {
	case s.ended:
		return errors.New("the run has ended")
	case len(taps) == maxTaps:
		return fmt.Errorf("%d others are reading already", maxTaps)
	}
	t.log.Begin(time.Now(), s.header)
	taps = append(taps, t)
	s.taps.Store(&taps)
	s.tapped[c] = true
	s.tapping.Add(1)
	return nil
}

func (s *Server) remove(t *tap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	taps := slices.DeleteFunc(slices.Clone(*s.taps.Load()), func(other *tap) bool { return other == t })
	if len(taps) == 0 {
		s.taps.Store(nil)
		return
	}
	s.taps.Store(&taps)
}
