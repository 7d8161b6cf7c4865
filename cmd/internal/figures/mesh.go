package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// meshHosts are those of the example.
var meshHosts = []string{"a", "b", "c"}

const (
	// meshLimit is how long a mesh may take for anything that is measured.
	meshLimit = 30 * time.Second

	// changes is how often an export is changed in each round.
	changes = 10
)

// exchange measures the example of three hosts on one machine, each with a process for the
// agent and one for its peer.
func exchange(b *bench) error {
	var ready, third, changed sample
	var alone, peers []int
	for range b.rounds {
		m := &meshScene{b: b}
		err := m.round(&ready, &third, &changed, &alone, &peers)
		if err := errors.Join(err, m.end()); err != nil {
			return err
		}
	}
	report("first host, start to mesh ready", ready)
	report("third host, start to all 24 files", third)
	report("a changed export, save to both copies", changed)
	fmt.Printf("%-40s %.1f MB at most, of which the peer %.1f MB\n", "first host alone, RSS of both processes", float64(most(alone))/1024, float64(most(peers))/1024)
	return nil
}

func most(list []int) int {
	n := 0
	for _, v := range list {
		n = max(n, v)
	}
	return n
}

// meshScene is a directory in which the hosts make their files, and the processes.
type meshScene struct {
	b    *bench
	dir  string
	runs []*exec.Cmd
}

func (m *meshScene) round(ready, third, changed *sample, alone, peers *[]int) error {
	dir, err := os.MkdirTemp(m.b.scratch, "mesh")
	if err != nil {
		return err
	}
	m.dir = dir
	for _, h := range meshHosts {
		if err := m.save(h, 0); err != nil {
			return err
		}
	}
	began := time.Now()
	seed, err := m.run("a", "")
	if err != nil {
		return err
	}
	*ready = append(*ready, time.Since(began))
	if err := m.measureMemory(alone, peers); err != nil {
		return err
	}
	if _, err := m.run("b", seed); err != nil {
		return err
	}
	if err := m.await(m.files("a", "b")); err != nil {
		return err
	}
	began = time.Now()
	if _, err := m.run("c", seed); err != nil {
		return err
	}
	if err := m.await(m.files(meshHosts...)); err != nil {
		return err
	}
	*third = append(*third, time.Since(began))
	time.Sleep(time.Second) // for what follows: servers are added
	for i := range changes {
		took, err := m.change(i + 1)
		if err != nil {
			return err
		}
		*changed = append(*changed, took)
	}
	return nil
}

// save saves the graph file of a host, whose exports have a version.
func (m *meshScene) save(host string, version int) error {
	text, err := os.ReadFile("examples/graphs/mesh-" + host + ".yaml")
	if err != nil {
		return err
	}
	graph := strings.ReplaceAll(string(text), "/tmp/mgmt", m.dir+"/mgmt")
	graph = strings.ReplaceAll(graph, "exported", fmt.Sprintf("%d, exported", version))
	file := m.file(host)
	if err := os.WriteFile(file+".new", []byte(graph), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

func (m *meshScene) file(host string) string { return filepath.Join(m.dir, host+".yaml") }

func (m *meshScene) of(host, name string) string {
	return filepath.Join(m.dir, "mgmt"+strings.ToUpper(host), name)
}

// files are all that hosts make of each other's exports, and of their own.
func (m *meshScene) files(hosts ...string) []string {
	var list []string
	for _, h := range hosts {
		list = append(list, m.of(h, "f1"+h), m.of(h, "f2"+h))
		for _, from := range hosts {
			list = append(list, m.of(h, "f3"+from), m.of(h, "f4"+from))
		}
	}
	return list
}

func (m *meshScene) await(files []string) error {
	for deadline := time.Now().Add(meshLimit); len(files) > 0; {
		if _, err := os.Stat(files[0]); err == nil {
			files = files[1:]
			continue
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not there after %v", files[0], meshLimit)
		}
		time.Sleep(200 * time.Microsecond)
	}
	return nil
}

var seedAddress = regexp.MustCompile(`mesh ready .*(http://[0-9.:]+)`)

// run starts a host, and returns when its mesh is ready: where the others reach it.
func (m *meshScene) run(host, seed string) (string, error) {
	args := []string{"run", "--file", m.file(host), "--hostname", host, "--prefix", filepath.Join(m.dir, "state")}
	if seed != "" {
		args = append(args, "--seeds", seed)
	}
	cmd := exec.CommandContext(m.b.ctx, m.b.mgmt, args...)
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	log, err := cmd.StderrPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	m.runs = append(m.runs, cmd)
	ready := make(chan string, 1)
	go func() {
		for s := bufio.NewScanner(log); s.Scan(); {
			if found := seedAddress.FindStringSubmatch(s.Text()); found != nil {
				ready <- found[1]
			}
		}
	}()
	select {
	case address := <-ready:
		return address, nil
	case <-time.After(meshLimit):
		return "", fmt.Errorf("host %s has no mesh after %v", host, meshLimit)
	}
}

// measureMemory measures the only host that runs.
func (m *meshScene) measureMemory(alone, peers *[]int) error {
	time.Sleep(time.Second)
	agent := m.runs[0].Process.Pid
	list, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", agent))
	if err != nil {
		return err
	}
	sum, err := memory(agent)
	if err != nil {
		return err
	}
	for _, path := range list {
		text, _ := os.ReadFile(path) // the thread may have ended
		for _, child := range strings.Fields(string(text)) {
			var pid int
			if _, err := fmt.Sscan(child, &pid); err != nil {
				return err
			}
			kb, err := memory(pid)
			if err != nil {
				return err
			}
			*peers = append(*peers, kb)
			sum += kb
		}
	}
	*alone = append(*alone, sum)
	return nil
}

// change changes what a exports, and measures how long it takes to be at b and c.
func (m *meshScene) change(version int) (time.Duration, error) {
	want := fmt.Sprintf("i am f3, %d, exported from a\n", version)
	began := time.Now()
	if err := m.save("a", version); err != nil {
		return 0, err
	}
	for _, h := range meshHosts[1:] {
		for {
			text, err := os.ReadFile(m.of(h, "f3a"))
			if err == nil && string(text) == want {
				break
			}
			if time.Since(began) > meshLimit {
				return 0, fmt.Errorf("a change has not reached %s after %v", h, meshLimit)
			}
			time.Sleep(200 * time.Microsecond)
		}
	}
	return time.Since(began), nil
}

// end stops all hosts, the last one first.
func (m *meshScene) end() error {
	var failures []error
	for i := len(m.runs) - 1; i >= 0; i-- {
		failures = append(failures, m.runs[i].Process.Signal(syscall.SIGTERM))
		_ = m.runs[i].Wait() // the status tells whether it was about to do something
	}
	return errors.Join(append(failures, os.RemoveAll(m.dir))...)
}
