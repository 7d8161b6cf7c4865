package host_test

import (
	"slices"
	"testing"

	"github.com/mgmtproject/mgmt/cmd/internal/testhost/host"
)

func TestControlGroupsAreFound(t *testing.T) {
	for _, tt := range []struct {
		name, groups, mounts string
		want                 []string
	}{
		{
			"one hierarchy",
			"0::/user.slice/session-1.scope\n",
			"30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
			[]string{"/sys/fs/cgroup/user.slice/session-1.scope"},
		},
		{
			"the old ones beside the new one",
			"4:memory:/a/b\n3:cpu,cpuacct:/\n1:name=systemd:/s\n0::/\n",
			"1 0 0:1 / / rw - ext4 /dev/vda rw\n" +
				"2 1 0:2 / /sys/fs/cgroup/cpu,cpuacct rw shared:1 - cgroup cgroup rw,cpuacct,cpu\n" +
				"3 1 0:3 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
				"4 1 0:4 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n" +
				"5 1 0:5 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			[]string{"/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/systemd/s", "/sys/fs/cgroup/unified"},
		},
		{
			"in a container that sees its own group only",
			"0::/docker/1234/inner\n",
			"30 25 0:26 /docker/1234 /sys/fs/cgroup rw - cgroup2 cgroup rw\n",
			[]string{"/sys/fs/cgroup/inner"},
		},
		{
			"a mount from elsewhere is none of ours",
			"0::/here\n",
			"30 25 0:26 /there /sys/fs/cgroup rw - cgroup2 cgroup rw\n",
			nil,
		},
		{
			"a hierarchy that is not mounted",
			"2:pids:/x\n0::/\n",
			"30 25 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n",
			[]string{"/sys/fs/cgroup"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := host.CgroupDirs(tt.groups, tt.mounts); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
