package sshauthorizedkey

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
)

var _ sinks.Grouper = (*authorizedKey)(nil)

// Group implements sinks.Grouper: keys of one file are applied together, since each change
// is a new file. Where a user's file is may not be known yet, but that it is the same.
func (k *authorizedKey) Group() string { return fmt.Sprintf("%q of %q", k.file, k.user) }

// group is one CheckApply of several keys of one file.
type group struct {
	ctx     context.Context
	apply   bool
	h       holder
	members []*member
}

// member is a key of a group.
type member struct {
	*authorizedKey
	result  *sinks.GroupResult
	changes []sinks.Change // of its line
}

// fail ends the part of m with an error. What it has done to the directory is done.
func (m *member) fail(err error, applied bool) {
	m.result.Outcome = sinks.Outcome{Changed: m.result.Changed && applied, Rewatch: m.result.Rewatch}
	m.result.Err = err
}

// CheckApplyGroup implements sinks.Grouper. It reads the file once and, if some line is
// not right, writes it once: as if each had been applied by itself, in their order.
func (k *authorizedKey) CheckApplyGroup(ctx context.Context, apply bool, members []sinks.Resource) []sinks.GroupResult {
	results := make([]sinks.GroupResult, len(members))
	g := &group{ctx: ctx, apply: apply}
	for i, m := range members {
		g.members = append(g.members, &member{authorizedKey: m.(*authorizedKey), result: &results[i]})
	}
	err := context.Cause(ctx)
	if err == nil {
		g.h, err = k.holder()
	}
	for _, m := range g.members {
		switch {
		case err == nil:
			m.result.Rewatch = m.rewatch(g.h.path)
		case !m.absent || !errors.Is(err, errNoUser): // nobody has no key
			m.result.Err = err
		}
	}
	if err == nil {
		g.run()
	}
	return results
}

// run has the directory, and then the file, be as the members say.
func (g *group) run() {
	dir := -1
	mended := false // the directory is there and as it shall be
	var inDir []*member
	for _, m := range g.members {
		if dir < 0 || !mended && !m.absent {
			fd, err := m.directory(g.h, &m.result.Outcome, g.apply)
			if err != nil {
				m.result.Outcome = sinks.Outcome{Rewatch: m.result.Rewatch}
				m.result.Err = err
				continue
			}
			if fd < 0 { // and it shall not, or not now, be made
				if !m.absent {
					m.describe(newListing(nil, []*authorizedKey{m.authorizedKey}).edit(m.authorizedKey, false))
				}
				continue
			}
			if dir >= 0 {
				atomicfile.Close(dir)
			}
			dir = fd
			mended = g.apply && !m.absent
		}
		inDir = append(inDir, m)
	}
	if dir < 0 {
		return
	}
	defer atomicfile.Close(dir)
	g.inFile(atomicfile.Place{Dir: dir, Name: filepath.Base(g.h.path), Path: g.h.path}, inDir)
}

// describe adds what differs.
func (m *member) describe(changes []sinks.Change) {
	if len(changes) > 0 {
		m.result.Changed = true
		m.result.Changes = append(m.result.Changes, changes...)
	}
}

// inFile has the keys in the file, or not, as they shall be, and the file owned by the
// user.
func (g *group) inFile(p atomicfile.Place, members []*member) {
	found, text, err := p.ReadText()
	meta := g.h.meta(0o600)
	if err == nil && found != nil && found.Nlink > 1 && meta.UID >= 0 && int(found.Uid) != meta.UID {
		err = fmt.Errorf("%s is also known by another name and belongs to user %d, not to %s: it is left alone", p.Path, found.Uid, members[0].user)
	}
	if err != nil {
		for _, m := range members {
			m.fail(err, g.apply)
		}
		return
	}
	if g.edit(p, found, text, meta, members) {
		return
	}
	mended := false
	for _, m := range members {
		if found == nil || mended || m.absent || m.result.Err != nil || !meta.Differs(found) {
			continue
		}
		if g.apply { // unless the edit has done so
			if err := m.mend(p, meta, &sinks.Outcome{}, true); err != nil {
				m.fail(err, true)
				continue
			}
			mended = true
		}
		describe(found, meta, &m.result.Outcome)
	}
}

// edit has the text of the file, which found describes if it is there, hold the keys or not.
// It reports whether it has left it to each member to do all for itself.
func (g *group) edit(p atomicfile.Place, found *unix.Stat_t, text []byte, meta atomicfile.Meta, members []*member) bool {
	keys := make([]*authorizedKey, len(members))
	o := atomicfile.Options{Meta: atomicfile.Keep, Perm: 0o600}
	absent, exist := false, false
	for i, m := range members {
		keys[i] = m.authorizedKey
		absent, exist = absent || m.absent, exist || !m.absent
	}
	if exist {
		if o.Meta = meta; found == nil {
			o.GID = g.h.gid
		}
	}
	edited := func(text []byte, apply bool) ([]byte, bool) {
		list, differs := newListing(text, keys), false
		for i, m := range members {
			m.changes = list.edit(keys[i], apply)
			differs = differs || len(m.changes) > 0
		}
		if !apply {
			return nil, differs
		}
		return list.text(), differs
	}
	_, differs := edited(text, false)
	var err error
	if differs && g.apply {
		_, err = atomicfile.Edit(g.ctx, p, o, func(text []byte) ([]byte, bool) { return edited(text, true) })
		if err != nil && absent && exist && g.ctx.Err() == nil {
			for _, m := range members { // only some of them may need what has failed, to give the file away
				g.inFile(p, []*member{m})
			}
			return true
		}
	}
	for _, m := range members {
		if err != nil && len(m.changes) > 0 {
			m.fail(err, true)
			continue
		}
		m.describe(m.changes)
	}
	return false
}
