package httpclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// stall is how long a server may send nothing.
var stall = time.Minute

var errStalled = errors.New("the server has sent nothing for too long")

// web has no connections left over when a request is done: the next one may be hours away.
var web = &http.Client{Transport: &http.Transport{
	Proxy:                  http.ProxyFromEnvironment,
	DialContext:            (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
	TLSHandshakeTimeout:    30 * time.Second,
	MaxResponseHeaderBytes: 1 << 20,
	DisableKeepAlives:      true,
	DisableCompression:     true, // what is stored is what the server has
}}

// exchange is a request and its response. Reading is from the body; it fails if nothing
// comes for too long.
type exchange struct {
	*http.Response
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
}

// ask sends a request. Close ends it.
func (c *client) ask(ctx context.Context, header http.Header) (*exchange, error) {
	x := &exchange{}
	x.ctx, x.cancel = context.WithCancelCause(ctx)
	x.timer = time.AfterFunc(stall, func() { x.cancel(errStalled) })
	req, err := http.NewRequestWithContext(x.ctx, c.method, c.url.String(), strings.NewReader(c.body))
	if err != nil {
		x.close()
		return nil, err
	}
	if c.body == "" {
		req.Body, req.GetBody, req.ContentLength = nil, nil, 0
	}
	req.Header = header
	req.Header.Set("User-Agent", "mgmt")
	req.Header.Set("Accept-Encoding", "identity")
	if x.Response, err = web.Do(req); err != nil { //nolint:bodyclose // that is what close does
		defer x.close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		err = x.failed(err)
		if full, ok := errors.AsType[*url.Error](err); ok { // it would show the query
			err = full.Err
		}
		return nil, fmt.Errorf("%s %s: %w", c.method, bare(c.url), err)
	}
	return x, nil
}

// Read implements io.Reader.
func (x *exchange) Read(b []byte) (int, error) {
	x.timer.Reset(stall)
	return x.Body.Read(b)
}

func (x *exchange) close() {
	x.timer.Stop()
	x.cancel(nil)
	if x.Response != nil {
		_ = x.Body.Close()
	}
}

// failed is err, or what has ended the exchange from outside.
func (x *exchange) failed(err error) error {
	if cause := context.Cause(x.ctx); cause != nil {
		return cause
	}
	return err
}

// refused is the error of an answer that is of no use.
func (c *client) refused(r *http.Response) error {
	where := ""
	if got := r.Request.URL; got.String() != c.url.String() {
		where = ", redirected to " + bare(got)
	}
	return fmt.Errorf("%s %s: the server answers %s%s", c.method, bare(c.url), r.Status, where)
}
