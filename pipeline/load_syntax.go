package pipeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"gopkg.in/yaml.v3"

	"github.com/mgmtproject/mgmt/sinks/params"
)

// parseYAML returns the only document of a file, or what is wrong with its syntax.
func parseYAML(data []byte) (*yaml.Node, *Problem) {
	root, problem := parseLarge(data)
	if problem != nil && json.Valid(data) {
		root, problem = parseDocuments(translateEscapes(data))
	}
	if problem != nil {
		bare, ok := parseBare(data)
		if !ok {
			return nil, problem
		}
		root = bare
	}
	if bytes.IndexByte(data, '*') < 0 {
		return root, nil // without aliases
	}
	return root, checkAliases(root)
}

func parseDocuments(data []byte) (root *yaml.Node, problem *Problem) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	defer func() {
		// A fault of the YAML library must not look like one of the program.
		if r := recover(); r != nil {
			root, problem = nil, &Problem{Message: fmt.Sprintf("this file can't be read as YAML: %v", r)}
		}
	}()
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		switch {
		case errors.Is(err, io.EOF) && root == nil:
			return nil, &Problem{Message: "the file is empty", Hint: needs}
		case errors.Is(err, io.EOF):
			return root, nil
		case err != nil:
			return nil, explain(data, dec, err)
		case params.IsNull(doc.Content[0]):
			continue
		case root != nil:
			return nil, &Problem{Pos: posOf(doc.Content[0]), Message: "a second document begins here, expected one graph in a file", Hint: "remove the line \"---\" above it, or make it a file of its own"}
		}
		root = doc.Content[0]
	}
}

// jsonEscapes are what JSON may write in a string and YAML not: a slash with a
// backslash, and a rare character as two halves. The first alternative keeps a
// backslash that stands for itself from being read as the begin of another.
var jsonEscapes = regexp.MustCompile(`\\\\|\\/|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}`)

func translateEscapes(data []byte) []byte {
	return jsonEscapes.ReplaceAllFunc(data, func(escape []byte) []byte {
		switch len(escape) {
		case len(`\\`):
			if escape[1] == '/' {
				return []byte("/")
			}
			return escape
		default:
			high, _ := strconv.ParseUint(string(escape[2:6]), 16, 32)
			low, _ := strconv.ParseUint(string(escape[8:12]), 16, 32)
			return fmt.Appendf(nil, `\U%08X`, utf16.DecodeRune(rune(high), rune(low)))
		}
	})
}

// The values of a file, with all its aliases written out, may be this many, and this many
// times those that it has.
const (
	manyValues = 1_000_000
	muchMore   = 10
)

// checkAliases refuses a document whose aliases stand for more values than it is
// sensible to decode: a few lines can stand for billions.
func checkAliases(root *yaml.Node) *Problem {
	c := aliasCounter{sizes: map[*yaml.Node]int{}}
	total := c.size(root)
	switch {
	case c.loop != nil:
		return &Problem{Pos: posOf(c.loop), Message: fmt.Sprintf("the alias *%s stands inside what it stands for", brief(c.loop.Value)), Hint: "remove it"}
	case c.worst != nil && total > manyValues+muchMore*c.own:
		return &Problem{Pos: posOf(c.worst), Message: "the aliases of this file stand for far more values than it has", Hint: "write out what is needed"}
	}
	return nil
}

type aliasCounter struct {
	own   int                // nodes of the document
	sizes map[*yaml.Node]int // of those with an anchor, expanded; 0 while being counted
	worst *yaml.Node         // the alias that stands for most
	most  int
	loop  *yaml.Node // an alias of something that it is a part of
}

// size counts the nodes below n with aliases written out, up to a bound.
func (c *aliasCounter) size(n *yaml.Node) int {
	if n.Kind == yaml.AliasNode {
		size, counted := c.sizes[n.Alias]
		if counted && size == 0 {
			c.loop = n
		}
		if size > c.most || c.worst == nil {
			c.worst, c.most = n, size
		}
		return 1 + size
	}
	const bound = 1 << 40
	c.own++
	if n.Anchor != "" {
		c.sizes[n] = 0
	}
	size := 1
	for _, child := range n.Content {
		size = min(bound, size+c.size(child))
	}
	if n.Anchor != "" {
		c.sizes[n] = size
	}
	return size
}

// syntaxError is what the YAML library knows about an error.
type syntaxError struct {
	problem string   // in its own words
	at      Position // where it gave up
	context Position // where what it was reading had begun
	line    string   // the text of the line where it gave up
	rest    string   // that line from there on
	began   string   // the line of context from there on
}

// explain turns an error of the YAML library into words for people who don't know how a
// YAML parser works.
func explain(data []byte, dec *yaml.Decoder, err error) *Problem {
	if p := notText(data); p != nil {
		return p
	}
	e := inspect(data, dec, err)
	for _, known := range explanations {
		if strings.Contains(e.problem, known.problem) {
			p := Problem{Pos: e.at}
			p.Message, p.Hint = known.explain(e, &p.Pos)
			return &p
		}
	}
	return &Problem{Pos: e.at, Message: "this is not valid YAML: " + e.problem}
}

