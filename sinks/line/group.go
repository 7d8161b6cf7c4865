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
			edited := now.edited()
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

// listing is a text in which the lines that a group is about have been looked up. What
// else is in it takes no memory beside the text.
type listing struct {
	text    []byte
	lines   []span
	equal   map[string][]int // places in lines, by content
	trimmed map[string][]int // the same, without white space at the ends
	first   int              // in lines: those before it are gone, and nothing was between them
	begin   int              // in text: where what is left begins
}

// span is a line with its end.
type span struct {
	start, end int
	gone       bool
}

// newListing looks up the lines of the group in text.
func newListing(text []byte, group []*line) *listing {
	t := &listing{text: text, equal: map[string][]int{}, trimmed: map[string][]int{}}
	for _, l := range group {
		t.of(l)[l.content] = nil
	}
	start := 0
	for each := range bytes.Lines(text) {
		t.note(start, start+len(each))
		start += len(each)
	}
	return t
}

// of returns where l is looked up.
func (t *listing) of(l *line) map[string][]int {
	if l.trim {
		return t.trimmed
	}
	return t.equal
}

// note lists a line, if the group is about it.
func (t *listing) note(start, end int) {
	each, place := t.text[start:end], len(t.lines)
	if places, ok := t.equal[string(bare(each))]; ok {
		t.equal[string(bare(each))] = append(places, place)
		t.lines = append(t.lines[:place], span{start: start, end: end})
	}
	if len(t.trimmed) == 0 {
		return
	}
	trim := bytes.TrimSpace(each)
	if places, ok := t.trimmed[string(trim)]; ok {
		t.trimmed[string(trim)] = append(places, place)
		t.lines = append(t.lines[:place], span{start: start, end: end})
	}
}

// bare is a line without its end. What does not end has none.
func bare(each []byte) []byte {
	if each, ended := bytes.CutSuffix(each, []byte("\n")); ended {
		return bytes.TrimSuffix(each, []byte("\r"))
	}
	return each
}

// right reports whether l is in the text, or not, as it shall be.
func (t *listing) right(l *line) bool {
	for _, i := range t.of(l)[l.content] {
		if !t.lines[i].gone {
			return !l.absent
		}
	}
	return l.absent
}

// edit adds l at the end, or removes it wherever it is.
func (t *listing) edit(l *line) {
	if l.absent {
		for _, i := range t.of(l)[l.content] {
			t.lines[i].gone = true
		}
		return
	}
	end := t.lineEnd()
	size := len(t.text)
	if size > 0 && t.text[size-1] != '\n' {
		t.finish(end)
		size = len(t.text)
	}
	t.text = append(append(t.text, l.content...), end...)
	t.note(size, len(t.text))
}

// lineEnd is how lines end: as the first one does.
func (t *listing) lineEnd() string {
	for ; t.first < len(t.lines) && t.lines[t.first].gone && t.lines[t.first].start == t.begin; t.first++ {
		t.begin = t.lines[t.first].end
	}
	first, _, ended := bytes.Cut(t.text[t.begin:], []byte("\n"))
	if ended && bytes.HasSuffix(first, []byte("\r")) {
		return "\r\n"
	}
	return "\n"
}

// finish ends the last line, unless it is gone. Then it may be another one that the
// group is about.
func (t *listing) finish(end string) {
	size := len(t.text)
	if n := len(t.lines); n > 0 && t.lines[n-1].end == size {
		if t.lines[n-1].gone {
			return
		}
		t.lines = t.lines[:n-1] // to be listed again, at the same place
	}
	t.text = append(t.text, end...)
	t.note(bytes.LastIndexByte(t.text[:size], '\n')+1, len(t.text))
}

// edited is the text without the lines that are gone.
func (t *listing) edited() []byte {
	kept, start := make([]byte, 0, len(t.text)), 0
	for _, s := range t.lines {
		if s.gone {
			kept = append(kept, t.text[start:s.start]...)
			start = s.end
		}
	}
	return append(kept, t.text[start:]...)
}
