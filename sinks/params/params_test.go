package params_test

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/params"
)

// level is a named string, as kinds use for an enumeration.
type level string

// config has a parameter of every type.
type config struct {
	Text    string            `param:"text" alias:"txt words"`
	Maybe   *string           `param:"maybe"`
	State   string            `param:"state" oneof:"exists absent"`
	Level   level             `param:"level" oneof:"low high"`
	Flag    bool              `param:"flag"`
	Tri     *bool             `param:"tri"`
	Count   int               `param:"count"`
	Big     int64             `param:"big"`
	Small   int8              `param:"small"`
	Port    uint16            `param:"port"`
	MaybeN  *int              `param:"maybe_n"`
	Rate    float64           `param:"rate"`
	Wait    time.Duration     `param:"wait" unit:"s"`
	Pause   time.Duration     `param:"pause" unit:"ms"`
	Strict  time.Duration     `param:"strict"`
	List    []string          `param:"list"`
	Choices []level           `param:"choices" oneof:"low high"`
	Numbers []int             `param:"numbers"`
	Env     map[string]string `param:"env"`
	Mode    string            `param:"mode" mode:"octal"`
	Key     string            `param:"key" secret:"true"`
	Old     string            `param:"old" legacy:"true"`
	Other   string
}

func newConfig() *config { return &config{Level: "low", Count: 7, Wait: 2 * time.Second} }

func (c *config) Build(string, sinks.Options) (sinks.Resource, error) { return nil, nil }

func parse(t testing.TB, text string) *yaml.Node {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatalf("parsing %q: %v", text, err)
	}
	return doc.Content[0]
}

func TestDecode(t *testing.T) {
	with := func(change func(*config)) *config {
		c := newConfig()
		change(c)
		return c
	}
	for _, test := range []struct {
		name, text string
		want       *config
	}{
		{"an empty mapping leaves the defaults", `{}`, newConfig()},
		{"null stands for not given, whatever the type", `{text: , maybe: ~, count: null, list: null, env: , wait: }`, newConfig()},
		{"a string is a string", `text: hello`, with(func(c *config) { c.Text = "hello" })},
		{"numbers and dates keep their literal text as a string", `{text: 0x1F, maybe: 1.50, key: 2020-01-01}`,
			with(func(c *config) { c.Text, c.Maybe, c.Key = "0x1F", new("1.50"), "2020-01-01" })},
		{"a plain yes is a string for a string and true for a bool", `{text: yes, flag: yes, tri: off}`,
			with(func(c *config) { c.Text, c.Flag, c.Tri = "yes", true, new(false) })},
		{"an empty string is given", `{text: "", maybe: ""}`, with(func(c *config) { c.Maybe = new("") })},
		{"binary text is decoded", "text: !!binary aGVs\n\n  bG8=", with(func(c *config) { c.Text = "hello" })},
		{"an enumeration takes its values, and the empty one if that is the default", `{state: "", level: high}`,
			with(func(c *config) { c.Level = "high" })},
		{"bools are bools in every capitalisation", `{flag: True, tri: FALSE}`, with(func(c *config) { c.Flag, c.Tri = true, new(false) })},
		{"whole numbers in all notations", `{count: 1_000, big: -0x10, small: -128, port: 65535, maybe_n: 0b11}`,
			with(func(c *config) { c.Count, c.Big, c.Small, c.Port, c.MaybeN = 1000, -16, -128, 65535, new(3) })},
		{"a whole number is a number", `rate: 3`, with(func(c *config) { c.Rate = 3 })},
		{"infinity is a number", `rate: -.inf`, with(func(c *config) { c.Rate = math.Inf(-1) })},
		{"a bare number counts the unit", `{wait: 5, pause: 250}`, with(func(c *config) { c.Wait, c.Pause = 5*time.Second, 250*time.Millisecond })},
		{"a bare number may be a fraction of the unit", `{wait: 0.5, pause: 1.5}`,
			with(func(c *config) { c.Wait, c.Pause = 500*time.Millisecond, 1500*time.Microsecond })},
		{"a duration string brings its unit", `{wait: 250ms, pause: 2m, strict: 1h30m}`,
			with(func(c *config) { c.Wait, c.Pause, c.Strict = 250*time.Millisecond, 2*time.Minute, 90*time.Minute })},
		{"a number in quotes is a duration too", `wait: "5"`, with(func(c *config) { c.Wait = 5 * time.Second })},
		{"zero needs no unit", `strict: 0`, newConfig()},
		{"a list", `{list: [a, 5, "true"], choices: [low, high], numbers: [1, 2]}`,
			with(func(c *config) {
				c.List, c.Choices, c.Numbers = []string{"a", "5", "true"}, []level{"low", "high"}, []int{1, 2}
			})},
		{"a lone value is a list of one", `{list: a, numbers: 4}`, with(func(c *config) { c.List, c.Numbers = []string{"a"}, []int{4} })},
		{"an empty list is given", `list: []`, with(func(c *config) { c.List = []string{} })},
		{"a mapping", `env: {A: b, 1: 2}`, with(func(c *config) { c.Env = map[string]string{"A": "b", "1": "2"} })},
		{"a bare mode stays as it is written", `mode: 0644`, with(func(c *config) { c.Mode = "0644" })},
		{"an old name means the same", `txt: hello`, with(func(c *config) { c.Text = "hello" })},
		{"keys of the caller are left alone", `{name: a, meta: {x: y}, text: b}`, with(func(c *config) { c.Text = "b" })},
		{"an explicit tag overrides the look of a value", `{text: !!str true, count: !!int "5"}`,
			with(func(c *config) { c.Text, c.Count = "true", 5 })},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := newConfig()
			if problems := params.Decode(parse(t, test.text), got, "name", "meta"); problems != nil {
				t.Fatalf("problems: %v", problems)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("decoded, -want +got:\n%s", diff)
			}
		})
	}
}

