package noop_test

import (
	"testing"

	"github.com/mgmtproject/mgmt/sinks/noop"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

func TestConformance(t *testing.T) {
	sinktest.Run(t, noop.Spec,
		sinktest.Case{Name: "it is always as desired", Resource: "nothing"},
		sinktest.Case{Name: "a comment changes nothing", Resource: "nothing", Params: map[string]any{"comment": "a place to meet"}},
	)
}
