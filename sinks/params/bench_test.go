package params_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/params"
)

// BenchmarkDecode decodes 10,000 resources with three parameters each, after the parse
// that yields the nodes.
func BenchmarkDecode(b *testing.B) {
	var text strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&text, "- {name: r%d, text: hello %d, count: %d, wait: 5}\n", i, i, i)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text.String()), &doc); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, item := range doc.Content[0].Content {
			if p := params.Decode(item, newConfig(), "name"); p != nil {
				b.Fatal(p)
			}
		}
	}
}

// BenchmarkEqual compares two Configs that are equal and don't share anything, beside
// reflect.DeepEqual.
func BenchmarkEqual(b *testing.B) {
	one := func() sinks.Config {
		c := newConfig()
		if err := params.DecodeMap(c, map[string]any{"text": "hello", "maybe": "there", "count": 3}); err != nil {
			b.Fatal(err)
		}
		return c
	}
	x, y := one(), one()
	b.Run("params", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !params.Equal(x, y) {
				b.Fatal("not equal")
			}
		}
	})
	b.Run("DeepEqual", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !reflect.DeepEqual(x, y) {
				b.Fatal("not equal")
			}
		}
	})
}
