package cron_test

import (
	"fmt"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/cron"
)

func Example() {
	r, err := (&cron.Config{Trigger: "OnCalendar", Time: "daily", Startup: "enabled"}).Build("backup", sinks.Options{})
	if err != nil {
		panic(err)
	}
	for _, what := range r.(sinks.Owner).Owns() {
		fmt.Println(what)
	}
	// Output:
	// path /etc/systemd/system/backup.timer
	// unit backup.timer
}
