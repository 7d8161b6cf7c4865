package sinks_test

import (
	"fmt"

	"github.com/mgmtproject/mgmt/sinks"
)

// A resource that runs a program as a user, and writes a file, needs all this.
func ExampleAddInput() {
	needs := sinks.AddInput(nil, "/opt/tool", "which it runs")
	needs = sinks.AddAccount(needs, sinks.SpaceUser, "www", "as which it runs")
	needs = sinks.AddAccount(needs, sinks.SpaceGroup, "33", "as which it runs") // a number needs no group
	needs = sinks.AddHolders(needs, "/srv/out")
	for _, n := range needs {
		fmt.Printf("%-5s %-9s above=%-5t after X, %s\n", n.Space, n.Name, n.Above, n.Why)
	}
	// Output:
	// file  /opt/tool above=false after X, which it runs
	// owned /opt/tool above=false after X, which brings a file that it uses
	// edits /opt/tool above=false after X, which changes a file that it uses
	// dir   /opt/tool above=true  after X, which holds a file that it uses
	// mount /opt/tool above=true  after X, on which a file is that it uses
	// user  www       above=false after X, as which it runs
	// dir   /srv/out  above=true  after X, which holds it
	// mount /srv/out  above=true  after X, on which it is
}

func ExampleAddInputTree() {
	for _, n := range sinks.AddInputTree(nil, "/srv/in", "its source") {
		if n.Below {
			fmt.Printf("%s below %s: after X, %s\n", n.Space, n.Name, n.Why)
		}
	}
	// Output:
	// dir below /srv/in: after X, which is in a directory that it uses
	// file below /srv/in: after X, which is in a directory that it uses
	// edits below /srv/in: after X, which is in a directory that it uses
}
