package params_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/params"
)

type word string

// receiver has a parameter of each type.
type receiver struct {
	Text    string            `param:"text"`
	Maybe   *string           `param:"maybe" alias:"perhaps"`
	Word    word              `param:"word"`
	State   string            `param:"state" oneof:"on off"`
	Mode    string            `param:"mode" mode:"octal"`
	Flag    bool              `param:"flag"`
	Count   int8              `param:"count"`
	Many    *int64            `param:"many"`
	Size    uint16            `param:"size"`
	Share   float64           `param:"share"`
	Wait    time.Duration     `param:"wait" unit:"ms"`
	Bare    time.Duration     `param:"bare"`
	Words   []string          `param:"words"`
	Numbers []int             `param:"numbers"`
	Env     map[string]string `param:"env"`
	Counts  map[string]int    `param:"counts"`
	Token   string            `param:"token" secret:"true"`
	Said    string            `param:"said" shown:"true"`
}

func (*receiver) Build(string, sinks.Options) (sinks.Resource, error) { return nil, nil }

// sent are values of each type of an output.
var sent = map[sinks.Type]any{
	sinks.TypeString: "s", sinks.TypeInt: int64(7), sinks.TypeFloat: 0.5, sinks.TypeBool: true,
	sinks.TypeStrings: []string{"a", "b"}, sinks.TypeMap: map[string]string{"a": "b"},
}

// TestAccepts compares all types of outputs with all parameters, and has SetValue agree.
func TestAccepts(t *testing.T) {
	scalars := "string int float bool"
	for _, test := range []struct{ param, key, takes, wanted string }{
		{"text", "", scalars, "a string"},
		{"maybe", "", scalars, "a string"},
		{"perhaps", "", scalars, "a string"},
		{"word", "", scalars, "a string"},
		{"mode", "", scalars, "a file mode"},
		{"flag", "", "bool", "true or false"},
		{"count", "", "int", "a whole number"},
		{"many", "", "int", "a whole number"},
		{"size", "", "int", "a whole number"},
		{"share", "", "int float", "a number"},
		{"wait", "", "int", "a duration"},
		{"bare", "", "", "a duration"},
		{"words", "", "string strings", "a list of strings"},
		{"numbers", "", "", "a list of whole numbers"},
		{"env", "", "map", "a mapping of strings"},
		{"env", "KEY", scalars, "a string"},
		{"counts", "", "", "a mapping of whole numbers"},
		{"counts", "key", "int", "a whole number"},
	} {
		for kind, value := range sent {
			err := params.Accepts(&receiver{}, test.param, test.key, kind)
			want := slices.Contains(strings.Fields(test.takes), string(kind))
			mismatch, _ := errors.AsType[*params.Mismatch](err)
			if want != (err == nil) || !want && (mismatch == nil || mismatch.Wanted != test.wanted || mismatch.Sent != params.TypeName(kind)) {
				t.Errorf("%s %s takes %s: %v, want one of %q, or that it is %s", test.param, test.key, kind, err, test.takes, test.wanted)
			}
			set := params.SetValue(&receiver{}, test.param, test.key, value)
			if want != (set == nil) {
				t.Errorf("%s %s is set to %v: %v, but Accepts says %v", test.param, test.key, value, set, err)
			}
		}
	}
	if err := params.Accepts(&receiver{}, "txet", "", sinks.TypeString); err == nil || err.Error() != `unknown parameter "txet"; did you mean "text"?` {
		t.Errorf("an unknown parameter: %v", err)
	}
	_, isKey := errors.AsType[*params.NotAMap](params.Accepts(&receiver{}, "text", "key", sinks.TypeString))
	if !isKey {
		t.Error("a key of a string is accepted")
	}
}

