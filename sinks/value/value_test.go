package value_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sinks/value"
)

type params = map[string]any

func TestConformance(t *testing.T) {
	sinktest.Run(t, value.Spec,
		sinktest.Case{Name: "a string", Resource: "conformance 1", Params: params{"value": "a"}},
		sinktest.Case{Name: "the empty string", Resource: "conformance 2", Params: params{"value": ""}},
		sinktest.Case{Name: "a list", Resource: "conformance 3", Params: params{"list": []string{"a", "b"}}},
		sinktest.Case{Name: "a mapping", Resource: "conformance 4", Params: params{"map": params{"a": "b"}}},
	)
	sinktest.Invalid(t, value.Spec, "a", nil, "value: it is missing, and so are list and map")
	sinktest.Invalid(t, value.Spec, "a", params{"value": []string{"a"}}, "value: expected a string")
}

// TestSends goes through the values that a resource has one after the other, each time
// built anew as the engine does.
func TestSends(t *testing.T) {
	var run sinks.Shared
	for _, step := range []struct {
		name    string
		config  value.Config
		check   bool // only
		changes string
		values  string
	}{
		{"the first value is no change", value.Config{Value: new("a")}, false, "", "map[value:a]"},
		{"the same one is none", value.Config{Value: new("a")}, false, "", "map[value:a]"},
		{"a check tells what would change", value.Config{Value: new("b")}, true, "[value: a -> b]", "map[value:b]"},
		{"and does not count", value.Config{Value: new("b")}, false, "[value: a -> b]", "map[value:b]"},
		{"now it is the same", value.Config{Value: new("b")}, false, "", "map[value:b]"},
		{"a secret is sent and not shown", value.Config{Value: new("c"), Secret: true}, false, "[value: (secret) -> (secret)]", "map[value:c]"},
		{"a list takes its place", value.Config{List: []string{"x", "y z"}}, false, `[value: c -> (none) list: (none) -> ["x" "y z"]]`, "map[list:[x y z]]"},
		{"an empty list is one", value.Config{List: []string{}}, false, `[list: ["x" "y z"] -> []]`, "map[list:[]]"},
		{"a mapping in the order of its keys", value.Config{Map: map[string]string{"b": "2", "a": "1"}}, false,
			`[list: [] -> (none) map: (none) -> {a: "1", b: "2"}]`, "map[map:map[a:1 b:2]]"},
		{"all of them", value.Config{Value: new(""), List: []string{"l"}, Map: map[string]string{"a": "1"}}, false,
			`[value: (none) -> "" list: (none) -> ["l"] map: {a: "1", b: "2"} -> {a: "1"}]`, "map[list:[l] map:map[a:1] value:]"},
	} {
		r, err := step.config.Build("x", sinks.Options{Shared: &run})
		if err != nil {
			t.Fatal(err)
		}
		out, err := r.CheckApply(t.Context(), !step.check)
		changes := ""
		if out.Changed {
			changes = fmt.Sprint(out.Changes)
		}
		if err != nil || changes != step.changes || fmt.Sprint(out.Values) != step.values || out.Changed != (len(out.Changes) > 0) {
			t.Errorf("%s: got %s, %v, %v; want %s, %s", step.name, changes, out.Values, err, step.changes, step.values)
		}
	}
	other, err := (&value.Config{Value: new("z")}).Build("another", sinks.Options{Shared: &run})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := other.CheckApply(t.Context(), true); err != nil || out.Changed {
		t.Errorf("what one has sent counts for another: %v, %v", out, err)
	}
}

// TestOwned sees that nobody gets hold of what is kept.
func TestOwned(t *testing.T) {
	c := &value.Config{List: []string{"a"}, Map: map[string]string{"a": "b"}}
	r, err := c.Build("owned", sinks.Options{Shared: new(sinks.Shared)})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		out, err := r.CheckApply(context.Background(), true)
		if err != nil || fmt.Sprint(out.Values) != "map[list:[a] map:map[a:b]]" || out.Changed {
			t.Fatalf("got %v, %v", out, err)
		}
		out.Values["list"].([]string)[0] = "x"
		out.Values["map"].(map[string]string)["a"] = "x"
		c.List[0], c.Map["a"] = "y", "y"
	}
}

func TestOutputs(t *testing.T) {
	for _, c := range []*value.Config{{}, {Secret: true}} {
		for _, o := range c.Outputs() {
			if o.Secret != c.Secret {
				t.Errorf("%+v of %+v", o, c)
			}
		}
	}
}