func TestDecodeMerges(t *testing.T) {
	list := parse(t, `
- &base {text: base, count: 1, env: &env {A: b}}
- &more {<<: *base, count: 2, flag: true}
- {<<: [*more, *base], text: own}
- {key: &word there, maybe: *word, env: {<<: *env, C: d}}
- {<<: *base, txt: by its old name}
`).Content
	want := newConfig()
	want.Text, want.Count, want.Flag, want.Env = "own", 2, true, map[string]string{"A": "b"}
	got := newConfig()
	if p := params.Decode(list[2], got); p != nil {
		t.Fatal(p)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("nested merges, -want +got:\n%s", diff)
	}

	want = newConfig()
	want.Key, want.Maybe, want.Env = "there", new("there"), map[string]string{"A": "b", "C": "d"}
	got = newConfig()
	if p := params.Decode(list[3], got); p != nil {
		t.Fatal(p)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("aliases of values, -want +got:\n%s", diff)
	}

	got = newConfig()
	if p := params.Decode(list[4], got); p != nil {
		t.Fatal(p)
	}
	if got.Text != "by its old name" {
		t.Errorf("a merged name overrode an old name of the same parameter: %q", got.Text)
	}
}

func TestDecodeProblems(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"a misspelt name", `contnt: x`, `1:1: unknown parameter "contnt"; did you mean "count"?`},
		{"a misspelt name of the caller", `nmae: x`, `1:1: unknown parameter "nmae"; did you mean "name"?`},
		{"a name like no other", `{text: a, completely: x}`, "1:11: unknown parameter \"completely\"; expected \"text\", \"maybe\", \"state\", \"level\", \"flag\", \"tri\", \"count\", \"big\", " +
			`"small", "port", "maybe_n", "rate", "wait", "pause", "strict", "list", "choices", "numbers", "env", "mode", "key" or "name"`},
		{"a list for a mapping", `[a]`, `1:1: expected a mapping of "key: value", found a list`},
		{"a list for a string", `text: [a]`, `1:7: text: expected a string, found a list`},
		{"a bool for a string", `text: true`, `1:7: text: expected a string, found true; put it in quotes: "true"`},
		{"a template that is not quoted", `text: {a: b}`, `1:7: text: expected a string, found a mapping; put text that begins with { in quotes`},
		{"a tag nobody knows", `text: !env HOME`, `1:7: text: expected a string, found the tag !env; put text that begins with ! in quotes`},
		{"binary that is not base64", `text: !!binary "%"`, `1:7: text: expected base64 after !!binary, found "%"`},
		{"a value that is not allowed", `state: exist`, `1:8: state: expected "exists" or "absent", found "exist"; did you mean "exists"?`},
		{"an empty value where the default is another", `level: ""`, `1:8: level: expected "low" or "high", found ""`},
		{"a number in quotes", `count: "5"`, `1:8: count: expected a whole number, found the string "5"; remove the quotes`},
		{"a fraction for a whole number", `count: 1.5`, `1:8: count: expected a whole number, found the number 1.5`},
		{"a number that is too large", `small: 128`, `1:8: small: expected a whole number from -128 to 127, found 128`},
		{"a negative number where there is none", `port: -1`, `1:7: port: expected a whole number from 0 to 65535, found -1`},
		{"a string for a number", `rate: fast`, `1:7: rate: expected a number, found the string "fast"`},
		{"infinity as in other languages", `rate: inf`, `1:7: rate: expected a number, found the string "inf"; write .inf for infinity`},
		{"a quoted bool", `flag: "true"`, `1:7: flag: expected true or false, found the string "true"; remove the quotes`},
		{"a number for a bool", `flag: 1`, `1:7: flag: expected true or false, found the number 1`},
		{"a tag that the value belies", `flag: !!bool maybe`, `1:7: flag: expected true or false, found maybe`},
		{"a duration nobody can read", `wait: soon`, `1:7: wait: expected a number (in s) or a duration such as 250ms, 5s or 2m, found the string "soon"`},
		{"a duration that is too long", `wait: 1e30`, `1:7: wait: expected a number (in s) or a duration such as 250ms, 5s or 2m, at most 292 years, found the number 1e30`},
		{"no number at all for a duration", `wait: .nan`, `1:7: wait: expected a number (in s) or a duration such as 250ms, 5s or 2m, at most 292 years, found the number .nan`},
		{"a bare number without a unit", `strict: 5`, `1:9: strict: expected a duration such as 250ms, 5s or 2m, found the number 5; add a unit: ns, us, ms, s, m or h`},
		{"a list in a list", `list: [a, [b]]`, `1:11: list: expected a string, found a list`},
		{"nothing in a list", "list:\n- a\n-", `3:2: list: expected a string, found nothing; write "" for an empty string`},
		{"a mapping for a list", `list: {a: b}`, `1:7: list: expected a list of strings, found a mapping; begin each item with "- "`},
		{"a value of a list that is not allowed", `choices: [low, hihg]`, `1:16: choices: expected "low" or "high", found "hihg"; did you mean "high"?`},
		{"a list for a mapping parameter", `env: [A=b]`, `1:6: env: expected a mapping from names to strings, found a list; write each as "key: value"`},
		{"a bool in a mapping", `env: {A: b, C: true}`, `1:16: env: C: expected a string, found true; put it in quotes: "true"`},
		{"a key twice in a mapping parameter", `env: {A: b, A: c}`, `1:13: env: "A" is given twice, first in line 1; keep one of them`},
		{"a key twice", "text: a\ncount: 1\ntext: b", `3:1: "text" is given twice, first in line 1; keep one of them`},
		{"the old and the new name", "text: a\nwords: b", `2:1: words is another name of text, which stands in line 1; keep one of them`},
		{"a list as a key", `{[a]: b}`, `1:2: expected a name before the colon, found a list`},
		{"a merge of something else", "<<: 5", `1:5: << merges mappings, found the number 5`},
		{"several at once", "{count: a, flag: b, text: ok}",
			"1:9: count: expected a whole number, found the string \"a\"\n1:18: flag: expected true or false, found the string \"b\""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := newConfig()
			var lines []string
			for _, p := range params.Decode(parse(t, test.text), got, "name") {
				lines = append(lines, fmt.Sprintf("%d:%d: %v", p.Line, p.Column, p))
			}
			if diff := cmp.Diff(test.want, strings.Join(lines, "\n")); diff != "" {
				t.Errorf("problems, -want +got:\n%s", diff)
			}
			if len(lines) == 1 && got.Text == "" && !cmp.Equal(got, newConfig()) {
				t.Errorf("a wrong value was taken over: %+v", got)
			}
		})
	}
}

