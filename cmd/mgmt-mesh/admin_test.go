package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// status is what the tests look at of mgmt mesh status --json.
type status struct {
	Version                   int
	Host, Mesh, Leader, Error string
	Reached                   bool
	Revision                  int64
	Ideal                     int     `json:"ideal_size"`
	LatencyMs                 float64 `json:"latency_ms"`
	Servers                   []serverStatus
	Hosts                     []hostStatus
	Alarms                    []string
}

type serverStatus struct {
	Host, Member, Problem string
	Learner, Leader       bool
	URLs                  []string
	Size                  int64 `json:"db_bytes"`
}

type hostStatus struct {
	Name          string
	Alive, Serves bool
	Exports       int
}

// mesh runs mgmt mesh for a host.
func (s *scene) mesh(host, sub string, args ...string) *process {
	s.t.Helper()
	p := start(s.t, append([]string{"mesh", sub, "--prefix", s.path("state"), "--hostname", host}, args...)...)
	<-p.done
	return p
}

// status asks how the mesh is, as a host sees it.
func (s *scene) status(host string) status {
	s.t.Helper()
	p := s.mesh(host, "status", "--json")
	var st status
	if err := json.Unmarshal([]byte(p.stdout.String()), &st); err != nil {
		s.t.Fatalf("%v in %s%s", err, p.stdout, p.stderr)
	}
	return st
}

// voters waits until so many servers decide in a mesh, and all are well.
func (s *scene) voters(host string, want int) status {
	s.t.Helper()
	var st status
	eventually(s.t, "the mesh has its voters", func() bool {
		st = s.status(host)
		n := 0
		for _, server := range st.Servers {
			if !server.Learner && server.Problem == "" {
				n++
			}
		}
		return st.Reached && n == want && len(st.Servers) == want
	})
	return st
}

func TestStatus(t *testing.T) {
	s := newScene(t)
	a := s.run("a")
	seed := a.seed()
	for _, h := range hosts[1:] {
		s.run(h, "--seeds", seed)
	}
	s.complete(hosts...)
	st := s.voters("b", 3)
	if st.Version != 1 || st.Host != "b" || st.Mesh == "" || st.Leader == "" || st.Revision == 0 || st.LatencyMs <= 0 || len(st.Alarms) > 0 {
		t.Errorf("the mesh is %+v", st)
	}
	leaders := 0
	for _, server := range st.Servers {
		if server.Leader {
			leaders++
		}
		if server.Size == 0 || len(server.URLs) == 0 || !slices.Contains(hosts, server.Host) {
			t.Errorf("a server is %+v", server)
		}
	}
	if leaders != 1 {
		t.Errorf("the servers have %d leaders", leaders)
	}
	for i, h := range st.Hosts {
		if h != (hostStatus{hosts[i], true, true, 2}) {
			t.Errorf("a host is %+v", h)
		}
	}
	s.mesh("b", "resize", "2").exits(2)
	s.mesh("b", "resize", "1").exits(0)
	if st := s.voters("c", 1); st.Ideal != 1 {
		t.Errorf("the mesh is %+v", st)
	}
	s.mesh("b", "resize", "5").exits(0)
	s.voters("a", 3)
	unnamed := start(t, "mesh", "status", "--prefix", s.path("state"))
	unnamed.exits(0)
	text := s.mesh("c", "status")
	text.exits(0)
	for _, want := range []string{"seen from c", "3 of 3 voters answer (ideal: 5), 1 may be lost", "c     serves  2\n"} {
		if !strings.Contains(text.stdout.String(), want) {
			t.Errorf("it does not say %q", want)
		}
	}
}

func TestAHostThatIsForgotten(t *testing.T) {
	s := newScene(t)
	a := s.run("a")
	b := s.run("b", "--seeds", a.seed())
	s.complete("a", "b")

	s.mesh("a", "forget", "b").exits(1) // it is there
	b.stop()
	if content(s.of("a", "f3b")) == "" {
		t.Error("what a host exports goes with it")
	}
	forgot := s.mesh("a", "forget", "b")
	forgot.exits(0)
	if !strings.Contains(forgot.stdout.String(), "forgot b, and 2 resources that it exported") {
		t.Error("it does not say what it has done")
	}
	a.says("removed=2")
	st := s.status("a")
	if len(st.Hosts) != 1 || len(st.Servers) != 1 {
		t.Errorf("there are still %+v and %+v", st.Hosts, st.Servers)
	}
	unknown := s.mesh("a", "forget", "b")
	unknown.exits(1)
	unknown.says("knows no such host")

	s.run("b")
	s.save("b", strings.Replace(s.graph("b"), "i am f3", "i am new", 1))
	eventually(t, "it can come back", func() bool { return strings.HasPrefix(content(s.of("a", "f3b")), "i am new") })
}

