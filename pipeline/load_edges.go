package pipeline

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/mgmtproject/mgmt/sinks/params"
)

// An end of an edge as the file has it.
type end struct {
	kind, name string
	node       *yaml.Node // where it is
	offset     int        // of it in the text of the node, for the short form
}

// edgeEntry is what is simple in an edge of the verbose form.
type edgeEntry struct {
	Name   string `param:"name"`
	Notify bool   `param:"notify"`
}

// endEntry is an end of the verbose form.
type endEntry struct {
	Kind string `param:"kind" alias:"type"`
	Name string `param:"name"`
}

const shortForm = "write kind[name] -> kind[name], or ~> to notify as well"

// edges decodes the list of edges. A lone text is a list of one.
func (l *loader) edges(node *yaml.Node) {
	list := params.Resolve(node)
	switch {
	case list.Kind == yaml.ScalarNode:
		l.edge(node)
	case list.Kind == yaml.SequenceNode:
		l.g.Edges = slices.Grow(l.g.Edges, len(list.Content))
		for _, item := range list.Content {
			l.edge(item)
		}
	case len(list.Content) > 0:
		l.report(node, "begin each edge with \"- \"", "expected a list of edges, found %s", params.Describe(list))
	}
}

func (l *loader) edge(item *yaml.Node) {
	n := params.Resolve(item)
	switch {
	case n.Kind == yaml.ScalarNode && isText(n):
		l.chains(item, n)
		return
	case n.Kind != yaml.MappingNode:
		l.report(item, shortForm, "expected an edge, found %s", params.Describe(n))
		return
	}
	var e edgeEntry
	wrong := params.Decode(n, &e, "from", "to", "send")
	l.take(wrong, "unknown key %q of an edge")
	var from, to, send *yaml.Node
	params.Each(n, func(key, value *yaml.Node, _ bool) {
		switch {
		case !given(value):
		case key.Value == "from":
			from = value
		case key.Value == "to":
			to = value
		case key.Value == "send":
			send = value
		}
	})
	misspelt := func(name string) bool {
		for _, p := range wrong {
			if meant(p, name) {
				return true
			}
		}
		return false
	}
	for _, missing := range []struct {
		word string
		node *yaml.Node
	}{{"from", from}, {"to", to}} {
		if missing.node == nil && !misspelt(missing.word) {
			l.report(item, fmt.Sprintf("add \"%s: {kind: KIND, name: NAME}\"", missing.word), "this edge has no %q", missing.word)
		}
	}
	var ends [2]int32
	ok := from != nil && to != nil
	for i, side := range []*yaml.Node{from, to} {
		if side == nil {
			continue
		}
		if at, found := l.end(side); found {
			ends[i] = at
		} else {
			ok = false
		}
	}
	if ok {
		l.g.Edges = append(l.g.Edges, Edge{From: ends[0], To: ends[1], Notify: e.Notify, Name: e.Name, Pos: posOf(item)})
	}
	if send == nil {
		return
	}
	if links := l.send(send); ok {
		for _, link := range links {
			link.From, link.To = ends[0], ends[1]
			l.g.Links = append(l.g.Links, link)
		}
	}
}

func isText(n *yaml.Node) bool { return n.Tag == "!!str" && n.Value != "" }

// chains decodes edges of the short form: a[x] -> b[y] ~> c[z], each line of a block of
// text by itself.
func (l *loader) chains(item, n *yaml.Node) {
	if n.Style&yaml.LiteralStyle == 0 {
		l.chain(item, n, n.Value, 0)
		return
	}
	offset := 0
	for line := range strings.Lines(n.Value) {
		if strings.TrimSpace(line) != "" {
			l.chain(item, n, line, offset)
		}
		offset += len(line)
	}
}

func (l *loader) chain(item, n *yaml.Node, text string, offset int) {
	ends, notify, bad := parseChain(text)
	if bad == nil && len(ends) == 1 {
		bad = &chainError{ends[0].offset, "an edge has two ends, found only " + brief(ref(ends[0].kind, ends[0].name)), shortForm}
		// A name may have brackets, but this is more likely: noop[a] => noop[b].
		if bracket := strings.IndexByte(text, ']'); skipSpace(text, bracket+1) < len(text) {
			bad = noArrow(text, bracket)
		}
	}
	if bad != nil {
		l.problems = append(l.problems, Problem{File: l.g.File, Pos: l.within(n, offset+bad.offset), Message: bad.message, Hint: bad.hint})
		return
	}
	last, ok := int32(0), false
	for i, e := range ends {
		e.node, e.offset = n, offset+e.offset
		at, found := l.find(e)
		if ok && found {
			pos := posOf(item)
			if n.Style&yaml.LiteralStyle != 0 {
				pos = l.within(n, e.offset)
			}
			l.g.Edges = append(l.g.Edges, Edge{From: last, To: at, Notify: notify[i-1], Pos: pos})
		}
		last, ok = at, found
	}
}