// inspect finds out where the error is. The library knows line and column, but its
// error has only a line, and often not the right one: so this looks into its parser, and
// takes the line of the error if it can't.
func inspect(data []byte, dec *yaml.Decoder, err error) syntaxError {
	e := syntaxError{problem: strings.TrimPrefix(err.Error(), "yaml: ")}
	if number, rest, ok := strings.Cut(strings.TrimPrefix(e.problem, "line "), ": "); ok {
		if line, err := strconv.ParseInt(number, 10, 32); err == nil {
			e.problem, e.at = rest, Position{Line: int32(line)}
		}
	}
	outer := field(reflect.ValueOf(dec).Elem(), "parser")
	parser := field(outer, "parser")
	mark := "problem_mark"
	if strings.HasPrefix(e.problem, "unknown anchor") { // which is no error of the inner parser
		parser, mark = field(outer, "event"), "start_mark"
	}
	if at, ok := place(parser, mark); ok {
		e.at = at
		e.context, _ = place(parser, "context_mark")
	}
	lines := bytes.Split(data, []byte("\n"))
	text := func(at Position) (line, rest string) {
		if at.Line < 1 || int(at.Line) > len(lines) {
			return "", ""
		}
		line = strings.TrimSuffix(string(lines[at.Line-1]), "\r")
		return line, afterRunes(line, int(at.Column)-1)
	}
	if last := bytes.TrimRight(data, " \t\r\n"); int(e.at.Line) > bytes.Count(last, []byte("\n"))+1 {
		// It gave up after the last line: the end of the text is the better place.
		e.at.Line = int32(bytes.Count(last, []byte("\n"))) + 1
		e.at.Column = int32(utf8.RuneCount(last[bytes.LastIndexByte(last, '\n')+1:])) + 1
	}
	e.line, e.rest = text(e.at)
	_, e.began = text(e.context)
	return e
}

func field(v reflect.Value, name string) reflect.Value {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	return v.FieldByName(name)
}

func place(parser reflect.Value, mark string) (Position, bool) {
	line, column := field(field(parser, mark), "line"), field(field(parser, mark), "column")
	if !line.CanInt() || !column.CanInt() {
		return Position{}, false
	}
	return Position{Line: int32(line.Int()) + 1, Column: int32(column.Int()) + 1}, true
}

// notText finds the first byte that YAML does not allow anywhere.
func notText(data []byte) *Problem {
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return nil // UTF-16
	}
	pos := Position{Line: 1, Column: 1}
	for rest := data; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			return &Problem{Pos: pos, Message: fmt.Sprintf("the byte 0x%02x is not text in UTF-8", rest[0]), Hint: "save the file as plain text in UTF-8"}
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0x7f:
			return &Problem{Pos: pos, Message: fmt.Sprintf("the control character 0x%02x is not allowed", r), Hint: fmt.Sprintf(`write it as "\x%02x", in double quotes`, r)}
		case r == '\n':
			pos = Position{Line: pos.Line + 1}
		}
		pos.Column++
		rest = rest[size:]
	}
	return nil
}

const (
	quoteHint  = "put the value in quotes"
	indentHint = "line it up with its neighbours, with spaces"
	tabMessage = "a tab is used for indentation, expected spaces"
)

// reference form in a flow list: [pkg[a], file[b]].
var bareRef = regexp.MustCompile(`^\[[^\]]*\]`)

