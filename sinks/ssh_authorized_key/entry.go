package sshauthorizedkey

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/mgmtproject/mgmt/sinks"
)

// entry is a line of the file that holds a key, as sshd(8) describes it: options, type,
// key in base64, comment.
type entry struct {
	options, kind, blob, comment string // blob is the key, decoded
}

// String is the line, without its end.
func (e entry) String() string {
	text := e.kind + " " + base64.StdEncoding.EncodeToString([]byte(e.blob))
	if e.options != "" {
		text = e.options + " " + text
	}
	if e.comment != "" {
		text += " " + e.comment
	}
	return text
}

// fingerprint is the name of the key for people, as ssh-keygen -l shows it.
func (e entry) fingerprint() string {
	sum := sha256.Sum256([]byte(e.blob))
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

const blanks = " \t"

// cut splits text at the first blanks.
func cut(text string) (first, rest string) {
	i := strings.IndexAny(text, blanks)
	if i < 0 {
		return text, ""
	}
	return text[:i], strings.TrimLeft(text[i:], blanks)
}

// cutOptions splits text at the first blanks that are not quoted. What is quoted may
// hold a quotation mark after a backslash. Options with an open quotation are none.
func cutOptions(text string) (options, rest string) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\n' || c == '\r' || c == 0:
			return "", text
		case c == '\\' && strings.HasPrefix(text[i+1:], `"`):
			i++
		case c == '"':
			quoted = !quoted
		case !quoted && strings.IndexByte(blanks, c) >= 0:
			return text[:i], strings.TrimLeft(text[i:], blanks)
		}
	}
	if quoted {
		return "", text
	}
	return text, ""
}

// parse reads a line. It reports false for a comment, and for all that sshd would ignore.
func parse(line string) (entry, bool) {
	line = strings.Trim(line, " \t\r\n")
	if strings.HasPrefix(line, "#") {
		return entry{}, false
	}
	options := ""
	for range 2 { // without options, and with them
		kind, rest := cut(line)
		key, comment := cut(rest)
		if named, blob, err := parseKey(key); err == nil && named == kind {
			return entry{options, kind, blob, comment}, true
		}
		options, line = cutOptions(line)
	}
	return entry{}, false
}

// parseContent reads a line that a graph file gives, and says what is wrong with it.
func parseContent(line string) (entry, error) {
	if strings.ContainsAny(line, "\n\r\x00") {
		return entry{}, errors.New("it is more than one line")
	}
	if e, ok := parse(line); ok {
		return e, nil
	}
	return entry{}, errors.New("it is no line with a key: expected options, if any, the type, the key in base64 and perhaps a comment, as in a .pub file")
}

// parseKey decodes a key. It begins with its type: a length of four bytes, and a text
// (RFC 4253, 6.6).
func parseKey(text string) (kind, blob string, err error) {
	b, err := base64.StdEncoding.DecodeString(text)
	switch {
	case strings.ContainsAny(text, "\r\n"):
		return "", "", errors.New("it is more than one line")
	case strings.ContainsAny(text, blanks):
		return "", "", errors.New("it has a blank: give the long part of a .pub file alone, or its line as content")
	case err != nil:
		return "", "", fmt.Errorf("it is not in base64: %w", err)
	case len(b) < 4 || uint64(len(b)) <= 4+uint64(binary.BigEndian.Uint32(b)):
		return "", "", errors.New("it is no key, or only a part of one")
	}
	kind = string(b[4 : 4+binary.BigEndian.Uint32(b)])
	for _, c := range []byte(kind) {
		if c <= ' ' || c >= 0x7f {
			return "", "", errors.New("it is no key: it does not begin with its type")
		}
	}
	if kind == "" {
		return "", "", errors.New("it is no key: it does not begin with its type")
	}
	return kind, string(b), nil
}

// listing is a file in lines, of which it finds those with the keys of a group.
type listing struct {
	lines  []*fileLine
	byBlob map[string][]*fileLine // for the keys of the group only
}

// fileLine is a line of the file.
type fileLine struct {
	raw   []byte // with its end; nil if it is removed
	entry entry  // if it is one with a key of the group
}

// newListing looks for the keys of the group in text.
func newListing(text []byte, group []*authorizedKey) *listing {
	t := &listing{byBlob: make(map[string][]*fileLine, len(group))}
	for _, k := range group {
		t.byBlob[k.want.blob] = nil
	}
	for raw := range bytes.Lines(text) {
		l := &fileLine{raw: raw}
		t.lines = append(t.lines, l)
		if e, ok := parse(string(raw)); ok {
			if same, ours := t.byBlob[e.blob]; ours {
				l.entry = e
				t.byBlob[e.blob] = append(same, l)
			}
		}
	}
	return t
}

// edit has the key be as it shall be, or be gone, and returns what differs. Unless apply is
// set it leaves the lines as they are.
func (t *listing) edit(k *authorizedKey, apply bool) []sinks.Change {
	var changes []sinks.Change
	found := 0
	for _, l := range t.byBlob[k.want.blob] {
		if l.raw == nil {
			continue
		}
		if found++; found > 1 || k.absent {
			if apply {
				l.raw = nil
			}
			continue
		}
		want := k.want
		if k.anyComment {
			want.comment = l.entry.comment
		}
		if l.entry == want {
			continue
		}
		changes = append(changes, l.entry.differences(want)...)
		if apply {
			l.raw, l.entry = []byte(want.String()+"\n"), want
		}
	}
	switch {
	case k.absent && found > 0:
		changes = append(changes, sinks.Change{Field: "key", From: k.want.fingerprint(), To: absent})
	case !k.absent && found == 0:
		changes = append(changes, sinks.Change{Field: "key", From: absent, To: k.want.fingerprint()})
		if apply {
			t.add(k.want)
		}
	case !k.absent && found > 1:
		changes = append(changes, sinks.Change{Field: "key", From: fmt.Sprintf("in %d lines", found), To: "in one"})
	}
	return changes
}

// add puts a line at the end.
func (t *listing) add(e entry) {
	for len(t.lines) > 0 && t.lines[len(t.lines)-1].raw == nil {
		t.lines = t.lines[:len(t.lines)-1]
	}
	if len(t.lines) > 0 {
		if last := t.lines[len(t.lines)-1]; !bytes.HasSuffix(last.raw, []byte("\n")) {
			last.raw = append(bytes.Clone(last.raw), '\n')
		}
	}
	l := &fileLine{raw: []byte(e.String() + "\n"), entry: e}
	t.lines = append(t.lines, l)
	t.byBlob[e.blob] = append(t.byBlob[e.blob], l)
}

// text is the whole file.
func (t *listing) text() []byte {
	var text []byte
	for _, l := range t.lines {
		text = append(text, l.raw...)
	}
	return text
}

// size stands for options in a change.
func size(options string) string { return fmt.Sprintf("(%d bytes)", len(options)) }

// differences are those between two lines with the same key. Options may hold what is
// not for everybody, such as a command, so only their lengths are shown.
func (e entry) differences(want entry) []sinks.Change {
	var changes []sinks.Change
	if e.options != want.options {
		changes = append(changes, sinks.Change{Field: "options", From: size(e.options), To: size(want.options)})
	}
	if e.comment != want.comment {
		changes = append(changes, sinks.Change{Field: "comment", From: e.comment, To: want.comment})
	}
	return changes
}
