package httpserver

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// closing is how long the end of a server is waited for.
const closing = 5 * time.Second

// listening is a server that listens.
type listening struct {
	address string
	http    *http.Server
	end     func()        // the site is served by one server less
	ended   chan struct{} // closed when it does not listen any more
}

// listen begins to serve.
func (s *server) listen(ctx context.Context) (*listening, error) {
	socket, err := new(net.ListenConfig).Listen(ctx, "tcp", s.address)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, err
	}
	header := headerTimeout
	if s.read > 0 {
		header = min(header, s.read)
	}
	l := &listening{
		address: socket.Addr().String(),
		end:     s.site.Open(s.root),
		ended:   make(chan struct{}),
		http: &http.Server{
			Handler:           s.site,
			ReadTimeout:       s.read,
			ReadHeaderTimeout: header,
			WriteTimeout:      s.write,
			IdleTimeout:       idleTimeout,
			ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // of clients, mostly
		},
	}
	go func() {
		defer close(l.ended)
		if err := l.http.Serve(socket); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("the server does not listen any more", "address", l.address, "error", err)
		}
	}()
	return l, nil
}

// alive reports whether it listens.
func (l *listening) alive() bool {
	if l == nil {
		return false
	}
	select {
	case <-l.ended:
		return false
	default:
		return true
	}
}

// close ends it: it listens no more at once, and answers what was asked before for as long
// as patience. It returns when that is over, or after a few seconds.
func (l *listening) close(patience time.Duration) error {
	if l == nil {
		return nil
	}
	l.end()
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		err := l.http.Shutdown(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = l.http.Close()
		}
		<-l.ended
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(closing):
		return nil
	}
}
