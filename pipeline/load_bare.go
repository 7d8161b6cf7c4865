package pipeline

import (
	"bytes"
	"regexp"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// YAML wants quotes around kind[name] inside of brackets, where people forget them:
// {from: exec[date], output: stdout}. So a file that is not YAML is read again with such
// references in disguise: each character of them that means something to YAML is
// another one, of those that Unicode leaves to private use. Like that no place in the
// file changes, and the values that the parser returns can be undone.

// bareReference is kind[name] in one line, the name without brackets.
var bareReference = regexp.MustCompile(`[A-Za-z0-9_]+\[[^\[\]\r\n]+\]`)

// escapes write characters for private use with others.
var escapes = regexp.MustCompile(`\\(u|U0000)[eE]0`)

// privateUse is where the disguise of the first of the ASCII characters is.
const privateUse = 0xE000

func isDisguise(r rune) bool { return r >= privateUse && r < privateUse+utf8.RuneSelf }

// disguise returns the text of a file with its references in disguise. It reports false
// if there are none, or there is what could be taken for one.
func disguise(data []byte) ([]byte, bool) {
	if bytes.ContainsFunc(data, isDisguise) || escapes.Match(data) {
		return nil, false
	}
	var out []byte
	done := 0
	for _, at := range bareReference.FindAllIndex(data, -1) {
		if !standsAlone(data, at[0], at[1]) {
			continue
		}
		out = append(out, data[done:at[0]]...)
		for _, c := range data[at[0]:at[1]] {
			letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
			if letter || c >= utf8.RuneSelf {
				out = append(out, c)
			} else {
				out = utf8.AppendRune(out, privateUse+rune(c))
			}
		}
		done = at[1]
	}
	if done == 0 {
		return nil, false
	}
	return append(out, data[done:]...), true
}

// standsAlone says that what is around a reference is not a part of the same word.
func standsAlone(data []byte, start, end int) bool {
	if start > 0 && !bytes.ContainsRune([]byte(" \t\n[{,"), rune(data[start-1])) {
		return false
	}
	rest := bytes.TrimLeft(data[end:], " \t")
	return len(rest) == 0 || bytes.IndexByte([]byte(",}]\r\n"), rest[0]) >= 0 || isArrow(string(rest[:min(2, len(rest))])) ||
		rest[0] == '#' && len(rest) < len(data)-end
}

// undisguise gives the values below a node their characters back.
func undisguise(n *yaml.Node) {
	n.Value = strings.Map(func(r rune) rune {
		if isDisguise(r) {
			return r - privateUse
		}
		return r
	}, n.Value)
	for _, child := range n.Content {
		undisguise(child)
	}
}

// parseBare parses a file that is YAML but for references without quotes.
func parseBare(data []byte) (*yaml.Node, bool) {
	disguised, ok := disguise(data)
	if !ok {
		return nil, false
	}
	root, problem := parseLarge(disguised)
	if problem != nil {
		return nil, false
	}
	undisguise(root)
	return root, true
}