// The drill for a mesh that has lost two of its three servers for good.
func TestRecover(t *testing.T) {
	s := newScene(t)
	a := s.run("a")
	seed := a.seed()
	b := s.run("b", "--seeds", seed)
	s.run("c", "--seeds", seed)
	s.complete(hosts...)
	s.voters("c", 3)

	useless := s.mesh("c", "recover", "--yes")
	useless.exits(1)
	useless.says("the servers can decide, so there is nothing to recover")

	b.kill()
	a.kill()
	st := s.status("c")
	if st.Reached || len(st.Servers) != 3 || len(st.Hosts) != 3 {
		t.Errorf("without a majority the mesh is %+v", st)
	}
	text := s.mesh("c", "status")
	text.exits(1)
	if !strings.Contains(text.stdout.String(), "1 of 3 voters answer, which are too few to decide") {
		t.Error("it does not say so")
	}
	// The machine is kept all the same.
	if err := os.Remove(s.of("c", "f3a")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a file of another host is repaired", func() bool { return content(s.of("c", "f3a")) != "" })

	unsure := s.mesh("c", "recover")
	unsure.exits(1)
	unsure.says("nothing was done")
	recovered := s.mesh("c", "recover", "--yes")
	recovered.exits(0)
	if out := recovered.stdout.String(); !strings.Contains(out, "newest") || !strings.Contains(out, "the mesh is back") {
		t.Errorf("it says\n%s", out)
	}
	if saved, err := filepath.Glob(s.path("state/mesh/c/recover-*.db")); err != nil || len(saved) != 1 {
		t.Errorf("saved are %q (%v)", saved, err)
	}

	// The others come back with their old data, and find the mesh as it was.
	s.run("a")
	s.run("b", "--seeds", seed)
	s.voters("c", 3)
	s.save("c", strings.Replace(s.graph("c"), "i am f3", "i am from the mesh after", 1))
	for _, h := range hosts {
		eventually(t, "the hosts exchange again", func() bool { return strings.HasPrefix(content(s.of(h, "f3c")), "i am from the mesh after") })
	}
	if st := s.status("c"); len(st.Hosts) != 3 || st.Hosts[0].Exports+st.Hosts[1].Exports+st.Hosts[2].Exports != 6 {
		t.Errorf("the hosts are %+v", st.Hosts)
	}
	for _, h := range []string{"a", "b"} {
		if aside, err := filepath.Glob(s.path("state/mesh/" + h + "/server/aside-*")); err != nil || len(aside) == 0 {
			t.Errorf("the old data of %s is not set aside (%v)", h, err)
		}
	}
}

func TestHostsAreInvitedIntoAMeshWithCertificates(t *testing.T) {
	s := newScene(t)
	made := s.mesh("a", "init")
	made.exits(0)
	if !strings.Contains(made.stdout.String(), "sha256:") {
		t.Error("it does not tell the fingerprint")
	}
	s.mesh("a", "init").exits(1) // again
	a := s.run("a")
	if seed := a.seed(); !strings.HasPrefix(seed, "https://") {
		t.Errorf("it listens at %s", seed)
	}
	invited := s.mesh("a", "invite", "--serve")
	invited.exits(0)
	token := strings.TrimSpace(invited.stdout.String())
	b := s.run("b", "--join", token)
	b.seed()
	s.complete("a", "b")

	used := s.run("c", "--join", token)
	used.exits(2)
	used.says("used")
	if strings.Contains(used.stderr.String(), token) {
		t.Error("the token is in the log")
	}
	s.run("c", "--join", strings.TrimSpace(s.mesh("b", "invite", "--host", "c").stdout.String()))
	s.complete(hosts...)

	// A restart needs no token, and an agent may not do what is for hosts that serve.
	b.stop()
	s.run("b", "--join", token).seed()
	forbidden := s.mesh("c", "forget", "b", "--force")
	forbidden.exits(1)
	forbidden.says("c")
	s.mesh("c", "status").exits(0)

	s.mesh("a", "forget", "c", "--force").exits(0)
	eventually(t, "what it exported is gone", func() bool { return s.status("a").hasNot("c") })
}

// hasNot says that a host exports nothing.
func (st status) hasNot(host string) bool {
	return !slices.ContainsFunc(st.Hosts, func(h hostStatus) bool { return h.Name == host && h.Exports > 0 })
}

// The drill for a mesh that has lost all of its servers, but not what was saved.
func TestRecoverWhatWasSaved(t *testing.T) {
	s := newScene(t)
	a := s.run("a")
	a.seed()
	file := s.path("saved.db")
	s.mesh("a", "save", file).exits(0)
	s.mesh("a", "save", file).exits(1) // it is there
	a.stop()
	if err := os.RemoveAll(s.path("state/mesh/a/server")); err != nil {
		t.Fatal(err)
	}
	s.mesh("a", "recover", "--yes").exits(1)
	recovered := s.mesh("a", "recover", "--yes", "--from", file)
	recovered.exits(0)
	if !strings.Contains(recovered.stdout.String(), "it begins when mgmt run is started on host a") {
		t.Error("it does not say what to do")
	}
	a = s.run("a")
	a.seed()
	a.says("the mesh begins anew on this host")
	if st := s.status("a"); len(st.Hosts) != 1 || st.Hosts[0].Exports != 2 {
		t.Errorf("the hosts are %+v", st.Hosts)
	}
	if log := a.stderr.String(); strings.Contains(log, "new mesh") {
		t.Error("it is another mesh")
	}
}