func TestDuplicateAmongManyKeys(t *testing.T) {
	var text strings.Builder
	for i := range 40 {
		fmt.Fprintf(&text, "k%d: v\n", i)
	}
	visited := 0
	problems := params.Each(parse(t, text.String()+"k7: again\n"), func(_, _ *yaml.Node, _ bool) { visited++ })
	if len(problems) != 1 || problems[0].Message != `"k7" is given twice, first in line 8` || visited != 40 {
		t.Errorf("visited %d keys, want 40; problems: %v", visited, problems)
	}
}

func TestMergeBombIsWalkedOnce(t *testing.T) {
	// Twenty levels that each merge the level below ten times.
	text := "- &m0 {text: a}\n"
	for i := range 20 {
		alias := strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*m%d, ", i), 10), ", ")
		text += fmt.Sprintf("- &m%d {<<: [%s]}\n", i+1, alias)
	}
	list := parse(t, text).Content
	c := newConfig()
	if p := params.Decode(list[20], c); p != nil || c.Text != "a" {
		t.Errorf("text = %q, problems: %v", c.Text, p)
	}
}

func TestMergeOfItselfEnds(t *testing.T) {
	c := newConfig()
	if p := params.Decode(parse(t, "&a {text: b, <<: *a}"), c); p != nil || c.Text != "b" {
		t.Errorf("text = %q, problems: %v", c.Text, p)
	}
}

