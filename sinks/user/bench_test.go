package user_test

import (
	"testing"

	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sinks/sinktest/needs"
	"github.com/mgmtproject/mgmt/sinks/user"
)

// BenchmarkCreate makes a user by the bare tool, and by a resource. The removal is not
// counted.
func BenchmarkCreate(b *testing.B) {
	needs.Systemd(b)
	r := sinktest.Build(b, user.Spec, "bench", nil)
	for _, by := range []struct {
		name   string
		create func() error
	}{
		{"by=useradd", run("useradd --no-create-home -- bench")},
		{"by=resource", func() error { _, err := r.CheckApply(b.Context(), true); return err }},
	} {
		b.Run(by.name, func(b *testing.B) {
			for b.Loop() {
				if err := by.create(); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := run("userdel bench")(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkCheck looks at a user who is as desired.
func BenchmarkCheck(b *testing.B) {
	r := sinktest.Build(b, user.Spec, "root", params{"uid": 0, "homedir": "/root", "group": "root"})
	for b.Loop() {
		if out, err := r.CheckApply(b.Context(), false); err != nil || out.Changed {
			b.Fatal(out, err)
		}
	}
}
