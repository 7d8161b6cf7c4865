package sinktest

import (
	"fmt"
	"testing"

	"github.com/mgmtproject/mgmt/sinks"
)

// Edges builds a resource and says in lines what it provides and needs, so that a test
// can compare: "provides file /etc/motd", "needs dir above /etc/motd, which holds it".
func Edges(t testing.TB, cfg sinks.Config, name string) []string {
	t.Helper()
	r, err := cfg.Build(name, sinks.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	if p, ok := r.(sinks.Provider); ok {
		for _, f := range p.Provides() {
			lines = append(lines, fmt.Sprintf("provides %s %s", f.Space, f.Name))
		}
	}
	if n, ok := r.(sinks.Needer); ok {
		for _, need := range n.Needs() {
			where := ""
			switch {
			case need.Above:
				where = "above "
			case need.Below:
				where = "below "
			}
			lines = append(lines, fmt.Sprintf("needs %s %s%s, %s", need.Space, where, need.Name, need.Why))
		}
	}
	return lines
}
