package cli

import (
	"context"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

type signalName syscall.Signal

// String is the name as kill -l has it, with SIG.
func (s signalName) String() string { return unix.SignalName(syscall.Signal(s)) }

// exitStatus is what a shell makes of a program that a signal has ended.
func (s signalName) exitStatus() int { return 128 + int(s) }

// handleSignals makes the first signal that asks for it stop the run, and the second one
// end the process, until the function that it returns is called.
func (a *agent) handleSignals(cancel context.CancelCauseFunc) (end func()) {
	arrived := make(chan os.Signal, 4)
	signal.Notify(arrived, syscall.SIGINT, syscall.SIGTERM)
	hangup := a.onTerminal()
	if !signal.Ignored(syscall.SIGHUP) { // as nohup does
		signal.Notify(arrived, syscall.SIGHUP)
	}
	// A closed pipe is an error of the write, and must not end the process. To ignore
	// the signal would be inherited by commands that rely on it.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)

	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case s := <-arrived:
				a.signal(s.(syscall.Signal), hangup, cancel)
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(arrived)
		signal.Stop(broken)
		close(done)
		<-stopped
	}
}

func (a *agent) signal(s syscall.Signal, hangup bool, cancel context.CancelCauseFunc) {
	name := signalName(s)
	switch {
	case s == syscall.SIGHUP && !hangup:
		a.reload(name.String())
	case a.stopping.Swap(true):
		killChildren()
		a.discard()
		os.Exit(name.exitStatus())
	default:
		a.log.Info("stopping", "signal", name.String())
		cancel(&stopped{name})
	}
}

// killChildren ends all processes that this one has started, with their groups, and
// does not wait: for an end at once that leaves nothing behind.
func killChildren() {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return
	}
	self := strconv.Itoa(os.Getpid())
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it has ended meanwhile
		}
		// proc(5): pid (name) state ppid pgrp …, where the name can hold anything.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 3 || fields[1] != self {
			continue
		}
		if fields[2] == e.Name() {
			pid = -pid
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}
