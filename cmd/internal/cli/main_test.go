package cli_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/cmd/internal/cli"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestMain lets what survives a run be kept in a directory of the tests.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "mgmt-prefix-")
	if err == nil {
		err = os.Setenv("MGMT_PREFIX", dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		os.RemoveAll(dir)
		os.Exit(code)
	}))
}

// output is what a run of the command line has printed, and its exit status.
type output struct {
	code           int
	stdout, stderr string
}

// mgmt runs the command line in this process.
func mgmt(t *testing.T, stdin string, args ...string) output {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	code := cli.Run(ctx, cli.Program{Version: "v1.2.3", In: strings.NewReader(stdin), Out: &stdout, Err: &stderr}, args)
	return output{code, stdout.String(), stderr.String()}
}

// write makes a file in a directory of its own, and returns its path.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// expect checks the exit status and what must be among the output.
func (o output) expect(t *testing.T, code int, stderr ...string) {
	t.Helper()
	if o.code != code {
		t.Errorf("exit status %d, want %d", o.code, code)
	}
	for _, want := range stderr {
		if !strings.Contains(o.stderr, want) {
			t.Errorf("standard error has no %q", want)
		}
	}
	if strings.Contains(o.stderr, "goroutine ") {
		t.Error("standard error has a Go stack")
	}
	if t.Failed() {
		t.Logf("standard output:\n%sstandard error:\n%s", o.stdout, o.stderr)
	}
}