func TestSetValue(t *testing.T) {
	for _, test := range []struct {
		name, param, key string
		value            any
		want             receiver
		err              string
	}{
		{"a string", "text", "", "a", receiver{Text: "a"}, ""},
		{"a string that is no text", "text", "", "\xff\x00", receiver{Text: "\xff\x00"}, ""},
		{"an empty string is given", "maybe", "", "", receiver{Maybe: new("")}, ""},
		{"an old name", "perhaps", "", "a", receiver{Maybe: new("a")}, ""},
		{"a named string", "word", "", "a", receiver{Word: "a"}, ""},
		{"a number as a string", "text", "", int64(-12), receiver{Text: "-12"}, ""},
		{"a large number as a string", "text", "", 1234567.0, receiver{Text: "1234567"}, ""},
		{"a fraction as a string", "text", "", 0.1, receiver{Text: "0.1"}, ""},
		{"a huge number as a string", "text", "", 1e21, receiver{Text: "1e+21"}, ""},
		{"infinity as a string", "text", "", math.Inf(-1), receiver{Text: "-.inf"}, ""},
		{"true as a string", "text", "", true, receiver{Text: "true"}, ""},
		{"a word that is allowed", "state", "", "off", receiver{State: "off"}, ""},
		{"a word that is not", "state", "", "of", receiver{}, `state: expected "on" or "off", found "of"`},
		{"a mode", "mode", "", "0600", receiver{Mode: "0600"}, ""},
		{"a mode as a number", "mode", "", int64(0o600), receiver{Mode: "0600"}, ""},
		{"false", "flag", "", false, receiver{}, ""},
		{"true", "flag", "", true, receiver{Flag: true}, ""},
		{"a whole number", "count", "", int64(-128), receiver{Count: -128}, ""},
		{"one that is too large", "count", "", int64(128), receiver{}, "count: expected a whole number from -128 to 127, found 128"},
		{"one below zero", "size", "", int64(-1), receiver{}, "size: expected a whole number from 0 to 65535, found -1"},
		{"a whole number where a fraction may be", "share", "", int64(3), receiver{Share: 3}, ""},
		{"infinity", "share", "", math.Inf(1), receiver{Share: math.Inf(1)}, ""},
		{"a number of milliseconds", "wait", "", int64(1500), receiver{Wait: 1500 * time.Millisecond}, ""},
		{"more than a duration can be", "wait", "", int64(math.MaxInt64), receiver{}, "wait: expected a number (in ms) or a duration such as 250ms, 5s or 2m, at most 292 years, found the number 9223372036854775807"},
		{"a list", "words", "", []string{"a", "true"}, receiver{Words: []string{"a", "true"}}, ""},
		{"an empty list", "words", "", []string{}, receiver{Words: []string{}}, ""},
		{"a list of one", "words", "", "a b", receiver{Words: []string{"a b"}}, ""},
		{"a mapping", "env", "", map[string]string{"A": "1", "": "2"}, receiver{Env: map[string]string{"A": "1", "": "2"}}, ""},
		{"a key of a mapping that is not there", "env", "A.B", "1", receiver{Env: map[string]string{"A.B": "1"}}, ""},
		{"a Go type that no output has", "count", "", 1, receiver{}, "the sender has sent a int, which is no type of an output"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got receiver
			err := params.SetValue(&got, test.param, test.key, test.value)
			if text := errorText(err); text != test.err {
				t.Errorf("error %q, want %q", text, test.err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestSetValueLeavesTheOriginalOfACloneAlone(t *testing.T) {
	a := &receiver{Env: map[string]string{"A": "1"}, Maybe: new("a"), Words: []string{"x"}}
	b := params.Clone(a).(*receiver)
	for _, err := range []error{
		params.SetValue(b, "env", "B", "2"), params.SetValue(b, "env", "A", "3"),
		params.SetValue(b, "maybe", "", "b"), params.SetValue(b, "words", "", "y"),
		params.Pretend(params.Clone(a), "env", "A", "z", 0),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(&receiver{Env: map[string]string{"A": "1"}, Maybe: new("a"), Words: []string{"x"}}, a); diff != "" {
		t.Errorf("the original has changed:\n%s", diff)
	}
	if diff := cmp.Diff(&receiver{Env: map[string]string{"A": "3", "B": "2"}, Maybe: new("b"), Words: []string{"y"}}, b); diff != "" {
		t.Errorf("the clone, -want +got:\n%s", diff)
	}
}

func TestPretend(t *testing.T) {
	var got receiver
	for _, param := range []string{"text", "maybe", "word", "state", "mode", "flag", "count", "many", "size", "share", "wait", "bare", "words", "numbers", "env", "counts"} {
		if err := params.Pretend(&got, param, "", "/x", 1); err != nil {
			t.Errorf("%s: %v", param, err)
		}
	}
	if err := params.Pretend(&got, "counts", "a", "/x", 1); err != nil {
		t.Error(err)
	}
	want := receiver{
		Text: "/x", Maybe: new("/x"), Word: "/x", State: "off", Mode: "0644", Flag: true, Count: 32, Many: new(int64(32)), Size: 32, Share: 32,
		Wait: 32 * time.Second, Bare: 32 * time.Second, Words: []string{"/x"}, Numbers: []int{32}, Env: map[string]string{"received": "/x"}, Counts: map[string]int{"a": 32},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if err := params.Pretend(&got, "text", "a", "/x", 1); err == nil {
		t.Error("a key of a string is set")
	}
}

func TestNameOf(t *testing.T) {
	for _, test := range []struct{ name, want string }{{"perhaps", "maybe"}, {"maybe", "maybe"}, {"none", "none"}} {
		if got := params.NameOf(&receiver{}, test.name); got != test.want {
			t.Errorf("%s is a name of %s, want %s", test.name, got, test.want)
		}
	}
}

func TestSecretAndShown(t *testing.T) {
	cfg := &receiver{}
	if !params.IsSecret(cfg, "token") || params.IsSecret(cfg, "said") || params.IsSecret(cfg, "none") {
		t.Error("secret is token alone")
	}
	if !params.IsShown(cfg, "said") || params.IsShown(cfg, "token") || params.IsShown(cfg, "none") {
		t.Error("shown is said alone")
	}
}

// What comes from elsewhere is left alone; all else is decoded as ever.
func TestDecodeExcept(t *testing.T) {
	const text = `
text: {from: a}
maybe: {a: b}
perhaps: c
words: [{from: a}]
env: {A: "1", B: {from: b}, C: {c: d}}
counts: {from: c}
count: 3
`
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	var asked []string
	var got receiver
	wrong := params.DecodeExcept(doc.Content[0], &got, func(param, key string, fits bool, value *yaml.Node) bool {
		if fits != (key == "" && (param == "env" || param == "counts")) {
			t.Errorf("%s.%s is a map: %v", param, key, fits)
		}
		asked = append(asked, strings.TrimSuffix(param+"."+key, "."))
		return len(value.Content) > 0 && value.Content[0].Value == "from"
	})
	var messages []string
	for _, p := range wrong {
		messages = append(messages, p.Error())
	}
	if diff := cmp.Diff([]string{"text", "maybe", "env", "env.B", "env.C", "counts"}, asked); diff != "" {
		t.Errorf("asked, -want +got:\n%s", diff)
	}
	want := []string{
		"maybe: expected a string, found a mapping; put text that begins with { in quotes",
		"perhaps is another name of maybe, which stands in line 3; keep one of them",
		"words: expected a string, found a mapping; only a whole list can be received",
		"env: C: expected a string, found a mapping; put text that begins with { in quotes",
	}
	if diff := cmp.Diff(want, messages); diff != "" {
		t.Errorf("problems, -want +got:\n%s", diff)
	}
	if got.Count != 3 || got.Text != "" || got.Counts != nil {
		t.Errorf("got %+v", got)
	}
}

func TestHasType(t *testing.T) {
	for kind, value := range sent {
		for other := range sent {
			if params.HasType(value, other) != (kind == other) {
				t.Errorf("%v is of type %s: %v", value, other, kind != other)
			}
		}
	}
	if params.HasType(1, sinks.TypeInt) || params.HasType(nil, "") {
		t.Error("a Go type that no output has is of a type")
	}
}
