package table_test

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sources/mounts/table"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// text has /a/b below what is mounted over /a later, and two mounts on /c.
const text = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / /proc rw - proc proc rw
30 22 8:2 / /a rw - ext4 /dev/sda2 rw
31 30 8:3 / /a/b rw - ext4 /dev/sda3 rw
32 30 8:4 / /a rw - ext4 /dev/sda4 rw
40 22 0:40 / /c rw - tmpfs one rw,size=1024k
41 40 0:41 / /c ro,nosuid - tmpfs two rw,size=1024k
50 22 0:50 / /with\040blank rw - tmpfs three rw
`

func TestAt(t *testing.T) {
	now, err := table.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ path, at, holding string }{
		{"/", "/dev/sda1", "/dev/sda1"},
		{"/proc", "proc", "proc"},
		{"/proc/self", "", "proc"},
		{"/procedure", "", "/dev/sda1"},
		{"/a", "/dev/sda4", "/dev/sda4"},
		{"/a/b", "", "/dev/sda4"},
		{"/c", "two", "two"},
		{"/c/d/e", "", "two"},
		{"/with blank", "three", "three"},
	} {
		at := ""
		if m := now.At(test.path); m != nil {
			at = m.Source
		}
		if holding := now.Holding(test.path).Source; at != test.at || holding != test.holding {
			t.Errorf("at %s is %q, and it lies on %q; want %q and %q", test.path, at, holding, test.at, test.holding)
		}
	}
}

// TestBelowAChangedRoot has a table that begins below what the root lies on.
func TestBelowAChangedRoot(t *testing.T) {
	now, err := table.Parse([]byte("50 99 0:50 / /a rw - tmpfs a rw\n51 50 0:51 / /a/b rw - tmpfs b rw\n"))
	if err != nil {
		t.Fatal(err)
	}
	if now.Holding("/") != nil || now.At("/a").Source != "a" || now.At("/a/b").Source != "b" {
		t.Errorf("it has %v, %v and %v", now.Holding("/"), now.At("/a"), now.At("/a/b"))
	}
}

func TestParseRefuses(t *testing.T) {
	if _, err := table.Parse([]byte("1 2 3\n")); err == nil {
		t.Error("what is no table is accepted")
	}
}

func TestDiffering(t *testing.T) {
	got := table.Differing(map[string]uint64{"/a": 1, "/b": 2, "/c": 3}, map[string]uint64{"/a": 1, "/b": 3, "/d": 4})
	slices.Sort(got)
	if fmt.Sprint(got) != "[/b /c /d]" {
		t.Errorf("%v differ", got)
	}
}

func TestCloseEndsWait(t *testing.T) {
	tab, err := table.Open()
	if err != nil {
		t.Skip("needs proc:", err)
	}
	ended, looked := make(chan error, 1), make(chan struct{}, 1)
	go func() {
		ended <- tab.Wait(func() bool {
			select {
			case looked <- struct{}{}:
			default:
			}
			return false
		})
	}()
	<-looked
	tab.Close()
	tab.Close()
	if err := <-ended; err != os.ErrClosed {
		t.Errorf("Wait ended with %v", err)
	}
	if err := tab.Wait(func() bool { return true }); err != os.ErrClosed {
		t.Errorf("Wait of a closed table says %v", err)
	}
}

func ExampleNow() {
	now, err := table.Now()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(now.Holding("/proc/self/mountinfo").FSType)
	// Output: proc
}

func ExampleUnescape() {
	fmt.Println(table.Unescape(`/mnt/my\040disk`))
	// Output: /mnt/my disk
}
