package mesh_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/mgmtproject/mgmt/cmd/internal/mesh"
)

func flags(s *mesh.Settings) *pflag.FlagSet {
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	s.Flags(f)
	return f
}

func TestSettingsArriveAtThePeer(t *testing.T) {
	var agent, peer mesh.Settings
	args := []string{
		"--hostname", "a", "--seeds", "192.0.2.1:2379, https://b.example:2379", "--seeds=[::1]:1", "--client-urls=http://127.0.0.1:0",
		"--server-urls", "http://127.0.0.1:1,http://127.0.0.2:1", "--advertise-client-urls=http://a:1", "--advertise-server-urls=http://a:2",
		"--no-server", "--ideal-size=3", "--insecure",
	}
	if err := flags(&agent).Parse(args); err != nil {
		t.Fatal(err)
	}
	if err := flags(&peer).Parse(agent.Args()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(agent, peer); diff != "" {
		t.Errorf("(-agent +peer)\n%s", diff)
	}
	if want := (mesh.Addresses{"192.0.2.1:2379", "https://b.example:2379", "[::1]:1"}); !cmp.Equal(agent.Seeds, want) {
		t.Errorf("the seeds are %q", agent.Seeds)
	}
	if strings.Contains(strings.Join((&mesh.Settings{Join: "secret"}).Args(), " "), "secret") {
		t.Error("a list of processes shows the token")
	}
}

func TestMistakesInSettings(t *testing.T) {
	for _, tt := range []struct{ name, arg, want string }{
		{"a host with a slash", "--hostname=a/b", `"a/b" is no name for a host`},
		{"an address without a port", "--seeds=192.0.2.1", `"192.0.2.1" has no port`},
		{"an address without a port, but with a scheme", "--seeds=http://a", `"http://a" has no port`},
		{"no address", "--seeds=a:1,,b:1", "an address is missing"},
		{"another scheme", "--client-urls=ftp://a:1", `"ftp://a:1" is not an address such as`},
		{"a path", "--client-urls=http://a:1/x", `"http://a:1/x" is not an address such as`},
		{"an even number of servers", "--ideal-size=4", `"4" is not one of 1, 3, 5, 7, 9`},
		{"no number of servers", "--ideal-size=many", `"many" is not one of`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var s mesh.Settings
			if err := flags(&s).Parse([]string{tt.arg}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("the error is %v, want %s", err, tt.want)
			}
		})
	}
}

func TestATokenMayBeInAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var s mesh.Settings
	if err := flags(&s).Parse([]string{"--join=@" + path}); err != nil || s.Join != "secret" {
		t.Errorf("it is %q (%v)", s.Join, err)
	}
	if err := flags(&s).Parse([]string{"--join=@" + path + ".not"}); err != nil {
		t.Errorf("without the file, which has done its work, the error is %v", err)
	}
	if name, missing := s.Join.Missing(); !missing || name != path+".not" {
		t.Errorf("missing is %q", name)
	}
	if err := flags(&s).Parse([]string{"--join=@" + filepath.Dir(path)}); err == nil {
		t.Error("a directory is a token")
	}
}

func TestAHostHasANameWithoutBeingGivenOne(t *testing.T) {
	if name := (&mesh.Settings{}).Name(); name == "" {
		t.Error("it has none")
	}
	if name := (&mesh.Settings{Host: "a"}).Name(); name != "a" {
		t.Errorf("it is called %s", name)
	}
}
