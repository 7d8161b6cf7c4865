package pipeline_test

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unicode/utf16"

	"go.uber.org/goleak"
	"golang.org/x/tools/txtar"
	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"

	"github.com/mgmtproject/mgmt/pipeline"
)

// pieceTests are texts with the traps that cutting them between items can run into.
var pieceTests = []struct {
	name, text string
	cut        bool // it is possible
}{
	{"the lists of two kinds", "a:\n  b:\n  - c: 1\n    d: 2\n  - c: 3\n  e:\n    - f\n    - g\nh: i\n", true},
	{"a list at the margin", "a: 1\nb:\n- c\n- d: e\n  f: g\nh: 2\n", true},
	{"a list that is the document", "- a\n- b", true},
	{"no line end after the last item", "a:\n  - b\n  - c", true},
	{"a mark before the first key", "\ufeffa:\n  - b\n  - c\n", true},
	{"lists inside items", "a:\n  - - b\n    - c\n  - d:\n    - e\n    - f\n", true},
	{"items without a value", "a:\n  - \n  - b:\n  - ~\n", true},
	{"dashes on lines of their own", "a:\n  - b\n  -\n    c: d\n  -\n  - e\n", true},
	{"a list in an item that begins on the next line", "- a\n-\n  - b\n", true},
	{"comments in all places", "a: # 1\n  # 2\n  - b: c # 3\n# 4\n    d: e\n      # 5\n\n  # 6\n  - f\n\n# 7\ng: h\n", true},
	{"blank lines that end a block of text", "a:\n  - b: |+\n      c\n\n\n  - d: |\n\n\n  - e: >-\n\n      f\n\n", true},
	{"a block of text that says how far right it is", "a:\n  - |1\n     b\n    c\n  - d: >2-\n        e\n", true},
	{"items in a block of text of an item", "a:\n  - b: |\n      - c\n      - d\n  - e\n", true},
	{"items in quotes of an item", "a:\n  - b: \"c\n    - d\"\n  - 'e\n     - f'\n", true},
	{"text of an item over lines", "a:\n  - b\n    - c\n  - d: e\n     - f\n", true},
	{"brackets of an item over lines", "a:\n  - [b,\n     c]\n  - {d: e,\n     f: g}\n", true},
	{"an alias of a whole list", "a: &x\n  - b\n  - c\nd: *x\n", true},
	{"a complex key with a value", "a:\n  - ? b\n    : c\n  - d\n", true},
	{"tags that need no directive", "a:\n  - !b c\n  - !!str 1\n", true},

	{"a block of text that is a list", "a: |\n  - b\n  - c\nd: e\n", false},
	{"plain text that is a list", "a: b\n  - c\n  - d\n", false},
	{"quotes around a list", "a: '\n  - b\n  - c\n  '\n", false},
	{"quotes around a list that has quotes", "a: '\n  - it's\n  - b\n  '\n", false},
	{"quotes around a part of a list", "a:\n  - \"b\n  - c\"\n  - d\n", false},
	{"quotes from one item to another that has quotes", "a:\n  - b: \"\n  - c: \"d\"\n  - \"e\n", false},
	{"quotes that go on at the margin", "a:\n  - \"b\nc\"\n  - d\n  - e\n", false},
	{"brackets around a list", "a: [\n  - b\n  - c\n  ]\n", false},
	{"brackets from one item to another", "a:\n  - [b,\n  - c]\n  - d\n", false},
	{"a list as a key", "?\n  - a\n  - b\n: c\n", false},
	{"a list as a key without a value", "?\n  - a\n  - b\n", false},
	{"a key without a value at the end of an item", "a:\n  - ? b\n  - c\n", false},
	{"an item that goes on further left", "a:\n  - b:\n     - c\n    d: e\n   f: g\n  - h\n", false},
	{"text where a list ends", "a:\n  - b\n  - c\n  |\n", false},
	{"a key where a list ends", "a:\n  - b\n  - c\n  d: e\n", false},
	{"an anchor for the next item", "a:\n  - &x b\n  - *x\n", false},
	{"an anchor that a list gives another meaning", "a: &x 1\nb:\n  - &x 2\n  - 3\nc: *x\n", false},
	{"an anchor above a list", "a: &x {b: c}\nd:\n  - <<: *x\n  - e\n", false},
	{"an alias of what it is in", "a: &x\n  - b\n  - *x\n", false},
	{"a directive", "%TAG ! tag:x,2000:\n---\na:\n  - !b c\n  - d\n", false},
	{"two documents", "a:\n  - b\n  - c\n---\na:\n  - b\n  - c\n", false},
	{"a document that ends in a list", "a:\n- b\n...\n- c\n- d\n", false},
	{"line ends of another system", "a:\r\n  - b\r\n  - c\r\n", false},
	{"a next line inside a line", "a:\n  - b\u0085\n  - c\n", false},
	{"a line separator inside a line", "a:\n  - b: \"c\u2028 d\"\n  - e\n", false},
	{"a paragraph separator inside a line", "a:\n  - b # \u2029\n  - c\n", false},
	{"a tab before a dash", "a:\n  - b\n\t- c\n  - d\n", false},
	{"an error in an item", "a:\n  - b: c: d\n  - e\n", false},
	{"an error between lists", "a:\n  - b\n  - c\nd\ne:\n  - f\n", false},
	{"no lists", "a: b\n", false},
	{"a single item", "a:\n  - b\n", false},
	{"lists in brackets", `{"a": {"b": [{"c": 1}, {"c": 2}]}}`, false},
	{"a list in another encoding", utf16Text("a:\n  - b\n  - c\n"), false},
	{"what is a list only in another encoding", utf16Text("#") + "a\n  - b\n  - c\n  - d\n" + utf16Text("\n  -\n  - e\n")[2:], false},
	{"one level more than the parser allows", "a:\n  - b\n  " + strings.Repeat("- ", 9_999) + "c\n", false},
}

