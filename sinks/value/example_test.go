package value_test

import (
	"context"
	"fmt"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/value"
)

func Example() {
	var run sinks.Shared
	for _, version := range []string{"1.2", "1.2", "1.3"} {
		cfg := &value.Config{Value: &version}
		r, err := cfg.Build("version", sinks.Options{Shared: &run})
		if err != nil {
			panic(err)
		}
		out, err := r.CheckApply(context.Background(), true)
		fmt.Println(out.Values["value"], out.Changes, err)
	}
	for _, o := range (&value.Config{}).Outputs() {
		fmt.Println(o.Name, o.Type)
	}
	// Output:
	// 1.2 [] <nil>
	// 1.2 [] <nil>
	// 1.3 [value: 1.2 -> 1.3] <nil>
	// value string
	// list strings
	// map map
}
