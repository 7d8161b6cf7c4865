package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// notifying is a graph in which a change of a file makes a command run, and that one another.
// Each says what it begins with and when it ends, and does not run by itself.
const notifying = `
graph: notifying
resources:
  file:
  - name: DIR/conf
    content: VERSION
  exec:
  - name: reload
    shell: /bin/sh
    nifcmd: "true"
    cmd: v=$(cat DIR/conf); echo "begin $v" >>DIR/reload; sleep 0.003; echo "end $v" >>DIR/reload
  - name: second
    shell: /bin/sh
    nifcmd: "true"
    cmd: v=$(cat DIR/conf); echo "begin $v" >>DIR/second; sleep 0.001; echo "end $v" >>DIR/second
edges:
- file[DIR/conf] ~> exec[reload] ~> exec[second]
`

// crash is a host on which mgmt is killed over and over.
type crash struct {
	*scene
	prefix  string // its flag
	rand    *rand.Rand
	version int
	startup time.Duration // how long a run takes
	kills   int
}

func newCrash(t *testing.T, prefix string) *crash {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("the seed is %d", seed)
	c := &crash{scene: newScene(t, ""), prefix: prefix, rand: rand.New(rand.NewPCG(seed, 0))}
	c.save(c.text())
	began := time.Now()
	c.converge()
	c.startup = time.Since(began)
	return c
}

func (c *crash) text() string {
	return strings.ReplaceAll(notifying, "VERSION", fmt.Sprintf("v%d", c.version))
}

// command is mgmt, which with the race detector would wait a second before each exit.
func (c *crash) command(args ...string) *process {
	c.t.Helper()
	return command(c.t, append([]string{"run", "--file", c.file, c.prefix}, args...)...).with("GORACE=atexit_sleep_ms=0")
}

// converge lets a run come to its end, and waits for commands that a killed one has left.
func (c *crash) converge() {
	c.t.Helper()
	c.command("--converged-timeout=0").start().exits(0, patience)
	eventually(c.t, "all commands have ended", func() bool {
		return len(c.lines("reload", "begin"))+len(c.lines("second", "begin")) == len(c.lines("reload", "end"))+len(c.lines("second", "end"))
	})
}

// lines are what a command has said, that begin with a word.
func (c *crash) lines(command, word string) []string {
	text, err := os.ReadFile(c.host(command))
	if err != nil && !os.IsNotExist(err) {
		c.t.Fatal(err)
	}
	return slices.DeleteFunc(strings.Split(string(text), "\n"), func(line string) bool { return !strings.HasPrefix(line, word+" ") })
}

func (c *crash) right() bool { return c.has("conf", fmt.Sprintf("v%d", c.version)) }

// change makes a difference that mgmt has to act on: a new version of the graph, or a file
// that somebody has changed or removed.
func (c *crash) change() {
	c.t.Helper()
	var err error
	switch c.rand.IntN(4) {
	case 0:
		if err = os.WriteFile(c.host("conf.theirs"), []byte("theirs"), 0o644); err == nil {
			err = os.Rename(c.host("conf.theirs"), c.host("conf"))
		}
	case 1:
		err = os.Remove(c.host("conf"))
	default:
		c.version++
		c.save(c.text())
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// kill runs mgmt and kills it: some time after its start, after the file is right, or after a
// command has begun. What is to happen meanwhile is done when it has converged.
func (c *crash) kill(meanwhile func()) {
	c.t.Helper()
	c.kills++
	begun := len(c.lines("reload", "begin")) + len(c.lines("second", "begin"))
	p := c.command().start()
	idle := 0
	converged := func() bool { return strings.Count(p.stderr.String(), " converged ") > idle }
	if meanwhile != nil {
		eventually(c.t, "it converges", converged)
		idle++
		meanwhile()
	}
	var after time.Duration
	switch c.rand.IntN(4) {
	case 0:
		after = time.Duration(c.rand.Int64N(int64(c.startup)))
	case 1:
		eventually(c.t, "the file is right", c.right)
		after = time.Duration(c.rand.IntN(8000)) * time.Microsecond
	default:
		eventually(c.t, "a command begins, or all is done", func() bool {
			return len(c.lines("reload", "begin"))+len(c.lines("second", "begin")) > begun || converged()
		})
		after = time.Duration(c.rand.IntN(5000)) * time.Microsecond
	}
	time.Sleep(after)
	_ = p.cmd.Process.Kill()
	<-p.done
}

// round makes one change, kills mgmt once or more while it acts on that, and lets it finish. It
// returns what is wrong then.
func (c *crash) round() (wrong []string) {
	c.t.Helper()
	before := map[string]int{"reload": len(c.lines("reload", "end")), "second": len(c.lines("second", "end"))}
	kills := 1 + c.rand.IntN(3)
	first := c.change
	if c.rand.IntN(2) == 0 { // the change comes first
		c.change()
		first = nil
	}
	for range kills {
		c.kill(first)
		first = nil
	}
	c.converge()
	if !c.right() {
		wrong = append(wrong, "the file is not right")
	}
	for command, n := range before {
		ran := c.lines(command, "end")[n:]
		if !slices.Contains(ran, fmt.Sprintf("end v%d", c.version)) {
			wrong = append(wrong, fmt.Sprintf("%s has not run after the change to v%d: %v", command, c.version, ran))
		}
		if len(ran) > kills+1 {
			wrong = append(wrong, fmt.Sprintf("%s has run %d times in %d runs, of one change", command, len(ran), kills+1))
		}
	}
	return wrong
}

// quiet runs mgmt once more, when there is nothing to do.
func (c *crash) quiet() {
	c.t.Helper()
	before := len(c.lines("reload", "begin")) + len(c.lines("second", "begin"))
	c.converge()
	if ran := len(c.lines("reload", "begin")) + len(c.lines("second", "begin")) - before; ran > 0 {
		c.t.Errorf("without a change, %d commands have run", ran)
	}
}

// TestKilledBeforeWhatIsNotified kills mgmt at random moments around a change and the commands
// that are notified of it: over all restarts each of them runs at least once after each
// change, and none when nothing has changed.
func TestKilledBeforeWhatIsNotified(t *testing.T) {
	c := newCrash(t, "--prefix="+t.TempDir())
	for round := 0; c.kills < 200 && !t.Failed(); round++ {
		for _, wrong := range c.round() {
			t.Errorf("after %d kills: %s", c.kills, wrong)
		}
		if round%10 == 0 {
			c.quiet()
		}
	}
	c.quiet()
	if file, err := os.ReadFile(c.host("conf")); err != nil || string(file) != fmt.Sprintf("v%d", c.version) {
		t.Errorf("the file is %q (%v)", file, err)
	}
}

// TestKilledWithoutAState is how the test above knows that something could have been lost.
func TestKilledWithoutAState(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // which those who are killed can't clear
	c := newCrash(t, "--tmp-prefix")
	for c.kills < 200 {
		if wrong := c.round(); len(wrong) > 0 {
			t.Logf("after %d kills: %v", c.kills, wrong)
			return
		}
	}
	t.Errorf("%d kills have lost nothing, although nothing was kept", c.kills)
}
