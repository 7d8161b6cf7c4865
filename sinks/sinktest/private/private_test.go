package private_test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks/sinktest/private"
)

func TestMain(m *testing.M) { private.Main(m) }

func TestNothingHereIsTheMachines(t *testing.T) {
	private.Need(t)
	for _, ns := range []string{"mnt", "net"} {
		ours, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", os.Getppid(), ns))
		if err != nil {
			t.Fatal(err)
		}
		if ours == theirs {
			t.Errorf("the namespace %s is that of who has started the test", ns)
		}
	}
	links, err := net.Interfaces()
	if err != nil || len(links) == 0 || links[0].Name != "lo" {
		t.Errorf("the interfaces are %v, %v", links, err)
	}
}

func TestEtcIsALayer(t *testing.T) {
	private.Need(t)
	if err := os.WriteFile("/etc/mgmt-private-test", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/etc/mgmt-private-test", os.Getppid())); !os.IsNotExist(err) {
		t.Errorf("the machine has the file that was written: %v", err)
	}
	if passwd, err := os.ReadFile("/etc/passwd"); err != nil || !strings.Contains(string(passwd), "root:") {
		t.Errorf("what was in /etc can't be read: %q, %v", passwd, err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs("/etc", &st); err != nil || st.Type != unix.OVERLAYFS_SUPER_MAGIC {
		t.Errorf("/etc has the type %x, %v", st.Type, err)
	}
}

func ExampleNeed() {
	_ = func(t *testing.T) {
		private.Need(t) // or it is skipped
		if err := unix.Mount("tmpfs", "/mnt", "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
	}
	// Output:
}
