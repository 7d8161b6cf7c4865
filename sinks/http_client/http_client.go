// Package httpclient keeps a file that is downloaded from a web server.
package httpclient

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
	"github.com/mgmtproject/mgmt/sinks/file/derived"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// Spec is the kind "http_client".
var Spec = sinks.Spec{Kind: "http_client", New: func() sinks.Config { return &Config{State: "exists", Method: http.MethodGet} }}

// Config is the desired state of a file that comes from a web server.
//
// With sha256 the file is right if it has this checksum, and then the server is not
// asked. Without it, the file is right if it has what the server has: the server is asked
// whenever the resource is looked at, and sends the content only if it has changed, or
// does not tell so. Nobody says when it changes there: the meta-parameter poll asks
// at an interval.
//
// The file is replaced in one instant, when all has come; it keeps its owner and mode.
// A download that is cut off goes on where it was, now or the next time, if the server
// can do that; until then what has come lies in a hidden file beside it. A server
// that sends nothing for a minute is given up. Proxies are those of the environment:
// HTTP_PROXY, HTTPS_PROXY, NO_PROXY. Missing directories that lead to the file are made.
//
// It sends body, what the file holds, up to 16 MiB, and checksum.
type Config struct {
	// File is the absolute path of the file; the default is the resource's name.
	File string `param:"file"`

	// State is "exists" or "absent". With "absent" only the path counts, and what is there is
	// removed if it is a file.
	State string `param:"state" oneof:"exists absent"`

	// Method is how the server is asked. With another than GET it is asked only when the
	// file is missing or does not have the checksum.
	Method string `param:"method" oneof:"GET POST PUT PATCH"`

	// URL is the address, with http or https. Up to ten redirects are followed.
	URL string `param:"url"`

	// Body is sent to the server; GET has none.
	Body string `param:"body"`

	// SHA256 is the checksum that the file shall have, in hexadecimal digits. A download
	// with another one is thrown away.
	SHA256 string `param:"sha256"`
}

// client is a resource of this kind.
type client struct {
	path   string
	method string
	url    *url.URL
	body   string
	sum    string // in lower case; empty if any is right

	known   record           // of the file, as it was last known to be right
	partial record           // of what lies beside it
	hashed  atomicfile.Stamp // the file when it last had the checksum, settled

	sending *sending // nil if nobody receives anything
}

// Build implements sinks.Config.
func (c *Config) Build(name string, opts sinks.Options) (sinks.Resource, error) {
	param, path := "file", c.File
	if path == "" {
		param, path = "name", name
	}
	clean, err := atomicfile.Clean(path)
	switch {
	case err != nil && param == "name":
		return nil, fmt.Errorf("%w: give file, or an absolute path as name", err)
	case err != nil:
		return nil, &sinks.ParamError{Param: "file", Err: err}
	case strings.HasSuffix(path, "/"):
		return nil, &sinks.ParamError{Param: "file", Err: fmt.Errorf("%s is a directory, as the slash at its end says", path)}
	case c.State == absent:
		return &derived.Absent{Path: clean}, nil
	}
	k := &client{path: clean, sending: newSending(opts.Sends), method: c.Method, body: c.Body, sum: strings.ToLower(c.SHA256)}
	switch k.method {
	case "":
		k.method = http.MethodGet
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch:
	default:
		return nil, &sinks.ParamError{Param: "method", Err: fmt.Errorf("%q is neither GET, POST, PUT nor PATCH", c.Method)}
	}
	if c.URL == "" {
		return nil, &sinks.ParamError{Param: "url", Err: errors.New("it is missing: give the address to download from")}
	}
	if k.url, err = url.Parse(c.URL); err != nil {
		return nil, &sinks.ParamError{Param: "url", Err: errors.New("it is no address such as https://example.org/file")} // the cause may show a password
	}
	if b, err := hex.DecodeString(k.sum); err != nil || len(b) != 0 && len(b) != 32 {
		return nil, &sinks.ParamError{Param: "sha256", Err: fmt.Errorf("%q does not consist of 64 hexadecimal digits", c.SHA256)}
	}
	switch {
	case k.url.Scheme != "http" && k.url.Scheme != "https" || k.url.Host == "":
		return nil, &sinks.ParamError{Param: "url", Err: fmt.Errorf("%q is no address such as https://example.org/file", bare(k.url))}
	case k.method == http.MethodGet && k.body != "":
		return nil, &sinks.ParamError{Param: "body", Err: errors.New("it has no effect with GET: give another method")}
	}
	return k, nil
}

