package sinks

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxText is how many bytes of a text a Change keeps; Text cuts there.
const MaxText = 64 << 10

// Change is one difference between the state that was found and the desired one.
type Change struct {
	// Field is the parameter that it concerns, as in the graph file: "mode".
	Field string `json:"field"`

	// From is what was found, To what is desired. Both are short, or made by Text.
	From string `json:"from"`
	To   string `json:"to"`

	// Secret hides From and To from everything that prints.
	Secret bool `json:"secret,omitempty"`
}

// Text is b as a Change shows it: itself if it is text, cut after MaxText bytes, and a
// description of its size if it is binary.
func Text(b []byte) string {
	cut := b
	if len(cut) > MaxText {
		cut = cut[:MaxText]
		for len(cut) > 0 && !utf8.RuneStart(b[len(cut)]) {
			cut = cut[:len(cut)-1]
		}
	}
	if !utf8.Valid(cut) || strings.IndexByte(string(cut), 0) >= 0 {
		return fmt.Sprintf("(binary, %d bytes)", len(b))
	}
	if len(cut) < len(b) {
		return fmt.Sprintf("%s\n(%d bytes more)\n", cut, len(b)-len(cut))
	}
	return string(cut)
}

// Shown returns c as it may be printed: with From and To hidden if c is secret.
func (c Change) Shown() Change {
	if c.Secret {
		c.From, c.To = "(secret)", "(secret)"
	}
	return c
}

// String is the change on one line, for a log: "mode: 0644 -> 0600". Longer texts are
// given by their size.
func (c Change) String() string {
	c = c.Shown()
	return fmt.Sprintf("%s: %s -> %s", c.Field, brief(c.From), brief(c.To))
}

func brief(s string) string {
	const most = 60
	switch {
	case s == "":
		return `""`
	case len(s) > most || strings.ContainsAny(strings.TrimSuffix(s, "\n"), "\n\r\t"):
		n := strings.Count(s, "\n")
		if !strings.HasSuffix(s, "\n") {
			n++
		}
		if n == 1 {
			return fmt.Sprintf("(%d bytes)", len(s))
		}
		return fmt.Sprintf("(%d lines, %d bytes)", n, len(s))
	case strings.HasSuffix(s, "\n"):
		return fmt.Sprintf("%q", s)
	}
	return s
}
