package survival_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/cmd/internal/lab"
)

// patience is how long a test waits for what must happen.
const patience = 90 * time.Second

// exports is how many resources each machine exports.
const exports = 2

// field is a network with machines that form a mesh.
type field struct {
	t        *testing.T
	net      *lab.Network
	dir      string
	machines []*machine
}

// machine is a host of the mesh.
type machine struct {
	*lab.Host

	field   *field
	dir     string
	version int // of what it exports
	process *lab.Process
	done    chan struct{}
	log     *output
	args    []string // further ones
}

// output is what the processes of a machine have logged.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// newField makes n machines that do not run yet, of which size are to serve.
func newField(t *testing.T, n, size int) *field {
	t.Helper()
	network, err := lab.NewNetwork()
	if errors.Is(err, lab.ErrImpossible) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	f := &field{t: t, net: network, dir: t.TempDir()}
	t.Cleanup(func() {
		for _, m := range f.machines {
			m.kill()
		}
		if err := network.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			for _, m := range f.machines {
				t.Logf("%s:\n%s", m.Name, tail(m.log.String(), 400))
			}
		}
	})
	for i := range n {
		name := fmt.Sprint("h", i+1)
		host, err := network.Host(name, netip.AddrFrom4([4]byte{10, 9, 0, byte(i + 1)}))
		if err != nil {
			t.Fatal(err)
		}
		m := &machine{Host: host, field: f, dir: filepath.Join(f.dir, name), log: &output{}, args: []string{"--ideal-size", fmt.Sprint(size)}}
		for _, dir := range []string{m.dir, m.in("")} {
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		f.machines = append(f.machines, m)
		m.export()
	}
	return f
}

// tail is the end of a log.
func tail(text string, lines int) string {
	list := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(list[max(0, len(list)-lines):], "\n")
}

// up starts the machines, the first before the others, and waits until they have exchanged
// everything.
func (f *field) up() {
	f.t.Helper()
	for i, m := range f.machines {
		if i == 0 {
			m.start()
		} else {
			m.start(f.machines[0])
		}
	}
	f.exchanged(f.machines...)
}

// exchanged waits until each of the machines has the newest exports of all of them.
func (f *field) exchanged(machines ...*machine) {
	f.t.Helper()
	f.eventually("all have everything", func() bool {
		for _, m := range machines {
			for _, from := range machines {
				if !m.has(from) {
					return false
				}
			}
		}
		return true
	})
}

func (f *field) eventually(what string, holds func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatalf("it never comes to pass that %s", what)
		}
	}
}

// in is a file that the machine collects.
func (m *machine) in(name string) string { return filepath.Join(m.dir, "in", name) }

func (m *machine) client() string { return fmt.Sprintf("http://%s:2379", m.Addr) }

// content is what an export of the machine holds.
func (m *machine) content(i int) string {
	return fmt.Sprintf("export %d of %s in version %d\n", i, m.Name, m.version)
}

// export saves the graph file, with the next version of what is exported.
func (m *machine) export() {
	m.field.t.Helper()
	m.version++
	var b strings.Builder
	fmt.Fprintf(&b, "graph: %s\nresources:\n  file:\n", m.Name)
	for i := range exports {
		fmt.Fprintf(&b, "  - {name: '@@/nowhere/%s-%d', content: %q}\n", m.Name, i, m.content(i))
	}
	fmt.Fprintf(&b, "collect:\n- {kind: file, pattern: %q}\n", m.in("")+"/")
	path := m.graph()
	if err := errors.Join(os.WriteFile(path+".new", []byte(b.String()), 0o644), os.Rename(path+".new", path)); err != nil {
		m.field.t.Fatal(err)
	}
}

func (m *machine) graph() string { return filepath.Join(m.dir, "graph.yaml") }

// has says whether the machine has the newest exports of another.
func (m *machine) has(from *machine) bool {
	for i := range exports {
		text, err := os.ReadFile(m.in(fmt.Sprintf("%s-%d", from.Name, i)))
		if err != nil || string(text) != from.content(i) {
			return false
		}
	}
	return true
}

// start starts the agent, which finds the mesh through the seeds.
func (m *machine) start(seeds ...*machine) {
	m.field.t.Helper()
	args := []string{
		"run", "--file", m.graph(), "--hostname", m.Name, "--prefix", filepath.Join(m.dir, "state"), "--insecure",
		"--client-urls", m.client(), "--server-urls", fmt.Sprintf("http://%s:2380", m.Addr),
	}
	for _, s := range seeds {
		args = append(args, "--seeds", s.client())
	}
	cmd := exec.Command("mgmt", append(args, m.args...)...)
	cmd.Env = append(os.Environ(), "NO_COLOR=1")
	cmd.Stdout, cmd.Stderr = m.log, m.log
	cmd.WaitDelay = 5 * time.Second
	p, err := m.Start(cmd)
	if err != nil {
		m.field.t.Fatal(err)
	}
	m.process, m.done = p, make(chan struct{})
	go func(done chan struct{}) {
		defer close(done)
		_ = p.Wait()
	}(m.done)
}

// kill ends all that runs on the machine, as a power cut does.
func (m *machine) kill() {
	if m.process == nil {
		return
	}
	if err := m.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		m.field.t.Error(err)
	}
	<-m.done
	m.process = nil
}

// stop ends the agent in order.
func (m *machine) stop() {
	m.field.t.Helper()
	if err := m.process.Signal(syscall.SIGTERM); err != nil {
		m.field.t.Fatal(err)
	}
	select {
	case <-m.done:
	case <-time.After(patience):
		m.field.t.Fatalf("%s does not stop", m.Name)
	}
	m.process = nil
}

func addrs(machines ...*machine) []netip.Addr {
	var list []netip.Addr
	for _, m := range machines {
		list = append(list, m.Addr)
	}
	return list
}
