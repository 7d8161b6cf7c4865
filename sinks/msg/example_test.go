package msg_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/msg"
)

func Example() {
	r, err := (&msg.Config{
		Body:     "the certificate was renewed",
		Priority: "notice",
		Fields:   map[string]string{"host": "www"},
	}).Build("renewed", sinks.Options{Log: slog.New(handler(os.Stdout)), Ref: "msg[renewed]"})
	if err != nil {
		panic(err)
	}
	out, err := r.CheckApply(context.Background(), true)
	fmt.Println(out.Changed, err)
	// Output:
	// level=INFO msg="the certificate was renewed" res=msg[renewed] host=www
	// true <nil>
}
