package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// Client asks a run that answers at a socket.
type Client struct {
	path string
	http *http.Client
}

// NewClient returns a Client for the socket at path. Nothing is opened before a question.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return connect(ctx, path) }
	return &Client{path, &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true, DisableCompression: true}}}
}

func connect(ctx context.Context, path string) (net.Conn, error) {
	address, release, err := shorten(path)
	if err != nil {
		return nil, err
	}
	defer release()
	return new(net.Dialer).DialContext(ctx, "unix", address)
}

// Await returns as soon as somebody answers, or when limit is over: a run that has just
// begun takes a moment until it can be asked.
func (c *Client) Await(ctx context.Context, limit time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	often := time.NewTicker(5 * time.Millisecond)
	defer often.Stop()
	for {
		conn, err := connect(ctx, c.path)
		if err == nil {
			conn.Close()
			return
		}
		if !absent(err) {
			return
		}
		select {
		case <-often.C:
		case <-ctx.Done():
			return
		}
	}
}

// absent says that an error comes of nobody being there.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOTSOCK)
}

// AbsentError says that nobody answers at a socket.
type AbsentError struct {
	Path string
	Err  error
}

// Error implements error.
func (e *AbsentError) Error() string { return "no run answers at " + e.Path }

// Unwrap gives the reason.
func (e *AbsentError) Unwrap() error { return e.Err }

// RefusedError is what the server says of a question that has no answer.
type RefusedError struct{ Message string }

// Error implements error.
func (e *RefusedError) Error() string { return e.Message }

// Status asks how the run is. Nobody there is an *AbsentError, here and below.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	return s, c.get(ctx, "/status", nil, &s)
}

// Explain asks what a resource is, and how it is. A resource that is not in the graph is
// a *RefusedError.
func (c *Client) Explain(ctx context.Context, resource string) (Explanation, error) {
	var x Explanation
	return x, c.get(ctx, "/explain", url.Values{"resource": {resource}}, &x)
}

// Tap opens the event stream of a resource, or of all if it is empty, for limit events if
// that is not 0. It must be closed.
func (c *Client) Tap(ctx context.Context, resource string, limit int) (*Stream, error) {
	query := url.Values{}
	if resource != "" {
		query.Set("resource", resource)
	}
	if limit > 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	resp, err := c.do(ctx, "/tap", query) //nolint:bodyclose // Stream.Close does
	if err != nil {
		return nil, err
	}
	return &Stream{resp.Body, bufio.NewReader(resp.Body)}, nil
}

// Stream is an event stream that is being read.
type Stream struct {
	body  io.Closer
	lines *bufio.Reader
}

// Next returns the next line, with its end. The error is io.EOF after the last one; any
// other says that the run has been killed, or that ctx is done.
func (s *Stream) Next() ([]byte, error) {
	line, err := s.lines.ReadBytes('\n')
	if err == nil {
		return line, nil
	}
	if len(line) > 0 && errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return nil, err
}

// Close ends the stream.
func (s *Stream) Close() { _ = s.body.Close() }

func (c *Client) get(ctx context.Context, path string, query url.Values, into any) error {
	resp, err := c.do(ctx, path, query)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("the answer of %s: %w", c.path, err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, path string, query url.Values) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://mgmt"+path+"?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case absent(err):
		return nil, &AbsentError{c.path, err}
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s may be opened only by the user that the run belongs to, and by root", c.path)
	default:
		return nil, fmt.Errorf("asking at %s: %w", c.path, unwrapURL(err))
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	var f failure
	if err := json.NewDecoder(resp.Body).Decode(&f); err != nil || f.Error == "" {
		return nil, fmt.Errorf("%s answers %s: is it another version of mgmt?", c.path, resp.Status)
	}
	return nil, &RefusedError{f.Error}
}

// unwrapURL takes the address that was made up out of an error.
func unwrapURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}