// Owns implements sinks.Owner.
func (c *client) Owns() []string { return []string{"path " + c.path} }

// Keeps implements sinks.Keeper.
func (c *client) Keeps() []string { return []string{"path " + partPath(c.path)} }

// Waits implements sinks.Waiter.
func (c *client) Waits() bool { return true }

// Watches implements sinks.Resource.
func (c *client) Watches() []sources.Watch { return []sources.Watch{inotify.Path(c.path)} }

var (
	_ sinks.Owner  = (*client)(nil)
	_ sinks.Keeper = (*client)(nil)
	_ sinks.Waiter = (*client)(nil)
)

// CheckApply implements sinks.Resource.
func (c *client) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	out, err := c.checkApply(ctx, apply)
	if err == nil && c.sending != nil && (apply || !out.Changed) {
		out.Values, err = c.sending.take(ctx, c.path)
	}
	return out, err
}

func (c *client) checkApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if ctx.Err() != nil {
		return sinks.Outcome{}, context.Cause(ctx)
	}
	found, from, err := c.look()
	if err != nil {
		return sinks.Outcome{}, err
	}
	right, err := c.right(ctx, found, apply)
	if err != nil || right {
		return sinks.Outcome{}, err
	}
	out := sinks.Outcome{Changed: true, Changes: []sinks.Change{{Field: "content", From: from, To: bare(c.url)}}}
	if !apply {
		return out, nil
	}
	if err := c.download(ctx, found); err != nil {
		return sinks.Outcome{}, err
	}
	return out, nil
}

// bare is an address without what may be secret: a password or the query.
func bare(u *url.URL) string {
	b := *u
	b.User, b.RawQuery, b.Fragment = nil, "", ""
	return b.String()
}

// look describes the file; nil if there is none, or a link that will be replaced.
func (c *client) look() (found *unix.Stat_t, from string, err error) {
	var st unix.Stat_t
	there, err := atomicfile.At(c.path).Stat(&st)
	switch kind := st.Mode & unix.S_IFMT; {
	case err != nil:
		return nil, "", err
	case !there:
		return nil, "absent", nil
	case kind == unix.S_IFLNK:
		return nil, "(a symbolic link)", nil
	case kind != unix.S_IFREG:
		return nil, "", fmt.Errorf("%s is not a regular file", c.path)
	}
	return &st, fmt.Sprintf("(%d bytes)", st.Size), nil
}

// right reports whether the file is as it shall be. It takes note of what the server says
// of it, on the file too if apply is set.
func (c *client) right(ctx context.Context, found *unix.Stat_t, apply bool) (bool, error) {
	switch {
	case found == nil:
		return false, nil
	case c.sum != "":
		return c.summed(ctx, found)
	case c.method != http.MethodGet:
		return true, nil
	}
	known := c.recall(found)
	header := http.Header{}
	if known.ETag != "" {
		header.Set("If-None-Match", known.ETag)
	}
	if known.Modified != "" {
		header.Set("If-Modified-Since", known.Modified)
	}
	x, err := c.ask(ctx, header)
	if err != nil {
		return false, err
	}
	defer x.close()
	switch {
	case x.StatusCode == http.StatusNotModified && (known.ETag != "" || known.Modified != ""):
		return true, nil
	case x.StatusCode != http.StatusOK:
		return false, c.refused(x.Response)
	}
	same, err := atomicfile.At(c.path).Holds(x.ctx, func(w io.Writer) error {
		_, err := io.Copy(w, x)
		return err
	})
	if err != nil && ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err != nil {
		return false, fmt.Errorf("comparing %s with %s: %w", c.path, bare(c.url), x.failed(err))
	}
	if same {
		c.remember(found, c.recordOf(x.Response), apply)
	}
	return same, nil
}
