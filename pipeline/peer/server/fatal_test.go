package server_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/pipeline/peer/server"
)

func init() { children["write"] = writeForEver }

// writeForEver runs a server that never looks at how much room there is, and says on
// standard output what was written for good.
func writeForEver(dir string) {
	s, err := server.Start(context.Background(), server.Options{
		Name: "a", Dir: dir, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Upkeep: server.Upkeep{Room: 1},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	value := strings.Repeat("0123456789", 3000)
	for i := 0; ; i++ {
		if _, err := s.Client().Put(context.Background(), fmt.Sprint("k/", i), value); err != nil {
			fmt.Fprintln(os.Stderr, err)
			select {} // the end comes by itself
		}
		fmt.Println(i)
	}
}

// child starts this program to do something as a process of its own.
func child(t *testing.T, what, dir string) (cmd *exec.Cmd, stdout *bufio.Scanner, stderr *bytes.Buffer) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), "SERVER_TEST_CHILD="+what, "SERVER_TEST_DIR="+dir)
	stderr = &bytes.Buffer{}
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out), stderr
}

func TestAFullDiskEndsTheProcessOfTheServerAndNothingThatWasWrittenIsLost(t *testing.T) {
	disk := smallDisk(t, 120<<20)
	dir := filepath.Join(disk, "a")
	cmd, stdout, stderr := child(t, "write", dir)
	if !stdout.Scan() {
		t.Fatal("it does not start: ", cmd.Wait(), stderr)
	}
	clutter(t, disk, 4<<20)
	last := 0
	for stdout.Scan() {
		n, err := strconv.Atoi(stdout.Text())
		if err != nil {
			t.Error("on standard output is more than the test has written:", stdout.Text())
		}
		last = n
	}
	err := cmd.Wait()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != server.ExitCode {
		t.Errorf("it ended with %v, expected status %d; its log:\n%s", err, server.ExitCode, stderr)
	}
	if log := stderr.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "no space left on device") {
		t.Errorf("the log does not say why:\n%s", log)
	}

	if _, err := server.Start(t.Context(), server.Options{Name: "a", Dir: dir}); !errors.Is(err, server.ErrFull) {
		t.Errorf("started on a full disk: %v", err)
	}
	if err := os.Remove(filepath.Join(disk, "clutter")); err != nil {
		t.Fatal(err)
	}
	s := start(t, server.Options{Name: "a", Dir: dir, Upkeep: server.Upkeep{Room: 1 << 20}})
	for i := range last + 1 {
		if get(t, s, fmt.Sprint("k/", i)) == "" {
			t.Fatalf("k/%d of %d is lost", i, last)
		}
	}
	t.Logf("%d values were written, and all are there", last+1)
}

func TestAServerThatIsKilledComesBackWithAllThatWasWritten(t *testing.T) {
	dir := filepath.Join(tempDir(t), "a")
	last := -1
	for range 3 {
		cmd, stdout, stderr := child(t, "write", dir)
		for range 20 {
			if !stdout.Scan() {
				t.Fatal("it has ended: ", cmd.Wait(), stderr)
			}
			last, _ = strconv.Atoi(stdout.Text())
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for stdout.Scan() {
			last, _ = strconv.Atoi(stdout.Text())
		}
		_ = cmd.Wait() // it was killed
	}
	begin := time.Now()
	s := start(t, server.Options{Name: "a", Dir: dir})
	t.Log("back after", time.Since(begin))
	for i := range last + 1 {
		if get(t, s, fmt.Sprint("k/", i)) == "" {
			t.Fatalf("k/%d of %d is lost", i, last)
		}
	}
}