func TestDecodeMap(t *testing.T) {
	got := newConfig()
	err := params.DecodeMap(got, map[string]any{
		"text": "5", "maybe": "true", "flag": true, "count": 3, "rate": math.Inf(1), "wait": time.Minute, "pause": 20,
		"list": []string{"a", "null"}, "env": map[string]string{"A": "yes"}, "mode": 0o644, "old": "a\nb\n", "key": "\xff", "tri": nil,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &config{
		Text: "5", Maybe: new("true"), Level: "low", Flag: true, Count: 3, Rate: math.Inf(1), Wait: time.Minute, Pause: 20 * time.Millisecond,
		List: []string{"a", "null"}, Env: map[string]string{"A": "yes"}, Mode: "0644", Old: "a\nb\n", Key: "\xff",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("decoded, -want +got:\n%s", diff)
	}

	err = params.DecodeMap(newConfig(), map[string]any{"text": true, "cuont": 1})
	want2 := "unknown parameter \"cuont\"; did you mean \"count\"?\ntext: expected a string, found true; put it in quotes: \"true\""
	if err == nil || err.Error() != want2 {
		t.Errorf("error = %v, want %s", err, want2)
	}
}

func TestFields(t *testing.T) {
	got := params.Fields(sinks.Spec{Kind: "test", New: func() sinks.Config { return newConfig() }})
	want := []params.Field{
		{Name: "text", Go: "Text", Type: "string", Default: `""`, Aliases: []string{"txt", "words"}},
		{Name: "maybe", Go: "Maybe", Type: "string"},
		{Name: "state", Go: "State", Type: "string", Default: `""`, OneOf: []string{"exists", "absent"}},
		{Name: "level", Go: "Level", Type: "string", Default: "low", OneOf: []string{"low", "high"}},
		{Name: "flag", Go: "Flag", Type: "true or false", Default: "false"},
		{Name: "tri", Go: "Tri", Type: "true or false"},
		{Name: "count", Go: "Count", Type: "whole number", Default: "7"},
		{Name: "big", Go: "Big", Type: "whole number", Default: "0"},
		{Name: "small", Go: "Small", Type: "whole number", Default: "0"},
		{Name: "port", Go: "Port", Type: "whole number", Default: "0"},
		{Name: "maybe_n", Go: "MaybeN", Type: "whole number"},
		{Name: "rate", Go: "Rate", Type: "number", Default: "0"},
		{Name: "wait", Go: "Wait", Type: "duration", Default: "2s", Unit: "s"},
		{Name: "pause", Go: "Pause", Type: "duration", Default: "0s", Unit: "ms"},
		{Name: "strict", Go: "Strict", Type: "duration", Default: "0s"},
		{Name: "list", Go: "List", Type: "list of strings"},
		{Name: "choices", Go: "Choices", Type: "list of strings", OneOf: []string{"low", "high"}},
		{Name: "numbers", Go: "Numbers", Type: "list of whole numbers"},
		{Name: "env", Go: "Env", Type: "mapping of strings"},
		{Name: "mode", Go: "Mode", Type: "file mode", Default: `""`},
		{Name: "key", Go: "Key", Type: "string", Default: `""`, Secret: true},
		{Name: "old", Go: "Old", Type: "string", Default: `""`, Legacy: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fields, -want +got:\n%s", diff)
	}
}

func TestTagsThatMakeNoSensePanic(t *testing.T) {
	for _, test := range []struct {
		name string
		cfg  any
		want string
	}{
		{"an empty name", &struct {
			A string `param:""`
		}{}, "its param tag is empty"},
		{"a field that is not exported", &struct {
			a string `param:"a"`
		}{}, "it is not exported"},
		{"a type that can't be a parameter", &struct {
			A chan int `param:"a"`
		}{}, "no parameter can have the type chan int"},
		{"a unit of something that is no time", &struct {
			A int `param:"a" unit:"s"`
		}{}, `unit "s" suits no int`},
		{"a unit that does not exist", &struct {
			A time.Duration `param:"a" unit:"weeks"`
		}{}, `unit "weeks" suits no time.Duration`},
		{"a choice of numbers", &struct {
			A int `param:"a" oneof:"1 2"`
		}{}, "only strings have a mode or a oneof"},
		{"two fields of one name", &struct {
			A string `param:"a"`
			B string `param:"b" alias:"a"`
		}{}, `the name "a" is taken`},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer func() {
				if r := recover(); r == nil || !strings.Contains(fmt.Sprint(r), test.want) {
					t.Errorf("panic = %v, want %q", r, test.want)
				}
			}()
			params.FieldsOf(test.cfg)
		})
	}
}

func TestEqual(t *testing.T) {
	for _, test := range []struct {
		name string
		a, b sinks.Config
		want bool
	}{
		{"equal values that share nothing", &config{Maybe: new("a"), List: []string{"b"}}, &config{Maybe: new("a"), List: []string{"b"}}, true},
		{"another value behind a pointer", &config{Maybe: new("a")}, &config{Maybe: new("b")}, false},
		{"an empty list and none", &config{List: []string{}}, &config{}, false},
		{"nothing and nothing", nil, nil, true},
		{"nothing and something", nil, &config{}, false},
		{"another kind", &config{}, &twin{}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := params.Equal(test.a, test.b); got != test.want {
				t.Errorf("Equal = %v, want %v", got, test.want)
			}
		})
	}
}

