package inotify_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/inotify"
)

const childEnv = "INOTIFY_TEST_CHILD"

// child runs the calling test again in a process that adjust has changed, and is true
// in that process.
func child(t *testing.T, adjust func(cmd *exec.Cmd)) bool {
	t.Helper()
	if os.Getenv(childEnv) != "" {
		return true
	}
	bin := t.TempDir()
	for dir := range map[string]bool{bin: true, filepath.Dir(bin): true} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bin+"/test", exe, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin+"/test", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), childEnv+"=1", "TMPDIR="+bin+"/tmp")
	if err := os.Mkdir(bin+"/tmp", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(bin+"/tmp", 0o777); err != nil {
		t.Fatal(err)
	}
	adjust(cmd)
	out, err := cmd.CombinedOutput()
	switch {
	case bytes.Contains(out, []byte("--- SKIP")):
		t.Skip("the child skipped: " + string(out))
	case err != nil && cmd.ProcessState == nil:
		t.Skip("no child process of that sort: ", err)
	case err != nil || !bytes.Contains(out, []byte("--- PASS")):
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// ownLimits puts the child into a user namespace, which has inotify limits of its own.
func ownLimits(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}

func setLimit(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/user/"+name, []byte(value), 0o644); err != nil {
		t.Skip("needs a user namespace with limits of its own:", err)
	}
}

// logged is a log that can be read.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func polling(log *logged) inotify.Options {
	return inotify.Options{Log: slog.New(slog.NewTextHandler(log, nil)), PollEvery: 5 * time.Millisecond}
}

func (l *logged) check(t *testing.T, times int, parts ...string) {
	t.Helper()
	text := l.String()
	if n := strings.Count(text, "\n"); n != times {
		t.Errorf("%d lines are logged, want %d:\n%s", n, times, text)
	}
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("the log lacks %q:\n%s", part, text)
		}
	}
}

func TestAtTheWatchLimitPathsArePolled(t *testing.T) {
	if !child(t, ownLimits) {
		return
	}
	dir := t.TempDir()
	script(t, dir, "mkdir a/b; mkdir c/d; write c/d/f x; mkdir tree/x")
	setLimit(t, "max_inotify_watches", "3")
	var log logged
	o := observe(t, polling(&log))
	file, missing, link, tree := inotify.Path(dir+"/c/d/f"), inotify.Path(dir+"/a/b/e/f"), inotify.Path(dir+"/l"), inotify.Tree(dir+"/tree")
	script(t, dir, "ln c/d/f l")
	o.add(file, missing, link, tree)
	o.silent("adding")
	both := func(step string, watches ...sources.Watch) {
		t.Helper()
		script(t, dir, step)
		got := o.events()
		for _, w := range watches {
			if !fired(got, w) {
				t.Errorf("%s: %v did not fire, only %v", step, w, got)
			}
		}
	}
	steps := func() {
		both("write c/d/f longer", file, link)
		both("chmod 600 c/d/f", file, link)
		both("replace c/d/f other", file, link)
		both("rm c/d/f", file, link)
		both("mv c c2; mkdir c/d; write c/d/f x", file, link)
		both("mkdir a/b/e", missing)
		both("write a/b/e/f x", missing)
		both("rmtree a; mkdir a/b", missing)
		both("write tree/x/f x", tree)
		both("mkdir tree/x/y/z", tree)
		both("write tree/x/y/z/f x", tree)
		both("append tree/x/y/z/f x", tree)
		both("rmtree tree/x; mkdir tree/x; rmtree c2", tree)
	}
	steps()
	o.step(dir, "quiet: mkdir tr", file)
	log.check(t, 1, "inotify watches", "sysctl fs.inotify.max_user_watches=")

	// Without a Flush, the ticker finds it.
	script(t, dir, "append c/d/f more")
	o.eventually(file, "append while polling")

	setLimit(t, "max_inotify_watches", "1000")
	waitFor(t, "everything is watched again", func() bool { return kernelWatches(t) > depth(dir)+5 })
	o.events()
	steps()
	script(t, dir, "append c/d/f more")
	o.eventually(file, "append while watching")
	waitFor(t, "polling has ended", func() bool { return !polls() })
	log.check(t, 1)
}

// polls says whether the goroutine runs that polls.
func polls() bool {
	buf := make([]byte, 1<<20)
	return strings.Contains(string(buf[:runtime.Stack(buf, true)]), "startPolling")
}

// What has changed since the last look must not be forgotten when there is more to look at.
func TestPollingMoreKeepsWhatIsKnown(t *testing.T) {
	if !child(t, ownLimits) {
		return
	}
	dir := t.TempDir()
	script(t, dir, "mkdir d")
	setLimit(t, "max_inotify_watches", "1")
	o := observe(t, inotify.Options{PollEvery: 20 * time.Millisecond})
	path, tree := inotify.Path(dir+"/d"), inotify.Tree(dir+"/d")
	o.add(path)
	o.silent("adding")
	script(t, dir, "chmod 700 d")
	o.add(tree)
	o.fires(path, "chmod")
	o.step(dir, "write d/f x", tree)
	script(t, dir, "write d/f y")
	o.src.Remove(path)
	o.add(path)
	o.fires(tree, "write")
}

