package derived

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

// Absent is the resource of a kind whose only effect is a file, when the file shall not be
// there. It removes a regular file: anything else somebody else has put there.
type Absent struct {
	// Path is absolute and clean.
	Path string
}

var (
	_ sinks.Owner    = (*Absent)(nil)
	_ sinks.Provider = (*Absent)(nil)
)

// Owns implements sinks.Owner.
func (a *Absent) Owns() []string { return []string{"path " + a.Path} }

// Provides implements sinks.Provider.
func (a *Absent) Provides() []sinks.Fact {
	return []sinks.Fact{{Space: sinks.SpaceGone, Name: a.Path}}
}

// Watches implements sinks.Resource.
func (a *Absent) Watches() []sources.Watch { return []sources.Watch{inotify.Path(a.Path)} }

// CheckApply implements sinks.Resource.
func (a *Absent) CheckApply(ctx context.Context, apply bool) (sinks.Outcome, error) {
	if ctx.Err() != nil {
		return sinks.Outcome{}, context.Cause(ctx)
	}
	p := atomicfile.At(a.Path)
	var st unix.Stat_t
	there, err := p.Stat(&st)
	switch {
	case errors.Is(err, unix.ENOTDIR) || err == nil && !there:
		return sinks.Outcome{}, nil
	case err != nil:
		return sinks.Outcome{}, err
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return sinks.Outcome{}, fmt.Errorf("%s is not a regular file, so it is not removed", a.Path)
	}
	out := sinks.Outcome{Changed: true, Changes: []sinks.Change{{Field: "state", From: "exists", To: "absent"}}}
	if !apply {
		return out, nil
	}
	if err := p.Unlink(); err != nil {
		return sinks.Outcome{}, err
	}
	return out, nil
}

// Undo says what undoes that a resource of such a kind has made its file, which it has found
// as from says in a change: gone is the Config that has it absent.
func Undo(from string, changed bool, gone sinks.Config) (sinks.Config, error) {
	switch {
	case !changed:
		return nil, nil
	case from == "absent":
		return gone, nil
	}
	return nil, errors.New("there was another file before, and its content is not kept")
}