type twin config

func (*twin) Build(string, sinks.Options) (sinks.Resource, error) { return nil, nil }

func TestCloneAndGet(t *testing.T) {
	c := newConfig()
	c.Maybe = new("a")
	d := params.Clone(c).(*config)
	if d == c || !reflect.DeepEqual(c, d) {
		t.Errorf("Clone = %+v, want another like %+v", d, c)
	}
	for _, test := range []struct {
		param string
		value any
		ok    bool
	}{{"maybe", "a", true}, {"txt", "", true}, {"tri", nil, true}, {"count", 7, true}, {"none", nil, false}} {
		if value, ok := params.Get(c, test.param); value != test.value || ok != test.ok {
			t.Errorf("Get(%s) = %v, %v, want %v, %v", test.param, value, ok, test.value, test.ok)
		}
	}
}

func TestLocate(t *testing.T) {
	list := parse(t, "- &base {rate: 1}\n- {words: a, <<: *base, extra: b}").Content
	for _, test := range []struct {
		param        string
		line, column int
	}{{"text", 2, 11}, {"rate", 1, 16}, {"extra", 2, 32}, {"count", 0, 0}} {
		_, value := params.Locate(list[1], newConfig(), test.param)
		line, column := 0, 0
		if value != nil {
			line, column = value.Line, value.Column
		}
		if line != test.line || column != test.column {
			t.Errorf("Locate(%s) = %d:%d, want %d:%d", test.param, line, column, test.line, test.column)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"content", "source", "owner", "mode", "state", "purge", "path"}
	for _, test := range []struct{ name, word, want string }{
		{"a letter too many", "contentt", "content"},
		{"a letter missing", "ontent", "content"},
		{"a wrong letter", "mote", "mode"},
		{"two letters swapped", "soucre", "source"},
		{"capitals", "OWNER", "owner"},
		{"a swap in a short word", "apth", "path"},
		{"nothing near", "banana", ""},
		{"another word of the same length", "size", ""},
		{"an empty word", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, ok := params.Nearest(test.word, known)
			if got != test.want || ok != (test.want != "") {
				t.Errorf("Nearest(%q) = %q, %v, want %q", test.word, got, ok, test.want)
			}
		})
	}
}