// end decodes one end: kind[name], or a mapping.
func (l *loader) end(node *yaml.Node) (int32, bool) {
	n := params.Resolve(node)
	switch {
	case n.Kind == yaml.ScalarNode && isText(n):
		ends, _, bad := parseChain(n.Value)
		switch {
		case bad != nil:
			l.problems = append(l.problems, Problem{File: l.g.File, Pos: l.within(n, bad.offset), Message: bad.message, Hint: bad.hint})
			return 0, false
		case len(ends) > 1:
			l.report(node, "", "expected one resource, found the edge %q", brief(n.Value))
			return 0, false
		}
		ends[0].node = n
		return l.find(ends[0])
	case n.Kind != yaml.MappingNode:
		l.report(node, "write kind[name]", "expected a resource, found %s", params.Describe(n))
		return 0, false
	}
	var e endEntry
	if wrong := params.Decode(n, &e); len(wrong) > 0 {
		l.take(wrong, "unknown key %q of an end of an edge")
		return 0, false
	}
	switch {
	case e.Kind == "":
		l.report(node, "add \"kind: \"", "this end of an edge has no kind")
		return 0, false
	case e.Name == "":
		l.report(node, "add \"name: \"", "this end of an edge has no name")
		return 0, false
	}
	return l.find(end{kind: e.Kind, name: e.Name, node: node})
}

// find resolves an end. It reports one that does not exist, unless that follows from
// what has been reported already; an edge to a resource that is only exported is
// dropped, for it is not applied on this host.
func (l *loader) find(e end) (int32, bool) {
	kind := strings.ToLower(e.kind)
	name, exported := strings.CutPrefix(e.name, exportMark)
	k := l.kinds[kind]
	if k != nil {
		at, ok := k.names[name]
		own, isExport := k.exports[name]
		switch {
		case exported && isExport:
			return own, own >= 0
		case ok && !exported:
			return at, true
		case isExport || k.unknown || k.blind:
			return 0, false
		}
	}
	if l.blind {
		return 0, false
	}
	p := Problem{File: l.g.File, Pos: l.within(e.node, e.offset)}
	if _, known := l.reg.Spec(kind); !known {
		p.Message, p.Hint = fmt.Sprintf("unknown kind %q", brief(e.kind)), l.nearKind(kind)
	} else {
		p.Message, p.Hint = "there is no "+brief(ref(kind, e.name)), l.nearName(kind, name)
	}
	l.problems = append(l.problems, p)
	return 0, false
}

// nearName is the hint for a resource that does not exist.
func (l *loader) nearName(kind, name string) string {
	for _, other := range l.reg.Kinds() {
		if k := l.kinds[other]; k != nil && other != kind {
			if _, ok := k.names[name]; ok {
				return fmt.Sprintf("did you mean %s?", brief(ref(other, name)))
			}
		}
	}
	k := l.kinds[kind]
	if k == nil {
		return ""
	}
	if k.list == nil {
		for _, v := range l.g.Vertices {
			if v.Kind == kind {
				k.list = append(k.list, v.Name)
			}
		}
	}
	if l.hintCost -= len(k.list); l.hintCost < 0 {
		return ""
	}
	if near, ok := params.Nearest(name, k.list); ok {
		return fmt.Sprintf("did you mean %s?", brief(ref(kind, near)))
	}
	return ""
}

// reference adds the edges of a require, before, notify or subscribe.
func (l *loader) reference(r reference) {
	if !given(r.node) {
		return
	}
	items := []*yaml.Node{r.node}
	if list := params.Resolve(r.node); list.Kind == yaml.SequenceNode {
		items = list.Content
	}
	own := r.vertex.index
	if r.vertex.Exported {
		own = l.kinds[r.vertex.Kind].exports[r.vertex.Name]
	}
	for _, item := range items {
		at, ok := l.end(item)
		if !ok || own < 0 {
			continue
		}
		e := Edge{From: at, To: own, Notify: r.word == "notify" || r.word == "subscribe", Pos: posOf(item)}
		if r.word == "before" || r.word == "notify" {
			e.From, e.To = e.To, e.From
		}
		l.g.Edges = append(l.g.Edges, e)
	}
}

