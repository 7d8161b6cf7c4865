package params_test

import (
	"fmt"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/params"
)

// backup is the Config of a kind: a struct with tags.
type backup struct {
	Path  string        `param:"path"`
	Keep  int           `param:"keep"`
	Every time.Duration `param:"every" unit:"s"`
}

func (*backup) Build(string, sinks.Options) (sinks.Resource, error) { return nil, nil }

func ExampleDecode() {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte("name: nightly\npath: /srv\nevery: 24h\nkep: 7\n"), &doc); err != nil {
		panic(err)
	}
	cfg := &backup{Keep: 3}
	for _, p := range params.Decode(doc.Content[0], cfg, "name") {
		fmt.Printf("line %d, column %d: %v\n", p.Line, p.Column, p)
	}
	fmt.Printf("%+v\n", *cfg)
	// Output:
	// line 4, column 1: unknown parameter "kep"; did you mean "keep"?
	// {Path:/srv Keep:3 Every:24h0m0s}
}

func ExampleDecodeMap() {
	cfg := &backup{}
	fmt.Println(params.DecodeMap(cfg, map[string]any{"path": "/srv", "every": 60}))
	fmt.Printf("%+v\n", *cfg)
	fmt.Println(params.DecodeMap(cfg, map[string]any{"keep": "7"}))
	// Output:
	// <nil>
	// {Path:/srv Keep:0 Every:1m0s}
	// keep: expected a whole number, found the string "7"; remove the quotes
}

func ExampleFieldsOf() {
	for _, f := range params.FieldsOf(&backup{Keep: 3}) {
		fmt.Printf("%s (%s, default %s)\n", f.Name, f.Type, f.Default)
	}
	// Output:
	// path (string, default "")
	// keep (whole number, default 3)
	// every (duration, default 0s)
}

func ExampleNearest() {
	fmt.Println(params.Nearest("contnet", []string{"content", "source", "mode"}))
	// Output: content true
}

// A value that another resource sends becomes what the parameter is.
func ExampleSetValue() {
	cfg := &backup{}
	fmt.Println(params.Accepts(cfg, "keep", "", sinks.TypeString))
	for param, value := range map[string]any{"path": "/srv", "keep": int64(7), "every": int64(60)} {
		if err := params.SetValue(cfg, param, "", value); err != nil {
			panic(err)
		}
	}
	fmt.Printf("%+v\n", *cfg)
	// Output:
	// expected a whole number, found a string
	// {Path:/srv Keep:7 Every:1m0s}
}
