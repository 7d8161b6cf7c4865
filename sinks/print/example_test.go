package print_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/print"
)

func Example() {
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	r, err := new(print.Config).Build("hello", sinks.Options{Log: log, Ref: "print[hello]"})
	if err != nil {
		panic(err)
	}
	out, err := r.CheckApply(context.Background(), true)
	fmt.Println(out.Changed, err)
	// Output:
	// level=INFO msg=hello res=print[hello]
	// true <nil>
}