// explanations are the errors of the YAML library in our words. Each may move the place.
var explanations = []struct {
	problem string
	explain func(e syntaxError, at *Position) (message, hint string)
}{
	{"cannot start any token", func(e syntaxError, _ *Position) (string, string) {
		c, _ := utf8.DecodeRuneInString(e.rest)
		if c == '\t' {
			return tabMessage, "replace the tab by spaces"
		}
		return fmt.Sprintf("a value can't begin with %c", c), fmt.Sprintf("put it in quotes: %q", firstWord(e.rest))
	}},
	{"tab character", func(syntaxError, *Position) (string, string) {
		return tabMessage, "replace the tab by spaces"
	}},
	{"could not find expected ':'", func(e syntaxError, at *Position) (string, string) {
		*at = e.context
		if before, after, ok := strings.Cut(e.began, ":"); ok && after != "" {
			return "expected a space after the colon", fmt.Sprintf("write \"%s: %s\"", brief(before), brief(after))
		}
		return "expected \"key: value\", found no colon", "a key ends with a colon and a space; text of several lines begins with \"|\""
	}},
	{"mapping values are not allowed", func(e syntaxError, at *Position) (string, string) {
		key := strings.TrimLeft(strings.TrimSuffix(e.line, e.rest), "- ")
		if strings.Contains(key, ": ") {
			return "a second \": \" on this line, expected one value after the first", "put a value that has a colon in quotes"
		}
		at.Column -= int32(utf8.RuneCountInString(key))
		return "a key is not expected here: by its indentation this line goes on with the value above", indentHint
	}},
	{"mapping keys are not allowed", func(syntaxError, *Position) (string, string) {
		return "a key is not expected here", quoteHint
	}},
	{"block sequence entries are not allowed", func(syntaxError, *Position) (string, string) {
		return "a list item is not expected here", "begin the list on the next line"
	}},
	{"did not find expected key", func(e syntaxError, _ *Position) (string, string) {
		switch {
		case strings.TrimLeft(e.rest, " ") == strings.TrimLeft(e.line, " "):
			return fmt.Sprintf("the indentation of this line fits none of the lines above; the block that it is in began in line %d", e.context.Line), indentHint
		default:
			return fmt.Sprintf("expected the end of the value, found %s", strconv.Quote(brief(e.rest))), "put the whole value in quotes"
		}
	}},
	{"did not find expected '-' indicator", func(e syntaxError, _ *Position) (string, string) {
		return fmt.Sprintf("expected \"- \" and the next item of the list that began in line %d", e.context.Line), indentHint
	}},
	{"did not find expected ',' or ']'", func(e syntaxError, _ *Position) (string, string) {
		return unclosed(e, "list", "]")
	}},
	{"did not find expected ',' or '}'", func(e syntaxError, _ *Position) (string, string) {
		return unclosed(e, "mapping", "}")
	}},
	{"found unexpected end of stream", func(e syntaxError, at *Position) (string, string) {
		*at = e.context
		return "this quote is never closed", "end the text with the same quote"
	}},
	{"found unexpected document indicator", func(e syntaxError, at *Position) (string, string) {
		*at = e.context
		return "this quote is never closed", "end the text with the same quote"
	}},
	{"unknown escape character", func(e syntaxError, _ *Position) (string, string) {
		return "a backslash in double quotes begins no escape that YAML knows", `write \\ for a backslash, or use single quotes`
	}},
	{"did not find expected hexdecimal number", func(syntaxError, *Position) (string, string) {
		return `expected hexadecimal digits after \x, \u or \U`, `write \\ for a backslash, or use single quotes`
	}},
	{"invalid Unicode character escape", func(syntaxError, *Position) (string, string) {
		return "this escape stands for no character", `write \\ for a backslash, or use single quotes`
	}},
	{"did not find expected alphabetic or numeric character", func(e syntaxError, at *Position) (string, string) {
		*at = e.context
		return "expected a name after * or &, which stand for an alias and an anchor", "put text that begins with them in quotes"
	}},
	{"unknown anchor", func(e syntaxError, _ *Position) (string, string) {
		name := firstWord(strings.TrimPrefix(e.rest, "*"))
		return fmt.Sprintf("there is no &%s above for the alias *%s", name, name), "put text that begins with * in quotes"
	}},
	{"did not find expected node content", func(e syntaxError, _ *Position) (string, string) {
		if e.rest == "" {
			return "the file ends where a value is expected", "end every list with \"]\", and every mapping with \"}\""
		}
		return "expected a value, found " + strconv.Quote(brief(e.rest)), "put text with brackets, braces or commas in quotes"
	}},
	{"did not find expected <document start>", func(e syntaxError, _ *Position) (string, string) {
		return "expected the end of the file, found " + strconv.Quote(brief(e.rest)), "keep one mapping at the top of the file, and line up its keys"
	}},
	{"exceeded max depth", func(syntaxError, *Position) (string, string) {
		return "this is nested too deeply", ""
	}},
	{"tag", func(e syntaxError, at *Position) (string, string) {
		if e.context.Line > 0 {
			*at = e.context
		}
		return "a value that begins with ! is a tag, and this one is not valid", quoteHint
	}},
	{"expected comment or line break", func(e syntaxError, at *Position) (string, string) {
		return "expected the end of the line after | or >, found " + strconv.Quote(brief(e.rest)), "begin the text on the next line"
	}},
	{"indentation indicator equal to 0", func(syntaxError, *Position) (string, string) {
		return "the indentation after | or > can't be 0", "leave it out"
	}},
	{"directive", badDirective},
	{"non-alphabetical character", badDirective}, // after the name of a directive
	{"YAML document", func(syntaxError, *Position) (string, string) {
		return "this version of YAML is not supported", "remove the line that begins with %"
	}},
}

func badDirective(syntaxError, *Position) (message, hint string) {
	return "a line that begins with % is a directive, and this one is not valid", quoteHint
}

// unclosed explains a list or mapping in brackets that goes wrong.
func unclosed(e syntaxError, what, closing string) (message, hint string) {
	if bareRef.MatchString(e.rest) {
		return "a reference such as kind[name] is not quoted in a " + what + " in brackets", "put each reference in quotes"
	}
	found := "the end of the line"
	if e.rest != "" {
		found = strconv.Quote(brief(e.rest))
	}
	return fmt.Sprintf("expected \",\" or %q in the %s that began in line %d, found %s", closing, what, e.context.Line, found),
		fmt.Sprintf("add the comma, or the %q that ends the %s", closing, what)
}

// firstWord is the text up to a space or whatever ends a word in brackets.
func firstWord(s string) string {
	if end := strings.IndexAny(s, " \t,]}#"); end >= 0 {
		s = s[:end]
	}
	return brief(strings.TrimSuffix(s, ":"))
}