// utf16Text is s in UTF-16, little end first.
func utf16Text(s string) string {
	var b strings.Builder
	for _, unit := range utf16.Encode([]rune("\ufeff" + s)) {
		b.Write([]byte{byte(unit), byte(unit >> 8)})
	}
	return b.String()
}

func TestPieces(t *testing.T) {
	for _, test := range pieceTests {
		t.Run(test.name, func(t *testing.T) {
			for _, size := range []int{1, 10, 20} {
				if cut := checkPieces(t, []byte(test.text), size); cut != test.cut && size == 1 {
					t.Errorf("it is cut: %t, want %t", cut, test.cut)
				}
			}
		})
	}
}

// checkPieces parses a text in pieces, and reports whether that was possible. Then it must
// be what the parser makes of the whole.
func checkPieces(t interface{ Fatalf(string, ...any) }, data []byte, size int) bool {
	root := pipeline.ParsePieces(data, size)
	if root == nil {
		return false
	}
	want, problem := pipeline.ParseDocuments(data)
	if problem != nil {
		t.Fatalf("in pieces of %d it parses, but not as a whole: %v\n%s", size, problem, data)
	}
	if diff := diffNodes(want, root, map[*yaml.Node]*yaml.Node{}); diff != "" {
		t.Fatalf("in pieces of %d it is another tree: %s\n%s", size, diff, data)
	}
	return true
}

// diffNodes describes the first difference of two trees, apart from comments. In twins it
// remembers which node is which, for aliases.
func diffNodes(want, got *yaml.Node, twins map[*yaml.Node]*yaml.Node) string {
	twins[want] = got
	show := func(n *yaml.Node) string {
		return fmt.Sprintf("%d:%d kind %d style %d %s %q &%s, %d below", n.Line, n.Column, n.Kind, n.Style, n.Tag, n.Value, n.Anchor, len(n.Content))
	}
	if show(want) != show(got) || twins[want.Alias] != got.Alias {
		return fmt.Sprintf("want %s, got %s", show(want), show(got))
	}
	for i := range want.Content {
		if diff := diffNodes(want.Content[i], got.Content[i], twins); diff != "" {
			return diff
		}
	}
	return ""
}

// oddWords are what lines are made of to confuse whoever cuts between them.
var oddWords = []string{
	"a", "a: b", "a:", "b: 'it''s'", "- ", "-", "- - ", "- a: 1", "? ", "? a", ": ", ": b", "\"", "\"x\"", "a: \"x", "x\"", "'", "a: '", "x'", "\\", "\"\\",
	"|", ">", "a: |", "a: >-", "a: |+", "a: |2", "- |1", "- >2-", "# c", "a # c", "- # c", "[", "]", "a: [", "[x, y]", "{", "}", "a: {b: c}", ",",
	"&x a", "a: &x b", "*x", "a: *x", "<<: *x", "&x", "!t a", "!!str", "---", "...", "%TAG ! tag:x,2000:", "%", "~", "null",
	"\t", "a\t", "- \t", "\r", "a\u0085b", "\u2028", "\u00a0", "\ufeff", "é: ü",
}

