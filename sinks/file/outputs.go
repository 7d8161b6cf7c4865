package file

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
)

const (
	contentOutput  = "content"
	checksumOutput = "checksum"
)

// maxSent is how many bytes of content are sent. More is refused, since it is kept in
// memory for as long as somebody receives it.
const maxSent = 16 << 20

var _ sinks.Sender = (*Config)(nil)

// Outputs implements sinks.Sender. The content of a file that not everybody may read is
// secret.
func (c *Config) Outputs() []sinks.Output {
	m, err := parseMode(c.Mode)
	secret := err == nil && m.text != "" && m.of(0o666, false)&0o004 == 0
	return []sinks.Output{
		{Name: contentOutput, Type: sinks.TypeString, Secret: secret,
			Doc: "What the file holds, up to 16 MiB. It is secret if the mode says that not everybody may read it."},
		{Name: checksumOutput, Type: sinks.TypeString, Doc: "The SHA-256 checksum of what the file holds, in hexadecimal digits."},
	}
}

// sending is what others receive of a file.
type sending struct {
	outputs []string
	stamp   atomicfile.Stamp // of the file when values were taken, if it was settled
	values  map[string]any
}

// newSending returns nil if nobody receives anything. It is an error if there will be
// nothing to send.
func (f *file) newSending(outputs []string) (*sending, error) {
	switch {
	case len(outputs) == 0:
		return nil, nil
	case f.want == wantNothing:
		return nil, fmt.Errorf("%s is absent, and has no %s to send", f.path, strings.Join(outputs, " and "))
	case f.slash || f.want == wantSymlink:
		return nil, fmt.Errorf("%s is no regular file, and has no %s to send", f.path, strings.Join(outputs, " and "))
	}
	return &sending{outputs: outputs}, nil
}

// fill adds to an outcome what is sent of the file at path. That is nothing if there is
// no file, or another one when out is applied.
func (s *sending) fill(ctx context.Context, path string, apply bool, out *sinks.Outcome) error {
	if out.Changed && !apply {
		return nil
	}
	p := atomicfile.At(path)
	var st unix.Stat_t
	if there, err := p.Stat(&st); err != nil || !there {
		return err
	}
	if s.values == nil || atomicfile.StampOf(&st) != s.stamp {
		if err := s.take(ctx, p, st.Uid); err != nil {
			return err
		}
	}
	out.Values = maps.Clone(s.values)
	return nil
}

// take reads the file.
func (s *sending) take(ctx context.Context, p atomicfile.Place, owner uint32) error {
	fd, err := p.Open(0, false, owner)
	if err != nil {
		return err
	}
	defer atomicfile.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return p.Error("fstat", err)
	}
	stamp, began := atomicfile.StampOf(&st), time.Now()
	wantsContent := slices.Contains(s.outputs, contentOutput)
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return fmt.Errorf("%s is a %s, and has no %s to send", p.Path, kindOf(st.Mode), strings.Join(s.outputs, " and "))
	case wantsContent && st.Size > maxSent:
		return tooLarge(p)
	}
	var content strings.Builder
	sum := sha256.New()
	to, limit := io.Writer(sum), int64(math.MaxInt64)
	if wantsContent {
		content.Grow(int(st.Size))
		to, limit = io.MultiWriter(sum, &content), maxSent
	}
	if err := copyTo(ctx, to, fd, p, limit); err != nil {
		return err
	}
	if content.Len() > maxSent {
		return tooLarge(p)
	}
	s.values = map[string]any{}
	for _, output := range s.outputs {
		switch output {
		case contentOutput:
			s.values[output] = content.String()
		case checksumOutput:
			s.values[output] = hex.EncodeToString(sum.Sum(nil))
		}
	}
	s.stamp = atomicfile.Stamp{}
	if stamp.Settled(began) {
		s.stamp = stamp
	}
	return nil
}

func tooLarge(p atomicfile.Place) error {
	return fmt.Errorf("%s is larger than %d MiB, which is the most that is sent: send its checksum", p.Path, maxSent>>20)
}

// copyTo writes the rest of the open file fd, which p names, up to a limit and little more.
func copyTo(ctx context.Context, to io.Writer, fd int, p atomicfile.Place, limit int64) error {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := atomicfile.Read(fd, buf[:])
		if err != nil {
			return p.Error("read", err)
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return err
		}
		if limit -= int64(n); n < len(buf) || limit < 0 {
			return nil
		}
	}
}
