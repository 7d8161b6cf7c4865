package msg_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/msg"
	"github.com/mgmtproject/mgmt/sinks/params"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// build makes a resource that logs to w.
func build(t *testing.T, w io.Writer, name string, values map[string]any) sinks.Resource {
	t.Helper()
	cfg := msg.Spec.New()
	if err := params.DecodeMap(cfg, values); err != nil {
		t.Fatal(err)
	}
	r, err := cfg.Build(name, sinks.Options{Log: slog.New(handler(w))})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// handler logs everything, without times.
func handler(w io.Writer) slog.Handler {
	return slog.NewTextHandler(w, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})
}

func TestLog(t *testing.T) {
	tests := []struct {
		name   string
		params map[string]any
		want   string
	}{
		{"the name is the default", nil, "level=INFO msg=hello\n"},
		{"a body", map[string]any{"body": "good day"}, `level=INFO msg="good day"` + "\n"},
		{"facts in alphabetical order", map[string]any{"fields": map[string]string{"b": "2", "a": "1"}}, "level=INFO msg=hello a=1 b=2\n"},
		{"emerg", map[string]any{"priority": "emerg"}, "level=ERROR msg=hello\n"},
		{"Alert", map[string]any{"priority": "Alert"}, "level=ERROR msg=hello\n"},
		{"crit", map[string]any{"priority": "crit"}, "level=ERROR msg=hello\n"},
		{"Err", map[string]any{"priority": "Err"}, "level=ERROR msg=hello\n"},
		{"warning", map[string]any{"priority": "warning"}, "level=WARN msg=hello\n"},
		{"Notice", map[string]any{"priority": "Notice"}, "level=INFO msg=hello\n"},
		{"INFO", map[string]any{"priority": "INFO"}, "level=INFO msg=hello\n"},
		{"debug", map[string]any{"priority": "debug"}, "level=DEBUG msg=hello\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			r := build(t, &log, "hello", tt.params)
			for _, apply := range []bool{false, true} {
				want := ""
				if apply {
					want = tt.want
				}
				out, err := r.CheckApply(t.Context(), apply)
				if err != nil || !out.Changed || log.String() != want {
					t.Errorf("apply=%v: got %+v, %v, log %q; want %q", apply, out, err, log.String(), want)
				}
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := build(t, &log, "hello", nil).CheckApply(ctx, true)
	if !errors.Is(err, context.Canceled) || log.Len() > 0 {
		t.Errorf("got %v, log %q", err, log.String())
	}
}

// TestServices runs again, as root, in a process that has /run and /dev for itself, where
// it plays the journal and syslog.
func TestServices(t *testing.T) {
	if os.Getenv("TEST_OWN_MOUNTS") == "" {
		if os.Getuid() != 0 {
			t.Skip("needs root: only root may mount a /run and a /dev of its own")
		}
		cmd := exec.Command(os.Args[0], "-test.run=^TestServices$", "-test.v")
		cmd.Env = append(os.Environ(), "TEST_OWN_MOUNTS=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		switch {
		case errors.Is(err, syscall.EPERM) || bytes.Contains(out, []byte("cannot mount")):
			t.Skipf("needs the right to mount: %v %s", err, out)
		case err != nil || !bytes.Contains(out, []byte("--- PASS: TestServices")):
			t.Errorf("%v\n%s", err, out)
		default:
			t.Logf("%s", out)
		}
		return
	}
	ownMounts(t)
	t.Run("an absent service is named", absent)
	t.Run("the journal", toJournal)
	t.Run("a journal that hangs", hanging)
	t.Run("syslog", toSyslog)
}

func ownMounts(t *testing.T) {
	err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
	for _, dir := range []string{"/run", "/dev"} {
		if err == nil {
			err = syscall.Mount("tmpfs", dir, "tmpfs", 0, "")
		}
	}
	if err != nil {
		t.Fatal("cannot mount:", err)
	}
	// A journal in /dev/shm takes what is too long for a datagram.
	for _, dir := range []string{"/run/systemd/journal", "/dev/shm"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// listen plays a service until the test ends.
func listen(t *testing.T, path string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(); _ = os.Remove(path) })
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

const journalSocket = "/run/systemd/journal/socket"

func absent(t *testing.T) {
	const noJournal = "sending to the systemd journal at /run/systemd/journal/socket: "
	const noSyslog = "sending to syslog at /dev/log, /var/run/syslog or /var/run/log: "
	tests := []struct {
		name   string
		params map[string]any
		want   string
	}{
		{"no journal", map[string]any{"journal": true}, "^" + noJournal + "no such file or directory$"},
		{"no syslog", map[string]any{"syslog": true}, "^" + noSyslog + ".+$"},
		{"neither", map[string]any{"syslog": true, "journal": true}, "^" + noJournal + "no such file or directory; " + noSyslog + ".+$"},
	}
	for _, tt := range tests {
		var log bytes.Buffer
		r := build(t, &log, "hello", tt.params)
		if out, err := r.CheckApply(t.Context(), false); err != nil || !out.Changed {
			t.Errorf("%s: a check got %+v, %v", tt.name, out, err)
		}
		_, err := r.CheckApply(t.Context(), true)
		if err == nil || !regexp.MustCompile(tt.want).MatchString(err.Error()) {
			t.Errorf("%s: got error %v, want %s", tt.name, err, tt.want)
		}
		if log.String() != "level=INFO msg=hello\n" {
			t.Errorf("%s: got log %q", tt.name, log.String())
		}
	}
}

func toJournal(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 64<<10)
	tests := []struct {
		name   string
		params map[string]any
		want   map[string]string
	}{
		{"a name", nil, map[string]string{"MESSAGE": "hello", "PRIORITY": "6"}},
		{"lines and fields", map[string]any{"body": "two\nlines", "priority": "Crit", "fields": map[string]string{"request_id": "a=b", "TEXT": "c\nd\n"}},
			map[string]string{"MESSAGE": "two\nlines", "PRIORITY": "2", "REQUEST_ID": "a=b", "TEXT": "c\nd\n"}},
		{"a long body", map[string]any{"body": long}, map[string]string{"MESSAGE": long, "PRIORITY": "6"}},
		{"a name of its own", map[string]any{"fields": map[string]string{"syslog_identifier": "x"}}, map[string]string{"MESSAGE": "hello", "PRIORITY": "6", "SYSLOG_IDENTIFIER": "x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn := listen(t, journalSocket)
			params := map[string]any{"journal": true}
			maps.Copy(params, tt.params)
			if _, err := build(t, io.Discard, "hello", params).CheckApply(t.Context(), true); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"SYSLOG_IDENTIFIER": "mgmt"}
			maps.Copy(want, tt.want)
			if got, err := receive(conn); err != nil || !maps.Equal(got, want) {
				t.Errorf("got %.200q, %v; want %.200q", got, err, want)
			}
		})
	}
}

// receive reads an entry as the journal does: from the datagram, or from the file that
// came with it.
func receive(conn *net.UnixConn) (map[string]string, error) {
	data, oob := make([]byte, 1<<20), make([]byte, 1<<10)
	n, oobn, _, _, err := conn.ReadMsgUnix(data, oob)
	if err != nil {
		return nil, err
	}
	data = data[:n]
	if oobn > 0 {
		messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
		if err != nil {
			return nil, err
		}
		fds, err := syscall.ParseUnixRights(&messages[0])
		if err != nil {
			return nil, err
		}
		f := os.NewFile(uintptr(fds[0]), "entry")
		defer f.Close()
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		if data, err = io.ReadAll(f); err != nil {
			return nil, err
		}
	}
	fields := make(map[string]string)
	for len(data) > 0 {
		line, rest, _ := bytes.Cut(data, []byte("\n"))
		if name, value, ok := strings.Cut(string(line), "="); ok {
			fields[name] = value
			data = rest
			continue
		}
		// A value with newlines: its name, its size in 64 bits, itself and a newline.
		size := binary.LittleEndian.Uint64(rest)
		fields[string(line)] = string(rest[8 : 8+size])
		data = rest[8+size+1:]
	}
	return fields, nil
}

func hanging(t *testing.T) {
	conn := listen(t, journalSocket)
	r := build(t, io.Discard, "hello", map[string]any{"journal": true})
	if !r.(sinks.Waiter).Waits() {
		t.Error("it takes a worker while it waits")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	sent := 0
	var err error
	for ; err == nil && sent < 10_000; sent++ {
		_, err = r.CheckApply(ctx, true)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after %d messages that nobody reads got %v, want the end of the context", sent, err)
	}
	for range sent { // the last one too, which waits
		if _, err := receive(conn); err != nil {
			t.Fatal(err)
		}
	}
}

func toSyslog(t *testing.T) {
	conn := listen(t, "/dev/log")
	r := build(t, io.Discard, "hello", map[string]any{"syslog": true, "priority": "Warning"})
	if _, err := r.CheckApply(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1<<10)
	n, err := conn.Read(got)
	// Facility daemon is 3, times 8; priority warning is 4.
	want := fmt.Sprintf(`^<28>\w+ +\d+ \d\d:\d\d:\d\d %s\[%d\]: hello\n$`, "mgmt", os.Getpid())
	if err != nil || !regexp.MustCompile(want).Match(got[:n]) {
		t.Errorf("got %q, %v; want %s", got[:n], err, want)
	}
}

func TestConformance(t *testing.T) {
	sinktest.Run(t, msg.Spec,
		sinktest.Case{Name: "a message is logged", Resource: "hello", Acts: true,
			Params: map[string]any{"body": "good day", "priority": "Notice", "fields": map[string]string{"a": "b"}}},
	)
}

func TestInvalid(t *testing.T) {
	const names = `does not consist of at most 64 letters, digits and underscores, the first a letter`
	tests := []struct {
		name   string
		params map[string]any
		want   string
	}{
		{"another priority", map[string]any{"priority": "loud"}, `priority: "loud" is none of emerg, alert, crit, err, warning, notice, info, debug`},
		{"a field with a sign", map[string]any{"fields": map[string]string{"a-b": "x"}}, `fields: the name "a-b" ` + names},
		{"a field that begins with a digit", map[string]any{"fields": map[string]string{"1a": "x"}}, `fields: the name "1a" ` + names},
		{"a field that the journal sets", map[string]any{"fields": map[string]string{"_PID": "x"}}, `fields: the name "_PID" ` + names},
		{"a field without a name", map[string]any{"fields": map[string]string{"": "x"}}, `fields: the name "" ` + names},
		{"a field that is the body", map[string]any{"fields": map[string]string{"message": "x"}}, `fields: the journal takes "message" for the same as body`},
		{"two fields of one name", map[string]any{"fields": map[string]string{"a": "x", "A": "y"}}, `fields: the journal takes "a" for the same as "A"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { sinktest.Invalid(t, msg.Spec, "hello", tt.params, tt.want) })
	}
}
