// Command citest runs go test with the arguments that it is given and tells what
// matters: a line per package, everything that a failing test printed, each skipped
// test with its reason, and at the end "N passed, N failed, N skipped" on a line of its
// own, in which each test and sub-test counts once.
//
//	citest [-forbid REGEXP] GO-TEST-ARGUMENTS
//
// A test that was skipped for a reason that matches REGEXP counts as failed. That is
// for machines on which nothing may be missing.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run returns the exit code: 0, 1 if a test failed, 2 for a usage error.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	forbid := ""
	for len(args) >= 2 && args[0] == "-forbid" {
		forbid, args = args[1], args[2:]
	}
	forbidden, err := regexp.Compile(forbid)
	if err != nil {
		fmt.Fprintln(stderr, "citest: -forbid:", err)
		return 2
	}
	if len(args) == 0 || args[0] == "-h" || args[0] == "--help" {
		fmt.Fprintln(stderr, "usage: citest [-forbid REGEXP] GO-TEST-ARGUMENTS")
		return 2
	}
	if forbid == "" {
		forbidden = nil
	}

	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, args...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		fmt.Fprintln(stderr, "citest:", err)
		return 2
	}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(stderr, "citest:", err)
		return 2
	}
	r := newReport(stdout, forbidden)
	r.read(out)
	failed := cmd.Wait() != nil
	r.summary()
	if failed || r.failed > 0 {
		return 1
	}
	return 0
}