// within is the place of an offset in the text of a node: exact if the source has that
// text on one line, and otherwise the place of the node, or its line.
func (l *loader) within(n *yaml.Node, offset int) Position {
	pos := posOf(n)
	if offset == 0 || n.Kind != yaml.ScalarNode {
		return pos
	}
	if n.Style&yaml.LiteralStyle != 0 {
		line := strings.Count(n.Value[:offset], "\n")
		return Position{Line: pos.Line + 1 + int32(line)}
	}
	if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
		pos.Column++
	}
	before := n.Value[:offset]
	if strings.HasPrefix(l.text(pos), before) {
		pos.Column += int32(utf8.RuneCountInString(before))
		return pos
	}
	return posOf(n)
}

// text is the rest of a line of the file; empty if there is no such place.
func (l *loader) text(from Position) string {
	if l.lines == nil {
		l.lines = bytes.Split(l.data, []byte("\n"))
	}
	if int(from.Line) > len(l.lines) || from.Line < 1 {
		return ""
	}
	return afterRunes(string(l.lines[from.Line-1]), int(from.Column)-1)
}

func afterRunes(s string, n int) string {
	for ; n > 0 && s != ""; n-- {
		_, size := utf8.DecodeRuneInString(s)
		s = s[size:]
	}
	return s
}

// chainError says what is wrong with an edge of the short form, and where in its text.
type chainError struct {
	offset        int
	message, hint string
}

// parseChain parses "a[x] -> b[y] ~> c[z]". A name ends at the first bracket that is
// followed by an arrow and another resource, or ends the text: so it may have brackets
// and arrows itself.
func parseChain(text string) (ends []end, notify []bool, bad *chainError) {
	pos := skipSpace(text, 0)
	for {
		open := pos + kindLength(text[pos:])
		switch {
		case open < len(text) && open > pos && text[open] == '[':
		case pos == len(text) && len(ends) > 0:
			return nil, nil, &chainError{pos, "the edge ends with an arrow, expected kind[name] after it", shortForm}
		default:
			return nil, nil, &chainError{pos, fmt.Sprintf("expected kind[name], found %q", brief(strings.TrimSpace(text[pos:]))), shortForm}
		}
		closing, bad := closingBracket(text, open+1)
		if bad != nil {
			return nil, nil, bad
		}
		e := end{kind: text[pos:open], name: text[open+1 : closing], offset: pos}
		if e.name == "" {
			return nil, nil, &chainError{open, "the name of this " + e.kind + " is empty", ""}
		}
		ends = append(ends, e)
		next := skipSpace(text, closing+1)
		if next == len(text) {
			return ends, notify, nil
		}
		notify = append(notify, text[next] == '~')
		pos = skipSpace(text, next+2)
	}
}

// closingBracket finds the bracket that ends a name which begins at start.
func closingBracket(text string, start int) (int, *chainError) {
	first, loose := -1, -1 // the first bracket, and the first before an arrow
	for i := start; i < len(text); i++ {
		if text[i] != ']' {
			continue
		}
		next := skipSpace(text, i+1)
		if next == len(text) {
			return i, nil
		}
		if first < 0 {
			first = i
		}
		if !isArrow(text[next:]) {
			continue
		}
		after := skipSpace(text, next+2)
		if n := kindLength(text[after:]); n > 0 && after+n < len(text) && text[after+n] == '[' {
			return i, nil
		}
		if loose < 0 {
			loose = i
		}
	}
	switch {
	case loose >= 0: // the next end is reported for what it is
		return loose, nil
	case first >= 0:
		return 0, noArrow(text, first)
	}
	return 0, &chainError{start - 1, "this [ is never closed", shortForm}
}

// noArrow is the error of a resource that ends at a bracket which no arrow follows.
func noArrow(text string, bracket int) *chainError {
	next := skipSpace(text, bracket+1)
	return &chainError{next, fmt.Sprintf("expected -> or ~> after a resource, found %q", brief(text[next:])), shortForm}
}

func isArrow(text string) bool {
	return strings.HasPrefix(text, "->") || strings.HasPrefix(text, "~>")
}

func skipSpace(text string, pos int) int {
	for pos < len(text) && (text[pos] == ' ' || text[pos] == '\t' || text[pos] == '\n' || text[pos] == '\r') {
		pos++
	}
	return pos
}

// kindLength is how many bytes at the start of text can be the name of a kind.
func kindLength(text string) int {
	for i, c := range []byte(text) {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= '0' && c <= '9' || c == ':' || c == '.'
		if !letter {
			return i
		}
	}
	return len(text)
}
