// Command testhost boots throw-away machines on which systemd really runs, for tests
// that need one. It needs root, and on Debian the packages systemd-container and dbus.
//
//	testhost boot [FLAGS]                   boots one, prints the PID of its process 1, and keeps it until Ctrl-C
//	testhost exec [FLAGS] [--] PROGRAM ...  boots one, runs the program in it, and ends with the program's exit status
//
// The second is for go test -exec. See docs/test-hosts.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/mgmtproject/mgmt/cmd/internal/testhost/host"
)

const usage = `usage: testhost boot [FLAGS]
       testhost exec [FLAGS] [--] PROGRAM [ARGUMENTS]
"testhost exec -h" lists the flags.
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run returns the exit status: 125 if there was no host, 2 for a usage error.
func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	switch args[0] {
	case "boot":
		return boot(args[1:], stdout, stderr)
	case "exec":
		return execute(args[1:], stderr)
	case "-h", "--help", "help":
		fmt.Fprint(stdout, usage)
		return 0
	}
	fmt.Fprintf(stderr, "testhost: there is no command %q\n%s", args[0], usage)
	return 2
}

// flags are those that both commands have.
func flags(command string, stderr io.Writer, opts *host.Options) *flag.FlagSet {
	f := flag.NewFlagSet("testhost "+command, flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&opts.Base, "base", "/", "the root file system to boot a copy of, as `DIR`")
	f.StringVar(&opts.Name, "name", "testhost", "its host `NAME`")
	f.StringVar(&opts.NetNS, "netns", "", "the `PATH` of its network namespace, such as /run/netns/a; one of its own if empty")
	bind := func(writable bool) func(string) error {
		return func(value string) error {
			source, target, _ := strings.Cut(value, ":")
			source, err := filepath.Abs(source)
			opts.Binds = append(opts.Binds, host.Bind{Source: source, Target: target, Writable: writable})
			return err
		}
	}
	f.Func("bind", "show it a file or folder of this machine, writable, as `SRC[:DST]`", bind(true))
	f.Func("bind-ro", "the same, read-only, as `SRC[:DST]`", bind(false))
	f.Func("nspawn", "a further `ARGUMENT` for systemd-nspawn", func(value string) error {
		opts.Nspawn = append(opts.Nspawn, value)
		return nil
	})
	return f
}

// failed is the exit status after a usage error, which flag has told, or -h.
func failed(err error) int {
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	return 2
}

func boot(args []string, stdout, stderr io.Writer) int {
	var opts host.Options
	f := flags("boot", stderr, &opts)
	if err := f.Parse(args); err != nil {
		return failed(err)
	}
	if f.NArg() > 0 {
		fmt.Fprintf(stderr, "testhost boot: what is %q? A program is run by testhost exec\n", f.Arg(0))
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	h, err := host.Boot(ctx, opts)
	if err != nil {
		fmt.Fprintln(stderr, "testhost:", err)
		return 125
	}
	fmt.Fprintln(stdout, h.Leader)
	fmt.Fprintf(stderr, "a shell in it: nsenter --target %d --all; Ctrl-C ends it\n", h.Leader)
	select {
	case <-ctx.Done():
	case <-h.Exited():
	}
	if err := h.Stop(); err != nil {
		fmt.Fprintln(stderr, "testhost:", err)
		return 1
	}
	return 0
}
