package hostname_test

import (
	"os"
	"testing"

	"github.com/mgmtproject/mgmt/sinks/hostname"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sinks/sinktest/needs"
)

// BenchmarkCheck asks a hostnamed that runs.
func BenchmarkCheck(b *testing.B) {
	needs.Systemd(b)
	name, err := os.Hostname()
	if err != nil {
		b.Fatal(err)
	}
	r := sinktest.Build(b, hostname.Spec, "this host", params{"transient_hostname": name})
	for b.Loop() {
		if out, err := r.CheckApply(b.Context(), false); err != nil || out.Changed {
			b.Fatal(out, err)
		}
	}
}
