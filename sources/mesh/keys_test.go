package mesh_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mgmtproject/mgmt/sources/mesh"
)

func ExampleExportKey() {
	key := mesh.ExportKey("web1", "file", "/etc/motd")
	fmt.Println(key)
	fmt.Println(mesh.ParseExportKey(key))
	// Output:
	// /mgmt/export/web1/file/%2Fetc%2Fmotd
	// web1 file /etc/motd <nil>
}

func ExampleBelow() {
	fmt.Println(mesh.Key(mesh.KVPrefix + "colour"))
	fmt.Println(mesh.Below(mesh.ExportPrefix))
	fmt.Println(mesh.Key("/x") == mesh.Watch{Key: "/x"})
	// Output:
	// /mgmt/shared/kv/colour
	// /mgmt/export/...
	// true
}

func TestAnExportKeyCanBeTakenApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		host := rapid.StringMatching(`[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?`).Draw(t, "host")
		kind, name := rapid.String().Draw(t, "kind"), rapid.String().Draw(t, "name")
		if err := mesh.CheckHost(host); err != nil {
			t.Fatal(err)
		}
		key := mesh.ExportKey(host, kind, name)
		h, k, n, err := mesh.ParseExportKey(key)
		if h != host || k != kind || n != name || err != nil {
			t.Fatalf("%q became %q %q %q, %v", key, h, k, n, err)
		}
		if !strings.HasPrefix(key, mesh.ExportPrefix+host+"/") {
			t.Fatalf("%q is not in the directory of %s", key, host)
		}
	})
}

// What hosts may write is given by prefixes, so no name may lead into the directory of
// another host.
func TestTheKeysOfTwoHostsHaveNothingInCommon(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[A-Za-z0-9]([A-Za-z0-9._-]{0,3}[A-Za-z0-9])?`)
		a, b := name.Draw(t, "a"), name.Draw(t, "b")
		key := mesh.ExportKey(b, rapid.String().Draw(t, "kind"), rapid.String().Draw(t, "name"))
		if a != b && strings.HasPrefix(key, mesh.ExportPrefix+a+"/") {
			t.Fatalf("%q is in the directory of %s", key, a)
		}
	})
}

func TestWhatIsNoExportKeyIsRefused(t *testing.T) {
	for _, key := range []string{
		"", "/mgmt/export/", "/mgmt/export/a", "/mgmt/export/a/file", "/mgmt/export/a/file/b/c",
		"/mgmt/alive/a/file/b", "/mgmt/export/a/%zz/b", "/mgmt/export/a/file/%2", "x/mgmt/export/a/file/b",
	} {
		if h, k, n, err := mesh.ParseExportKey(key); err == nil || !strings.Contains(err.Error(), "is no key of an exported resource") {
			t.Errorf("%q became %q %q %q, %v", key, h, k, n, err)
		}
	}
}

func TestNamesOfHosts(t *testing.T) {
	for _, name := range []string{"a", "A9", "web-1.example_org", strings.Repeat("a", 253)} {
		if err := mesh.CheckHost(name); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"", "-a", "a.", "a/b", "a b", "é", "a\n", "..", strings.Repeat("a", 254)} {
		if err := mesh.CheckHost(name); err == nil {
			t.Errorf("%q passes", name)
		}
	}
}
