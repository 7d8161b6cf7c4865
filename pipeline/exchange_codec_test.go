package pipeline_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	allsinks "github.com/mgmtproject/mgmt/sinks/all"
	"github.com/mgmtproject/mgmt/sinks/params"
)

// TestWhatIsPublishedIsWhatWasExported sends all resources of all examples to another host.
func TestWhatIsPublishedIsWhatWasExported(t *testing.T) {
	reg, err := sinks.NewRegistry(append(slices.Clone(allsinks.Specs), stepSpec)...)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../examples/*/*.yaml")
	if err != nil || len(files) < len(allsinks.Specs) {
		t.Fatalf("found only the examples %q, %v", files, err)
	}
	kinds := map[string]bool{}
	check := func(t *testing.T, v *pipeline.Vertex) {
		t.Helper()
		spec, _ := reg.Spec(v.Kind)
		got, err := pipeline.Repack(v, spec)
		if err != nil {
			t.Errorf("%v: %v", v, err)
			return
		}
		kinds[v.Kind] = true
		if diff := diffConfigs(v.Config, got.Config); diff != "" {
			t.Errorf("%v: -want +got:\n%s", v, diff)
		}
		want := *v.Meta
		want.Export = nil
		if diff := gocmp.Diff(&want, got.Meta); diff != "" {
			t.Errorf("%v: -want +got:\n%s", v, diff)
		}
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		g, err := pipeline.Load(file, text, reg)
		if err != nil {
			continue // that is an example of a mistake
		}
		for _, v := range slices.Concat(g.Vertices, g.Exports) {
			check(t, v)
		}
	}
	for _, spec := range allsinks.Specs {
		if !kinds[spec.Kind] {
			t.Errorf("no example of %s", spec.Kind)
		}
	}
	var g pipeline.Graph
	check(t, g.Add("step", "meta", &stepConfig{}, func(m *pipeline.Meta) {
		*m = pipeline.Meta{
			Noop: true, Retry: -1, RetryReset: true, Delay: time.Second, Backoff: true, MaxDelay: time.Hour, Timeout: time.Millisecond, Poll: time.Minute,
			Limit: 0.25, Burst: 3, Sema: []string{"a:2"}, Reset: true, Rewatch: true, Realize: true, Hidden: true, Export: []string{"b"}, Reverse: true, Secret: true, Safe: true,
		}
	}))
	check(t, g.Add("step", "limitless", &stepConfig{}, func(m *pipeline.Meta) { m.Limit, m.Retry = math.Inf(1), 1 }))
	text := "not \xff\x00 text, \u2028 \U0001f600 and\n\ttabs: 'quotes' \"of\" all & *kinds*\r\n"
	check(t, g.Add("step", "strange", &stepConfig{In: text, Values: []string{"", " ", "0644", "~", "true", "1e3", text}, Takes: 1500 * time.Microsecond}))
}

// diffConfigs compares what the parameters are, and what they are not.
func diffConfigs(a, b sinks.Config) string {
	if params.Equal(a, b) {
		return ""
	}
	return fmt.Sprintf("- %#v\n+ %#v\n", a, b)
}

// FuzzUnpack reads what a host that means ill may publish: it must not panic.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte(`{"v": 1, "params": "path: /x\nmode: \"0644\"\n", "meta": "retry: 3\n", "hosts": ["a"], "sealed": "aGVsbG8="}`))
	f.Add([]byte(`{"v": 1, "params": "- a\n- b\n", "meta": "a: &a [*a]\n"}`))
	f.Add([]byte(`{"v": 1, "params": "path: &a {<<: *a}\n"}`))
	reg, err := sinks.NewRegistry(allsinks.Specs...)
	if err != nil {
		f.Fatal(err)
	}
	spec, _ := reg.Spec("file")
	f.Fuzz(func(t *testing.T, value []byte) {
		v, err := pipeline.Unpack(value, spec)
		if err != nil || v.Config == nil || v.Meta == nil {
			return
		}
		again, err := pipeline.Repack(v, spec)
		if err != nil {
			t.Fatalf("what was published can't be published: %v", err)
		}
		if diff := diffConfigs(v.Config, again.Config); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}