// oddItems are what lists are made of, each a lesser trap.
var oddItems = []string{
	"- a", "- a: 1\n  b: 2", "- a: |\n    text\n    - more", "- a: |\n\n\n", "- |\n  x\n\n", "- >+\n  x\n\n\n", "- |2\n    x\n   y", "-  - a\n   - b", "- - - a",
	"- {a: b,\n   c: d}", "- [a,\n- b]", "- [a,\n  b\n  ]", "- \"a\n- b\n\n  c\"", "- 'a\n- b: ''c'''", "- a: \"x\ny\"", "- a\n  b\n\n   c", "- a: b\n    - c", "- # c\n  a: 1",
	"# c\n- a", "- a\n\n  # c\n# c\n", "- a: # c\n    b # c", "- ? a\n  : b", "- ? - a\n    - b\n  : c", "- a:\n  - b\n  - c", "- a:", "-\n  a: 1", "- it's", "- 'x' # it's", "- \"\\\"\"",
}

// TestPiecesOfRandomText cuts texts made of traps wherever they can be cut.
func TestPiecesOfRandomText(t *testing.T) {
	line := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom(oddWords), 0, 2).Draw(t, "words"), " ")
	})
	part := rapid.Custom(func(t *rapid.T) string {
		indent := strings.Repeat(" ", rapid.SampledFrom([]int{2, 2, 2, 2, 2, 2, 2, 2, 0, 1, 3, 4}).Draw(t, "indent"))
		switch rapid.IntRange(0, 7).Draw(t, "kind") {
		case 0:
			return indent + line.Draw(t, "line")
		case 1:
			return indent + "- " + line.Draw(t, "item")
		case 2:
			return rapid.SampledFrom([]string{"", "b:", " b:", "  b:", "# c", "  # c"}).Draw(t, "key")
		default:
			return indent + strings.ReplaceAll(rapid.SampledFrom(oddItems).Draw(t, "item"), "\n", "\n"+indent)
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom([]string{"", "a:\n", "a:\n b:\n", "a:\n  b:\n", "a: \"\n", "? a:\n"}).Draw(t, "above") +
			strings.Join(rapid.SliceOfN(part, 1, 6).Draw(t, "parts"), "\n") +
			rapid.SampledFrom([]string{"", "\n", "\nc: d", "\n\"", "\n c: d\n", "\n: d"}).Draw(t, "below")
		checkPieces(t, []byte(text), rapid.SampledFrom([]int{1, 1, 8, 16, 30}).Draw(t, "size"))
	})
}

func FuzzParallelParse(f *testing.F) {
	for _, test := range pieceTests {
		f.Add([]byte(test.text), byte(0))
	}
	files, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(files) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, file := range files {
		ar, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range ar.Files {
			if filepath.Ext(part.Name) == ".yaml" {
				f.Add(part.Data, byte(0))
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, size byte) {
		checkPieces(t, data, int(size)+1)
	})
}

// TestLoadLargeFile loads files with one CPU, as a whole, and with all of them, in pieces.
func TestLoadLargeFile(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	files := string(graphFile("file", 5_000))
	split := strings.Index(files, "edges:\n")
	right := files[:split] + "  exec:\n  # of another kind\n  - {name: \"@@x\", cmd: a}\n" + files[split:]
	const late = "/f4321\n    content: \"hello 4321\\n\"\n"
	tests := []struct {
		name, text string
		cut        bool
		want       string // in the error
	}{
		{"a file without mistakes", right, true, ""},
		{"an unknown parameter in a late resource", strings.Replace(right, late, late+"    owned: me\n", 1), true, "graph.yaml:12969:5: unknown parameter"},
		{"an edge to nowhere after the resources", strings.Replace(right, "-> file[/srv/d99/f4999]", "-> file[/srv/d99/f5000]", 1), true, "graph.yaml:20006:27: there is no"},
		{"a quote that is never closed in a late resource", strings.Replace(right, late, "/f4321\n    content: \"hello\n", 1), false, "graph.yaml:12969:12: expected the end of the value"},
		{"an anchor in the first resource and aliases of it in the others", strings.ReplaceAll(strings.Replace(right, `mode: "0644"`, `mode: &m "0644"`, 1), "    mode: \"0644\"\n", "    mode: *m\n"), false, ""},
	}
	reg := fileRegistry(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			data := []byte(test.text)
			if cut := checkPieces(t, data, 32<<10); cut != test.cut {
				t.Errorf("it is cut: %t, want %t", cut, test.cut)
			}
			load := func(cpus int) string {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(cpus))
				g, err := read("graph.yaml", data, reg)
				if err != nil {
					return err.Error()
				}
				return show(g)
			}
			one, all := load(1), load(4)
			if one != all {
				t.Errorf("with one CPU it is %.1000s\nwith four it is %.1000s", one, all)
			}
			if test.want == "" && !strings.HasPrefix(all, "graph bench\n") || !strings.Contains(all, test.want) {
				t.Errorf("got %.1000s, want %q", all, test.want)
			}
		})
	}
}
