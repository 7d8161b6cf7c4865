// Package derived keeps a file whose content follows from other files, such as an
// archive: it is written anew, in one instant, when it or what it is made from differs.
package derived

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
)

// File is a file that follows from others. It remembers when it was last right, so that
// looking again at what has not changed is cheap. It is used by one goroutine at a time.
type File struct {
	// Path is absolute and clean.
	Path string

	right []atomicfile.Stamp // of the inputs and the file; nil if that is not known
}

// Want is what the file shall be.
type Want struct {
	// Inputs are the files that Write reads. Files that are equal to what they were
	// are not read again.
	Inputs []atomicfile.Stamp

	// Private has a new file be readable for its owner only, as is right if an input
	// is. A file that is replaced keeps its owner and mode.
	Private bool

	// Summary is the content, for people: "12 members".
	Summary string

	// Write writes the content, the same whenever the inputs are. It is called up to
	// twice. An error of atomicfile.ErrChanged says that an input has changed meanwhile.
	Write func(io.Writer) error
}

// attempts bounds how often a file is made again because its inputs change meanwhile.
const attempts = 3

// CheckApply has the file be as look says, which looks at the inputs and may be called
// again. It is sinks.Resource.CheckApply for a kind whose only effect is the file.
func (f *File) CheckApply(ctx context.Context, apply bool, look func() (Want, error)) (sinks.Outcome, error) {
	var out sinks.Outcome
	var err error
	for range attempts {
		if ctx.Err() != nil {
			return sinks.Outcome{}, context.Cause(ctx)
		}
		out, err = f.checkApply(ctx, apply, look)
		if !errors.Is(err, atomicfile.ErrChanged) {
			break
		}
	}
	return out, err
}

func (f *File) checkApply(ctx context.Context, apply bool, look func() (Want, error)) (sinks.Outcome, error) {
	began := time.Now()
	want, err := look()
	if err != nil {
		return sinks.Outcome{}, err
	}
	p := atomicfile.At(f.Path)
	var st unix.Stat_t
	there, err := p.Stat(&st)
	if err != nil {
		return sinks.Outcome{}, err
	}
	found, from := &st, fmt.Sprintf("(%d bytes)", st.Size)
	switch kind := st.Mode & unix.S_IFMT; {
	case !there:
		found, from = nil, "absent"
	case kind == unix.S_IFLNK:
		found, from = nil, "(a symbolic link)" // replaced, and never followed
	case kind != unix.S_IFREG:
		return sinks.Outcome{}, fmt.Errorf("%s is not a regular file", f.Path)
	}
	if found != nil {
		stamps := append(slices.Clone(want.Inputs), atomicfile.StampOf(found))
		if f.right != nil && slices.Equal(f.right, stamps) {
			return sinks.Outcome{}, nil
		}
		f.right = nil
		same, err := p.Holds(ctx, want.Write)
		if err != nil {
			return sinks.Outcome{}, err
		}
		if same {
			if !slices.ContainsFunc(stamps, func(s atomicfile.Stamp) bool { return !s.Settled(began) }) {
				f.right = stamps
			}
			return sinks.Outcome{}, nil
		}
	}
	out := sinks.Outcome{Changed: true, Changes: []sinks.Change{{Field: "content", From: from, To: want.Summary}}}
	if !apply {
		return out, nil
	}
	o := atomicfile.Options{Meta: atomicfile.Keep, Found: found, Parents: true}
	if want.Private {
		o.Perm = 0o600
	}
	err = atomicfile.Replace(ctx, p, o, func(t *atomicfile.Temp) error { return want.Write(t) })
	if err != nil {
		return sinks.Outcome{}, err
	}
	return out, nil
}