func TestInAChrootWithoutProc(t *testing.T) {
	if !child(t, ownLimits) {
		return
	}
	dir := t.TempDir()
	script(t, dir, "mkdir tmp; mkdir d")
	t.Setenv("TMPDIR", "/tmp")
	if err := errors.Join(syscall.Chroot(dir), syscall.Chdir("/")); err != nil {
		t.Skip("needs a user namespace that may chroot:", err)
	}
	var log logged
	o := observe(t, polling(&log))
	file, top := inotify.Path("/f"), inotify.Tree("/")
	o.add(file, top)
	o.silent("adding")
	o.step("/", "write f x", file)
	o.step("/", "write f y", top)
	o.step("/", "replace f z", file)
	o.step("/", "rm f", file)
	o.step("/", "mkdir d/e/f", top)
	o.step("/", "write d/e/f/g x", top)
	log.check(t, 0)
	if left, _ := os.ReadDir("/tmp"); len(left) > 0 {
		t.Errorf("%v is left in the temporary directory", left)
	}
}

func TestWithoutAnInstancePathsArePolled(t *testing.T) {
	if !child(t, ownLimits) {
		return
	}
	dir := t.TempDir()
	script(t, dir, "write f x; mkdir d")
	setLimit(t, "max_inotify_instances", "0")
	var log logged
	o := observe(t, polling(&log))
	file, tree := inotify.Path(dir+"/f"), inotify.Tree(dir+"/d")
	o.add(file, tree)
	o.silent("adding")
	steps := func() {
		o.step(dir, "write f longer", file)
		o.step(dir, "replace f x", file)
		o.step(dir, "mkdir d/e/g", tree)
		o.step(dir, "write d/e/g/f x", tree)
		o.step(dir, "rmtree d/e", tree)
	}
	steps()
	log.check(t, 1, "inotify instances", "sysctl fs.inotify.max_user_instances=")
	setLimit(t, "max_inotify_instances", "10")
	waitFor(t, "an instance is open", func() bool { return len(instances(t)) == 1 })
	o.events()
	steps()
	waitFor(t, "polling has ended", func() bool { return !polls() })
	log.check(t, 1)
}

func TestADirectoryThatMayNotBeReadIsPolled(t *testing.T) {
	if !child(t, func(cmd *exec.Cmd) {
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
	}) {
		return
	}
	dir := t.TempDir()
	script(t, dir, "mkdir s/p; write s/f x; write s/p/f x; chmod 711 s/p; chmod 311 s")
	t.Cleanup(func() { _ = os.Chmod(dir+"/s", 0o755) })
	var log logged
	o := observe(t, polling(&log))
	blind, below := inotify.Path(dir+"/s/f"), inotify.Path(dir+"/s/p/f")
	o.add(blind)
	o.silent("adding")
	o.step(dir, "write s/f longer", blind)
	log.check(t, 1, "no permission to read "+dir+"/s", "run as root")
	o.add(below)
	o.step(dir, "write s/p/f longer", below)
	o.step(dir, "mv s/p s/q; mkdir s/p", below)
	o.step(dir, "write s/p/f longer", below)
	script(t, dir, "chmod 755 s")
	o.fires(blind, "access is granted")
	o.step(dir, "append s/f x", blind)
	waitFor(t, "polling has ended", func() bool { return !polls() })

	script(t, dir, "chmod 000 s")
	o.fires(below, "access is taken away")
	script(t, dir, "chmod 755 s")
	o.fires(below, "access is given back")
	o.step(dir, "append s/p/f x", below)
}

// What the kernel makes up on reading changes without any file being written.
func TestGeneratedFilesArePolledByContent(t *testing.T) {
	var log logged
	o := observe(t, polling(&log))
	rename := make(chan string)
	renamed := make(chan error)
	thread := make(chan int)
	go func() {
		runtime.LockOSThread() // and ends with the goroutine
		thread <- unix.Gettid()
		for name := range rename {
			b := append([]byte(name), 0)
			renamed <- unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(&b[0])), 0, 0, 0)
		}
	}()
	defer close(rename)
	w := inotify.Path("/proc/self/task/" + itoa(<-thread) + "/comm")
	o.add(w)
	o.silent("adding")
	for _, name := range []string{"one", "two"} {
		rename <- name
		if err := <-renamed; err != nil {
			t.Fatal(err)
		}
		o.fires(w, "a thread changes its name")
	}
	log.check(t, 1, "proc does not report changes that the kernel makes")

	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exit := inotify.Path("/proc/" + itoa(cmd.Process.Pid))
	o.add(exit)
	o.silent("a process runs")
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	o.fires(exit, "a process ends")
	log.check(t, 1)
}

// TestFlushDoesNotHastenPolling flushes after each event, as the engine does, while a
// path is polled that differs at every look.
func TestFlushDoesNotHastenPolling(t *testing.T) {
	const every = 50 * time.Millisecond
	src := inotify.New(inotify.Options{PollEvery: every})
	if err := src.Add(inotify.Path("/proc/uptime")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	events := make(chan sources.Event, 1000)
	done := make(chan error, 1)
	go func() {
		done <- src.Events().Subscribe(ctx, func(ev sources.Event) bool { events <- ev; return true })
	}()
	began := time.Now()
	for time.Since(began) < 20*every {
		if err := src.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	most := 2 + 2*int(time.Since(began)/every) // the interval's own, and those of Flush
	cancel()
	<-done
	if n := len(events); n < 5 || n > most {
		t.Errorf("%d events in %v, with an interval of %v; want at most %d", n, time.Since(began), every, most)
	}
}
