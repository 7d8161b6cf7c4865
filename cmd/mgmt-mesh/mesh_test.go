package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hosts are those of the example.
var hosts = []string{"a", "b", "c"}

// scene is a machine on which some hosts of a mesh are.
type scene struct {
	t   *testing.T
	dir string
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t, t.TempDir()}
	for _, h := range hosts {
		s.save(h, s.graph(h))
	}
	return s
}

func (s *scene) path(name string) string { return filepath.Join(s.dir, name) }

// graph is that of a host in the example: it makes four files, exports two of them, and
// collects what all export.
func (s *scene) graph(host string) string {
	s.t.Helper()
	text, err := os.ReadFile("../../examples/graphs/mesh-" + host + ".yaml")
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// save replaces a graph file, as an editor does. What would lie in /tmp lies in the scene.
func (s *scene) save(host, text string) {
	s.t.Helper()
	text = strings.ReplaceAll(text, "/tmp/mgmt", s.path("mgmt"))
	file := s.file(host)
	if err := os.WriteFile(file+".new", []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) file(host string) string { return s.path("mesh-" + host + ".yaml") }

// run starts the agent of a host.
func (s *scene) run(host string, args ...string) *process {
	s.t.Helper()
	return start(s.t, append([]string{"run", "--file", s.file(host), "--hostname", host, "--prefix", s.path("state")}, args...)...)
}

// of is the path of a file that a host has.
func (s *scene) of(host, name string) string {
	return s.path("mgmt" + strings.ToUpper(host) + "/" + name)
}

// files are all that are there once the hosts have exchanged everything.
func (s *scene) files(hosts ...string) []string {
	var list []string
	for _, h := range hosts {
		list = append(list, s.of(h, "f1"+h), s.of(h, "f2"+h))
		for _, from := range hosts {
			list = append(list, s.of(h, "f3"+from), s.of(h, "f4"+from))
		}
	}
	return list
}

// complete waits for the files that these hosts make of each other's exports, and nothing else.
func (s *scene) complete(hosts ...string) {
	s.t.Helper()
	missing := s.files(hosts...)
	eventually(s.t, fmt.Sprintf("all files of %v are there", hosts), func() bool {
		for len(missing) > 0 {
			if _, err := os.Stat(missing[0]); err != nil {
				return false
			}
			missing = missing[1:]
		}
		return true
	})
}

func content(path string) string {
	text, _ := os.ReadFile(path) // what is not there is empty
	return string(text)
}

func TestThreeHostsByThreeCommands(t *testing.T) {
	s := newScene(t)
	a := s.run("a")
	seed := a.seed()
	s.run("b", "--seeds", seed)
	s.complete("a", "b")
	began := time.Now()
	s.run("c", "--seeds", strings.TrimPrefix(seed, "http://"))
	s.complete(hosts...)
	t.Logf("the files of the third host and those that the others make of its exports: %v", time.Since(began))
	if n := len(s.files(hosts...)); n != 24 {
		t.Errorf("the example has %d files", n)
	}

	t.Run("a change of an export reaches the others", func(t *testing.T) {
		s.save("a", strings.Replace(content(s.file("a")), "i am f3", "i am the new f3", 1))
		began := time.Now()
		for _, h := range hosts {
			eventually(t, "it has reached "+h, func() bool { return strings.HasPrefix(content(s.of(h, "f3a")), "i am the new f3") })
		}
		t.Logf("it took %v", time.Since(began))
	})
	t.Run("a copy that is changed is repaired", func(t *testing.T) {
		want := content(s.of("c", "f4b"))
		if err := os.WriteFile(s.of("c", "f4b"), []byte("mine"), 0o644); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is repaired", func() bool { return content(s.of("c", "f4b")) == want })
	})
}

func TestAPeerThatDiesTakesNothingWithIt(t *testing.T) {
	s := newScene(t)
	a := s.run("a")
	seed := a.seed()
	b := s.run("b", "--seeds", seed)
	s.complete("a", "b")
	for _, p := range []*process{b, a} {
		old := p.peer()
		if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		// The machine is kept as it was, with what is known of the mesh.
		if err := os.Remove(s.of("b", "f3a")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the file of the other host is back", func() bool { return content(s.of("b", "f3a")) != "" })
		p.says("peer ended")
		eventually(t, "there is a new peer", func() bool { now := p.peer(); return now != 0 && now != old })
	}
	s.save("a", strings.Replace(content(s.file("a")), "i am f3", "i am back", 1))
	eventually(t, "the hosts exchange again", func() bool { return strings.HasPrefix(content(s.of("b", "f3a")), "i am back") })
}

func TestAPeerEndsWithItsAgent(t *testing.T) {
	s := newScene(t)
	a := s.run("a")
	a.seed()
	peer := a.peer()
	a.kill()
	eventually(t, "the peer has ended", func() bool { return !alive(peer) })

	a = s.run("a")
	a.seed()
	peer = a.peer()
	a.stop()
	if alive(peer) {
		t.Error("the peer outlives a stop in order")
	}
	a.exits(0)
	for line := range strings.Lines(a.stderr.String()) {
		if (strings.Contains(line, " WARN ") || strings.Contains(line, " ERROR ")) && !strings.Contains(line, "from=etcd") {
			t.Errorf("there is something to complain about: %s", line)
		}
	}
}

func TestWithoutAnythingToShareThereIsNoMesh(t *testing.T) {
	s := newScene(t)
	const alone = "graph: alone\nresources:\n  file:\n  - {name: /tmp/mgmtA/f, content: x}\n"
	s.save("a", alone)
	a := s.run("a", "--ideal-size", "3")
	a.says("converged")
	if pid := a.peer(); pid != 0 {
		t.Error("there is a peer")
	}
	if _, err := os.Stat(s.path("state/mesh")); err == nil {
		t.Error("there is a directory for it")
	}
	s.save("a", strings.Replace(alone, "/tmp/mgmtA/f", `"@@/tmp/mgmtA/f"`, 1))
	a.seed()
}

func TestHostsThatConvergeTogetherEndTogether(t *testing.T) {
	s := newScene(t)
	once := []string{"--converged-timeout", "0", "--converged-scope", "mesh"}
	// One that is not ready holds up the others.
	slow := "  exec:\n  - {name: slow, shell: /bin/sh, cmd: 'while ! test -e /tmp/mgmtB/go; do sleep 0.01; done'}\n"
	s.save("b", strings.Replace(s.graph("b"), "collect:", slow+"collect:", 1))
	s.save("a", strings.Replace(s.graph("a"), "collect:", strings.ReplaceAll(slow, "/tmp/mgmtB", "/tmp/mgmtA")+"collect:", 1))
	a := s.run("a", once...)
	seed := a.seed()
	b := s.run("b", append(once, "--seeds", seed)...)
	b.seed()
	if err := os.WriteFile(s.of("a", "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.complete("a", "b")
	select {
	case <-a.done:
		t.Fatal("it has not waited for the other host")
	case <-time.After(300 * time.Millisecond):
	}
	if err := os.WriteFile(s.of("b", "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	a.exits(0)
	b.exits(0)
}

func TestARunThatEndsWhenItHasConvergedHasExchanged(t *testing.T) {
	s := newScene(t)
	a := s.run("a")
	seed := a.seed()
	b := s.run("b", "--seeds", seed, "--converged-timeout", "0")
	b.exits(0)
	for _, name := range []string{"f1b", "f3b", "f3a", "f4a"} {
		if content(s.of("b", name)) == "" {
			t.Errorf("it ended without %s", name)
		}
	}
	if st := s.status("a"); len(st.Hosts) != 2 || st.Hosts[1].Exports != 2 {
		t.Errorf("the hosts are %+v", st.Hosts)
	}
	s.complete("a")
	a.stop()
	alone := s.run("b", "--no-server", "--converged-timeout", "0")
	alone.exits(0)
	alone.says("not exchanged")
}

func TestARunThatChangesNothingTakesNoPart(t *testing.T) {
	s := newScene(t)
	a := s.run("a")
	seed := a.seed()
	b := s.run("b", "--seeds", seed)
	s.complete("a", "b")
	if err := os.Remove(s.of("a", "f3b")); err != nil { // while nobody keeps it
		t.Fatal(err)
	}
	eventually(t, "it is repaired", func() bool { return content(s.of("a", "f3b")) != "" })
	b.stop()
	if err := os.Remove(s.of("b", "f3a")); err != nil {
		t.Fatal(err)
	}
	noop := s.run("b", "--noop", "--converged-timeout", "0")
	noop.exits(0)
	noop.says("would change  file[f3a]") // which it knows from the last run
	if noop.peer() != 0 || content(s.of("b", "f3a")) != "" {
		t.Error("it has done something")
	}
}

func TestTwoHostsOfOneGraphFile(t *testing.T) {
	s := newScene(t)
	file := s.path("both.yaml")
	text := fmt.Sprintf("graph: both\nresources:\n  file:\n  - {name: %q, content: x}\n", s.of("a", "f"))
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"run", "--file", file, "--prefix", s.path("state"), "--hostname"}
	for _, h := range hosts {
		start(t, append(args, h)...).says("converged")
	}
	again := start(t, append(args, "a")...)
	again.exits(1)
	again.says("is keeping " + file + " already")
	status := start(t, "status", "--file", file, "--prefix", s.path("state"), "--hostname", "b")
	status.exits(0)
	which := start(t, "status", "--file", file, "--prefix", s.path("state"))
	which.exits(1)
	which.says("--file " + file + " --hostname c")
}

// elsewhere is an address of this machine that others could reach.
func elsewhere(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	return "192.0.2.1"
}

func TestWithoutCertificatesAMeshIsOfOneMachine(t *testing.T) {
	s := newScene(t)
	for _, args := range [][]string{
		{"--client-urls", "http://" + elsewhere(t) + ":2379"},
		{"--server-urls", "http://" + elsewhere(t) + ":2379"},
		{"--seeds", "192.0.2.1:2379"},
	} {
		a := s.run("a", args...)
		a.exits(2)
		a.says("mgmt run: won't ")
		a.says("without certificates, since anybody on that network could read and change all")
	}
}
