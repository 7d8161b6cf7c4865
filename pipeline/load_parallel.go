package pipeline

import (
	"bytes"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"gopkg.in/yaml.v3"
)

// Nearly all the time that Load takes goes into the YAML parser, which uses one CPU. So
// the lists of a large file are cut into pieces between their items, the pieces are parsed
// beside each other, and their nodes put where the rest of the file, in which an empty
// item stands for each list, says that they belong.
//
// Where to cut is a guess by indentation, which the parser proves. It finds the empty item
// only if the text before does not end inside quotes, brackets or a block of text; then
// its state is the one that a piece begins with, but for what is further left, and a piece
// that parses never gets there. That the item is still empty says that what follows is no
// part of it. A piece that parses is complete, so the next one begins in the same state.
//
// What has a meaning beyond a piece is given up: anchors, and what is in foreign. So is a
// file with an error, because only the whole text gives it its place.

const (
	// largeFile is the size of a file, in bytes, from which it is worth while.
	largeFile = 128 << 10

	// pieceSize is about how many bytes a piece has: enough to make little of what it
	// costs beside its text, few enough to keep all CPUs busy to the end.
	pieceSize = 32 << 10

	// maxColumn bounds how deep a piece may nest. The parser refuses 10,000 levels, and
	// each is further right than the one around it.
	maxColumn = 9_000
)

// foreign is what makes the numbers of lines, or what a piece means, a matter of more than
// its text: line ends other than "\n", UTF-16, and directives that redefine tags.
var foreign = [][]byte{[]byte("\r"), []byte("\u0085"), []byte("\u2028"), []byte("\u2029"), {0xff}, []byte("%TAG")}

// piece is a run of whole items of a list.
type piece struct {
	text      []byte
	line      int  // where it begins, from 1
	column    int  // where what follows the dash of an item may begin, from 1
	continues bool // the list of the piece before
	items     []*yaml.Node
}

// parseLarge is parseDocuments for a file that may be large.
func parseLarge(data []byte) (*yaml.Node, *Problem) {
	if len(data) >= largeFile && runtime.GOMAXPROCS(0) > 1 {
		if root := parsePieces(data, pieceSize); root != nil {
			return root, nil
		}
	}
	return parseDocuments(data)
}

// parsePieces returns what parseDocuments would, apart from comments, or nil if it can't
// be sure of that.
func parsePieces(data []byte, size int) *yaml.Node {
	if slices.ContainsFunc(foreign, func(s []byte) bool { return bytes.Contains(data, s) }) {
		return nil
	}
	pieces, rest := cut(data, size)
	if len(pieces) < 2 {
		return nil
	}
	var taken atomic.Int32
	var failed atomic.Bool
	work := func() {
		for !failed.Load() {
			i := int(taken.Add(1)) - 1
			if i >= len(pieces) {
				return
			}
			if !pieces[i].parse() {
				failed.Store(true)
			}
		}
	}
	var others sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(pieces)) - 1 {
		others.Go(work)
	}
	root, problem := parseDocuments(rest)
	if problem != nil {
		failed.Store(true)
	}
	work()
	others.Wait()
	if failed.Load() || len(graft(root, pieces)) > 0 {
		return nil
	}
	return root
}

// cut cuts the lists of a text into pieces of size, as far as that is possible, and
// returns the rest, in which every line has the number that it had.
func cut(data []byte, size int) (pieces []piece, rest []byte) {
	line, kept := 1, 0
	for _, l := range findLists(data, size/8) {
		line += bytes.Count(data[kept:l.start], []byte("\n"))
		rest = append(append(rest, data[kept:l.start+l.indent]...), '-')
		item := append(append([]byte("\n"), data[l.start:l.start+l.indent]...), "- "...)
		for start, end := l.start, l.end; start < l.end; start, end = end, l.end {
			if from := start + size; from < l.end {
				if next := bytes.Index(data[from:l.end], item); next >= 0 {
					end = from + next + 1
				}
			}
			text := data[start:end]
			pieces = append(pieces, piece{text: text, line: line, column: l.indent + 2, continues: start > l.start})
			lines := bytes.Count(text, []byte("\n"))
			rest = append(rest, bytes.Repeat([]byte("\n"), lines)...)
			line += lines
		}
		kept = l.end
	}
	return pieces, append(rest, data[kept:]...)
}

// list is what looks like a list: lines that begin with a dash, and those between them
// that are further right.
type list struct {
	start, end int
	indent     int // of the dashes
}

// findLists finds lists of at least some size that are not parts of others.
func findLists(data []byte, least int) []list {
	var lists []list
	current := list{indent: -1}
	pos := 0
	end := func() {
		if current.indent >= 0 && pos-current.start >= least {
			current.end = pos
			lists = append(lists, current)
		}
		current.indent = -1
	}
	for line := range bytes.Lines(data) {
		text := bytes.TrimLeft(line, " ")
		indent := len(line) - len(text)
		item := bytes.HasPrefix(text, []byte("- "))
		switch {
		case len(text) == 0 || text[0] == '\n' || text[0] == '#':
		case current.indent >= 0 && (indent > current.indent || indent == current.indent && item):
		default:
			end()
			if item {
				current.start, current.indent = pos, indent
			}
		}
		pos += len(line)
	}
	end()
	return lists
}

// parse parses the text of a piece. It reports whether that is what the text is to the
// parser of the whole file.
func (p *piece) parse() bool {
	root, problem := parseDocuments(p.text)
	if problem != nil || !move(root, p.line-1) {
		return false
	}
	p.items = root.Content
	return true
}

// move adds to the lines of nodes. It reports whether they are independent of the rest.
func move(n *yaml.Node, lines int) bool {
	n.Line += lines
	for i, child := range n.Content {
		if !move(child, lines) {
			return false
		}
		// The place of a value that "? key" lacks is that of what comes next, which may
		// be beyond the piece.
		if n.Kind == yaml.MappingNode && i%2 == 1 && child.Tag == "!!null" && child.Line != n.Content[i-1].Line {
			return false
		}
	}
	return n.Anchor == "" && n.Column < maxColumn
}

// graft puts the items of pieces in the place of the empty ones that stand for them. It
// returns the pieces that have no place below n.
func graft(n *yaml.Node, pieces []piece) []piece {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 1; i < len(n.Content); i += 2 {
			pieces = graft(n.Content[i], pieces)
		}
	case yaml.SequenceNode:
		var content []*yaml.Node
		for _, child := range n.Content {
			if len(pieces) == 0 || child.Line != pieces[0].line || child.Column != pieces[0].column {
				content = append(content, child)
				pieces = graft(child, pieces)
				continue
			}
			for again := true; again; again = len(pieces) > 0 && pieces[0].continues {
				content = append(content, pieces[0].items...)
				pieces = pieces[1:]
			}
		}
		n.Content = content
	}
	return pieces
}
