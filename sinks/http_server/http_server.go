// Package httpserver serves files to whoever asks for them over HTTP.
package httpserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
	"github.com/mgmtproject/mgmt/sinks/http_server/site"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// Spec is the kind "http_server".
var Spec = sinks.Spec{Kind: "http_server", New: func() sinks.Config { return &Config{ShutdownTimeout: 3 * time.Second} }}

// Config is a web server that runs as long as mgmt does and the resource is in the graph.
// It begins to listen when the resource is applied first, which counts as a change.
//
// It serves the http_server_file resources that name it, and what is in a directory. Only
// GET and HEAD are answered, with ranges and conditions (ETag, Last-Modified). There is no
// TLS: what is secret does not belong here.
//
// It sends address, the one that it listens on, with the port that the system has chosen
// if 0 was asked for, and url.
type Config struct {
	// Address is where the server listens: host and port, "127.0.0.1:8080"; the default is
	// the resource's name. Without a host ":8080" it is all addresses of this host. Port 0
	// lets the system choose a free one.
	Address string `param:"address"`

	// Timeout is how long a request may take to come, and as long its answer to go out. It
	// stands for read_timeout and write_timeout where these are not given; 0 is no limit. The
	// headers of a request have to come within ten seconds in any case.
	Timeout time.Duration `param:"timeout" unit:"s"`

	// ReadTimeout is how long a request may take to come.
	ReadTimeout time.Duration `param:"read_timeout" unit:"s"`

	// WriteTimeout is how long an answer may take to go out, a large file included.
	WriteTimeout time.Duration `param:"write_timeout" unit:"s"`

	// ShutdownTimeout is how long requests that are being answered may go on when the
	// server ends; then they are cut off. At the end of mgmt itself, and before a server
	// that takes this one's place begins, it is waited for five seconds at most.
	ShutdownTimeout time.Duration `param:"shutdown_timeout" unit:"s"`

	// Root is the absolute path of a directory, whose files are served as well where no
	// http_server_file is. A directory is served by its index.html; none is listed. Names
	// that begin with a dot are not there, and symbolic links that lead out of the directory
	// are not followed.
	Root string `param:"root"`
}

const (
	headerTimeout = 10 * time.Second // for a client that sends nothing, or a byte now and then
	idleTimeout   = 2 * time.Minute
)

// server is a resource of this kind.
type server struct {
	address  string
	root     string
	read     time.Duration
	write    time.Duration
	shutdown time.Duration
	name     string
	site     *site.Site
	log      *slog.Logger

	running *listening // nil if it does not listen
}

// Build implements sinks.Config.
func (c *Config) Build(name string, opts sinks.Options) (sinks.Resource, error) {
	s := &server{address: c.Address, read: c.ReadTimeout, write: c.WriteTimeout, shutdown: c.ShutdownTimeout, name: name, site: site.Of(opts.Space(), name), log: opts.Logger()}
	if s.address == "" {
		s.address = name
	}
	if err := checkAddress(s.address); err != nil {
		if c.Address == "" {
			return nil, fmt.Errorf("%w: give address, or one as name", err)
		}
		return nil, &sinks.ParamError{Param: "address", Err: err}
	}
	for _, t := range []struct {
		param string
		value time.Duration
	}{{"timeout", c.Timeout}, {"read_timeout", s.read}, {"write_timeout", s.write}, {"shutdown_timeout", s.shutdown}} {
		if t.value < 0 {
			return nil, &sinks.ParamError{Param: t.param, Err: fmt.Errorf("it must not be negative, and is %v", t.value)}
		}
	}
	if s.read == 0 {
		s.read = c.Timeout
	}
	if s.write == 0 {
		s.write = c.Timeout
	}
	if c.Root != "" {
		var err error
		if s.root, err = atomicfile.Clean(c.Root); err != nil {
			return nil, &sinks.ParamError{Param: "root", Err: err}
		}
	}
	return s, nil
}

// checkAddress says what is wrong with an address, without a look at the network.
func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		if n, wrong := strconv.Atoi(port); wrong != nil || n < 0 || n > 65535 {
			err = errors.New("the port is no number from 0 to 65535")
		}
	}
	if err != nil {
		return fmt.Errorf("%q is no address such as 127.0.0.1:8080", address)
	}
	return nil
}

// fixed reports whether the address has a port that the system does not choose.
func (s *server) fixed() bool {
	_, port, _ := net.SplitHostPort(s.address)
	return strings.Trim(port, "0") != ""
}

// Owns implements sinks.Owner.
func (s *server) Owns() []string {
	if !s.fixed() {
		return nil
	}
	return []string{"address " + s.address}
}

// Watches implements sinks.Resource. That a listener ends by itself does not happen in
// practice and is no event: it is noticed at the next look.
func (s *server) Watches() []sources.Watch {
	if s.root == "" {
		return nil
	}
	return []sources.Watch{inotify.Path(s.root)}
}

var (
	_ sinks.Owner  = (*server)(nil)
	_ sinks.Closer = (*server)(nil)
)

// CheckApply implements sinks.Resource.
func (s *server) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if ctx.Err() != nil {
		return sinks.Outcome{}, context.Cause(ctx)
	}
	if s.root != "" {
		if info, err := os.Stat(s.root); err != nil {
			return sinks.Outcome{}, err
		} else if !info.IsDir() {
			return sinks.Outcome{}, fmt.Errorf("root %s is not a directory", s.root)
		}
	}
	if s.running.alive() {
		return s.sends(sinks.Outcome{}), nil
	}
	out := sinks.Outcome{Changed: true, Changes: []sinks.Change{{Field: "address", From: "(not listening)", To: s.address}}}
	if !apply {
		return out, nil
	}
	if err := s.Close(); err != nil { // of one that has ended by itself
		return sinks.Outcome{}, err
	}
	running, err := s.listen(ctx)
	if err != nil {
		return sinks.Outcome{}, err
	}
	s.running = running
	return s.sends(out), nil
}

func (s *server) sends(out sinks.Outcome) sinks.Outcome {
	out.Values = map[string]any{"address": s.running.address, "url": "http://" + local(s.running.address)}
	return out
}

// local is an address for a client on this host: one that stands for all addresses is none
// to connect to.
func local(address string) string {
	host, port, _ := net.SplitHostPort(address)
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// Close implements sinks.Closer.
func (s *server) Close() error {
	running := s.running
	s.running = nil
	return running.close(s.shutdown)
}
