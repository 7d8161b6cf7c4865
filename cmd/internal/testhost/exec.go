package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/cmd/internal/testhost/host"
)

// mark is the file by which a package says that its tests need a test host.
const mark = "testdata/testhost"

// What tests are told by, which sinks/sinktest/needs reads.
const (
	insideEnv  = "MGMT_TESTHOST"         // set in a test host, to its name
	missingEnv = "MGMT_TESTHOST_MISSING" // why there is none, where one was asked for
)

func execute(args []string, stderr io.Writer) int {
	runtime.LockOSThread() // what watch asks the kernel for is a matter of the thread
	var opts host.Options
	f := flags("exec", stderr, &opts)
	marked := f.Bool("if-marked", false, "only if the current folder has "+mark+" and a test host is possible; else run the program here")
	if err := f.Parse(args); err != nil {
		return failed(err)
	}
	if f.NArg() == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	if *marked {
		if _, err := os.Stat(mark); err != nil {
			return here(f.Args(), stderr)
		}
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	forward := make(chan int, 1)
	defer watch(cancel, forward)()

	command, binds, err := prepare(f.Args())
	if err == nil {
		opts.Binds = merge(append(binds, opts.Binds...))
		var h *host.Host
		if h, err = host.Boot(ctx, opts); err == nil {
			command.Env = append(command.Env, insideEnv+"="+opts.Name)
			command.Signals = forward
			err = errors.Join(h.Run(ctx, command), h.Kill())
		} else if *marked && errors.Is(err, host.ErrImpossible) {
			if err := os.Setenv(missingEnv, err.Error()); err != nil {
				fmt.Fprintln(stderr, "testhost:", err)
			}
			return here(f.Args(), stderr)
		}
	}
	return status(err, stderr)
}

// status turns the end of a program into an exit status, and tells of other errors.
func status(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	if s, ok := errors.AsType[caught](err); ok {
		return 128 + int(s.signal)
	}
	if ee, ok := errors.AsType[*exec.ExitError](err); ok && ee.ExitCode() > 0 {
		return ee.ExitCode()
	}
	fmt.Fprintln(stderr, "testhost:", err)
	return 125
}

// here becomes the program.
func here(args []string, stderr io.Writer) int {
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0) // else what watch asked for may kill the program
	path, err := exec.LookPath(args[0])
	if err == nil {
		err = syscall.Exec(path, args, os.Environ())
	}
	fmt.Fprintln(stderr, "testhost:", err)
	return 125
}

// caught is why the run was ended.
type caught struct{ signal syscall.Signal }

func (c caught) Error() string { return "got the signal " + unix.SignalName(c.signal) }

// quitGrace is how long a program may take to print its stacks, which is what go test
// asks for with SIGQUIT when the time is over.
const quitGrace = 4 * time.Second

// watch cancels when we are told to end, or when who started us has ended without
// telling. SIGQUIT is for the program. The function that it returns ends the watch.
func watch(cancel context.CancelCauseFunc, forward chan<- int) (stop func()) {
	parent := os.Getppid()
	// It comes too when only the thread ends that started us; so it only makes us look.
	_ = unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGUSR1), 0, 0, 0)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1)
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case s := <-signals:
				sig := s.(syscall.Signal)
				switch {
				case sig == syscall.SIGQUIT:
					select {
					case forward <- int(sig):
					default: // one is on its way
					}
					time.AfterFunc(quitGrace, func() { cancel(caught{sig}) })
				case sig == syscall.SIGUSR1 && os.Getppid() == parent:
				default:
					cancel(caught{sig})
				}
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(done)
		<-ended
	}
}

// prepare makes the command of a test binary, with what it has to see of this machine:
// the folder that go test built it in, its module, and what a go command in it needs.
func prepare(args []string) (host.Command, []host.Bind, error) {
	dir, err := os.Getwd()
	if err != nil {
		return host.Command{}, nil, err
	}
	program, err := exec.LookPath(args[0])
	if err != nil {
		return host.Command{}, nil, err
	}
	if program, err = filepath.Abs(program); err != nil {
		return host.Command{}, nil, err
	}
	binds := []host.Bind{{Source: dir}}
	if filepath.IsAbs(args[0]) || strings.ContainsRune(args[0], '/') {
		binds = append(binds, build(program))
	}
	command := host.Command{
		Args: []string{program}, Dir: dir, Env: environment(os.Environ()),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}
	for _, arg := range args[1:] {
		name, value, _ := strings.Cut(arg, "=")
		switch name {
		case "-test.testlogfile":
			// Without this log go test keeps no result. It should not: what a test
			// host does depends on more than files that go test knows of.
			continue
		case "-test.outputdir", "-test.gocoverdir", "-test.fuzzcachedir":
			binds = append(binds, host.Bind{Source: value, Writable: true})
		}
		command.Args = append(command.Args, arg)
	}
	if cover := os.Getenv("GOCOVERDIR"); cover != "" {
		binds = append(binds, host.Bind{Source: cover, Writable: true})
	}
	return command, append(binds, toolchain()...), nil
}

// build is the folder of a program, in which go test wants to find what it writes; or the
// program alone, where the folder is the host's own.
func build(program string) host.Bind {
	if dir := filepath.Dir(program); !host.Keeps(dir) {
		return host.Bind{Source: dir, Writable: true}
	}
	return host.Bind{Source: program}
}

// toolchain lists what the go command uses here, or nothing where there is none.
func toolchain() []host.Bind {
	out, err := exec.Command("go", "env", "GOMOD", "GOROOT", "GOMODCACHE", "GOCACHE").Output()
	paths := strings.Split(string(out), "\n")
	if err != nil || len(paths) < 4 {
		return nil
	}
	var binds []host.Bind
	if mod := paths[0]; mod != "" && mod != os.DevNull {
		binds = append(binds, host.Bind{Source: filepath.Dir(mod)})
	}
	return append(binds, host.Bind{Source: paths[1]}, host.Bind{Source: paths[2]}, host.Bind{Source: paths[3], Writable: true})
}

// merge leaves out what isn't there, and what is shown at the same place twice: writable
// wins.
func merge(binds []host.Bind) []host.Bind {
	var merged []host.Bind
	for _, b := range binds {
		if _, err := os.Stat(b.Source); err != nil {
			continue
		}
		i := slices.IndexFunc(merged, func(m host.Bind) bool { return m.Source == b.Source && m.Target == b.Target })
		if i < 0 {
			merged = append(merged, b)
		} else {
			merged[i].Writable = merged[i].Writable || b.Writable
		}
	}
	return merged
}

// environment is what of ours is handed over. TMPDIR is not, nor are addresses of buses
// and the like: they are of this machine.
func environment(all []string) []string {
	var env []string
	for _, e := range all {
		name, _, _ := strings.Cut(e, "=")
		switch {
		case name == "GOTMPDIR", name == insideEnv, name == missingEnv:
		case slices.Contains([]string{"PATH", "HOME", "PWD", "USER", "LOGNAME", "LANG", "TERM", "TZ", "CI"}, name),
			strings.HasPrefix(name, "GO"), strings.HasPrefix(name, "CGO_"), strings.HasPrefix(name, "LC_"), strings.HasPrefix(name, "MGMT_"):
			env = append(env, e)
		}
	}
	return env
}
