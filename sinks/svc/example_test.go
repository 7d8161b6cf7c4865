package svc_test

import (
	"fmt"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/svc"
)

func Example() {
	r, err := (&svc.Config{State: "running", Startup: "enabled"}).Build("nginx", sinks.Options{})
	if err != nil {
		panic(err)
	}
	fmt.Println(r.(sinks.Owner).Owns())
	for _, w := range r.Watches()[:3] {
		fmt.Println(w.Source(), w)
	}
	_, err = (&svc.Config{State: "running", Startup: "masked"}).Build("nginx", sinks.Options{})
	fmt.Println(err)
	// Output:
	// [unit nginx.service]
	// systemd nginx.service
	// inotify /etc/systemd/system/nginx.service
	// inotify /etc/systemd/system/nginx.service.d/**
	// startup: what is masked can't be running
}
