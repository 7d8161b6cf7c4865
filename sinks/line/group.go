package line

import (
	"bytes"
	"context"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
)

var _ sinks.Grouper = (*line)(nil)

// Group implements sinks.Grouper: lines of one file are applied together, since each
// change is a new file.
func (l *line) Group() string { return l.path }

// CheckApplyGroup implements sinks.Grouper. It reads the file once and, if some line is
// not right, writes it once: as if each had been applied by itself, in their order.
func (l *line) CheckApplyGroup(ctx context.Context, apply bool, members []sinks.Resource) []sinks.GroupResult {
	results := make([]sinks.GroupResult, len(members))
	lines := make([]*line, len(members))
	for i, m := range members {
		lines[i] = m.(*line)
	}
	wanted := make([]bool, len(lines)) // whose line is not right
	var found *unix.Stat_t
	var text []byte
	err := context.Cause(ctx)
	if err == nil {
		found, text, err = atomicfile.At(l.path).ReadText()
	}
	now := newListing(text, lines)
	some := false
	for i, m := range lines {
		switch {
		case err == nil:
			wanted[i] = !now.right(m)
			some = some || wanted[i]
		case !m.absent || !errors.Is(err, unix.ENOTDIR): // below a file there is no line
			results[i].Err = err
		}
	}
	if some && apply {
		o := atomicfile.Options{Meta: atomicfile.Keep, Parents: true}
		_, err = atomicfile.Edit(ctx, atomicfile.At(l.path), o, func(text []byte) ([]byte, bool) {
			now, some := newListing(text, lines), false // others may have edited it
			for i, m := range lines {
				if wanted[i] = !now.right(m); wanted[i] {
					now.edit(m)
					some = true
				}
			}
			edited := now.text()
			return edited, some && (text == nil || !bytes.Equal(edited, text))
		})
	}
	for i, m := range lines {
		switch {
		case !wanted[i]:
		case err != nil:
			results[i].Err = err
		default:
			results[i].Outcome = sinks.Outcome{Changed: true, Changes: []sinks.Change{m.change(found)}}
		}
	}
	return results
}

// listing is a text in lines, of which it finds those that a group is about without
// looking at the others.
type listing struct {
	lines  [][]byte // with their ends; nil for one that is removed
	equal  map[string][]int
	spaced map[string][]int // by what they are without white space at their ends
	first  int              // no line before it is left
	last   int              // nor after it
}

// newListing lists text for the group.
func newListing(text []byte, group []*line) *listing {
	t := &listing{equal: map[string][]int{}, spaced: map[string][]int{}, last: -1}
	for _, l := range group {
		t.of(l)[l.content] = nil
	}
	for each := range bytes.Lines(text) {
		t.append(each)
	}
	return t
}

// of returns where the places of l are looked up.
func (t *listing) of(l *line) map[string][]int {
	if l.trim {
		return t.spaced
	}
	return t.equal
}

// append adds a line with its end at the end.
func (t *listing) append(each []byte) {
	t.lines = append(t.lines, each)
	t.last = len(t.lines) - 1
	t.note(t.last)
}

// note has the line at i be found.
func (t *listing) note(i int) {
	if places, ok := t.equal[string(bare(t.lines[i]))]; ok {
		t.equal[string(bare(t.lines[i]))] = append(places, i)
	}
	trimmed := bytes.TrimSpace(t.lines[i])
	if places, ok := t.spaced[string(trimmed)]; ok {
		t.spaced[string(trimmed)] = append(places, i)
	}
}

// bare is a line without its end. What does not end has none.
func bare(each []byte) []byte {
	if each, ended := bytes.CutSuffix(each, []byte("\n")); ended {
		return bytes.TrimSuffix(each, []byte("\r"))
	}
	return each
}

// right reports whether l is among the lines, or not, as it shall be.
func (t *listing) right(l *line) bool {
	for _, i := range t.of(l)[l.content] {
		if t.lines[i] != nil {
			return !l.absent
		}
	}
	return l.absent
}

// edit adds l at the end, or removes it wherever it is.
func (t *listing) edit(l *line) {
	if l.absent {
		for _, i := range t.of(l)[l.content] {
			t.lines[i] = nil
		}
		return
	}
	for t.first < len(t.lines) && t.lines[t.first] == nil {
		t.first++
	}
	for t.last >= 0 && t.lines[t.last] == nil {
		t.last--
	}
	end := "\n"
	if t.first < len(t.lines) && bytes.HasSuffix(t.lines[t.first], []byte("\r\n")) {
		end = "\r\n"
	}
	if t.last >= 0 && !bytes.HasSuffix(t.lines[t.last], []byte("\n")) {
		t.lines[t.last] = append(bytes.Clone(t.lines[t.last]), end...)
		t.note(t.last) // by another name, perhaps
	}
	t.append([]byte(l.content + end))
}

// text is the whole text.
func (t *listing) text() []byte { return bytes.Join(t.lines, nil) }
