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

// edited returns text with the key as it shall be, or without it, and what differs.
func (k *authorizedKey) edited(text []byte) ([]byte, []sinks.Change) {
	var changes []sinks.Change
	edited := make([]byte, 0, len(text)+256)
	found := 0
	for line := range bytes.Lines(text) {
		e, ok := parse(string(line))
		if !ok || e.blob != k.want.blob {
			edited = append(edited, line...)
			continue
		}
		if found++; found > 1 || k.absent {
			continue
		}
		want := k.want
		if k.anyComment {
			want.comment = e.comment
		}
		if e == want {
			edited = append(edited, line...)
			continue
		}
		changes = append(changes, e.differences(want)...)
		edited = append(append(edited, want.String()...), '\n')
	}
	switch {
	case k.absent && found > 0:
		changes = append(changes, sinks.Change{Field: "key", From: k.want.fingerprint(), To: absent})
	case !k.absent && found == 0:
		changes = append(changes, sinks.Change{Field: "key", From: absent, To: k.want.fingerprint()})
		if len(edited) > 0 && edited[len(edited)-1] != '\n' {
			edited = append(edited, '\n')
		}
		edited = append(append(edited, k.want.String()...), '\n')
	case !k.absent && found > 1:
		changes = append(changes, sinks.Change{Field: "key", From: fmt.Sprintf("in %d lines", found), To: "in one"})
	}
	return edited, changes
}

// differences are those between two lines with the same key. Options may hold what is
// not for everybody, such as a command, so only their lengths are shown.
func (e entry) differences(want entry) []sinks.Change {
	var changes []sinks.Change
	if e.options != want.options {
		size := func(s string) string { return fmt.Sprintf("(%d bytes)", len(s)) }
		changes = append(changes, sinks.Change{Field: "options", From: size(e.options), To: size(want.options)})
	}
	if e.comment != want.comment {
		changes = append(changes, sinks.Change{Field: "comment", From: e.comment, To: want.comment})
	}
	return changes
}
