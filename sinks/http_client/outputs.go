package httpclient

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
)

const (
	bodyOutput     = "body"
	checksumOutput = "checksum"
)

// maxSent is how many bytes of a body are sent. More is refused, since it is kept in memory
// for as long as somebody receives it.
var maxSent int64 = 16 << 20

var _ sinks.Sender = (*Config)(nil)

// Outputs implements sinks.Sender.
func (*Config) Outputs() []sinks.Output {
	return []sinks.Output{
		{Name: bodyOutput, Type: sinks.TypeString, Doc: "What was downloaded, up to 16 MiB."},
		{Name: checksumOutput, Type: sinks.TypeString, Doc: "The SHA-256 checksum of what was downloaded, in hexadecimal digits."},
	}
}

// sending is what others receive of the file.
type sending struct {
	outputs []string
	stamp   atomicfile.Stamp // of the file when the values were taken, if it was settled
	values  map[string]any
}

// newSending returns nil if nobody receives anything.
func newSending(outputs []string) *sending {
	if len(outputs) == 0 {
		return nil
	}
	return &sending{outputs: outputs}
}

// take returns the values of the file at path, which is right.
func (s *sending) take(ctx context.Context, path string) (map[string]any, error) {
	p := atomicfile.At(path)
	var st unix.Stat_t
	switch there, err := p.Stat(&st); {
	case err != nil:
		return nil, err
	case !there:
		return nil, nil // somebody has removed it since, which is an event
	case s.values != nil && atomicfile.StampOf(&st) == s.stamp:
		return maps.Clone(s.values), nil
	}
	began := time.Now()
	fd, err := p.Open(0, false, st.Uid)
	if err != nil {
		return nil, err
	}
	defer atomicfile.Close(fd)
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, p.Error("fstat", err)
	}
	var body strings.Builder
	sum := sha256.New()
	to := io.Writer(sum)
	if slices.Contains(s.outputs, bodyOutput) {
		if st.Size > maxSent {
			return nil, fmt.Errorf("%s is larger than %d MiB, which is the most that is sent: send its checksum", path, maxSent>>20)
		}
		body.Grow(int(st.Size))
		to = io.MultiWriter(sum, &body)
	}
	if err := readAll(ctx, to, p, fd); err != nil {
		return nil, err
	}
	all := map[string]any{bodyOutput: body.String(), checksumOutput: hex.EncodeToString(sum.Sum(nil))}
	maps.DeleteFunc(all, func(output string, _ any) bool { return !slices.Contains(s.outputs, output) })
	s.values, s.stamp = all, atomicfile.Stamp{}
	if stamp := atomicfile.StampOf(&st); stamp.Settled(began) {
		s.stamp = stamp
	}
	return maps.Clone(all), nil
}

// readAll writes the rest of the open file fd, which p names.
func readAll(ctx context.Context, to io.Writer, p atomicfile.Place, fd int) error {
	buf := make([]byte, 256<<10)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := atomicfile.Read(fd, buf)
		if err != nil {
			return p.Error("read", err)
		}
		if _, err := to.Write(buf[:n]); err != nil || n < len(buf) {
			return err
		}
	}
}
