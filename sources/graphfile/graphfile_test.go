package graphfile_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sources/graphfile"
	"github.com/mgmtproject/mgmt/sources/inotify"
	"github.com/mgmtproject/mgmt/streams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// observed collects what is emitted.
type observed struct {
	t     *testing.T
	texts chan graphfile.Text
}

func observe(t *testing.T, o streams.Observable[graphfile.Text]) *observed {
	ctx, cancel := context.WithCancel(t.Context())
	obs := &observed{t: t, texts: make(chan graphfile.Text, 100)}
	done := make(chan error, 1)
	go func() { done <- o.Subscribe(ctx, func(x graphfile.Text) bool { obs.texts <- x; return true }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	})
	return obs
}

func (o *observed) expect(want string) {
	o.t.Helper()
	select {
	case got := <-o.texts:
		if got.Err != nil || string(got.Data) != want {
			o.t.Fatalf("got %q, %v; want %q", got.Data, got.Err, want)
		}
	case <-time.After(5 * time.Second):
		o.t.Fatalf("nothing came, want %q", want)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestObserve(t *testing.T) {
	path := filepath.Join(t.TempDir(), "graph.yaml")
	write(t, path, "one")
	o := observe(t, graphfile.Observe(path, inotify.New(inotify.Options{})))
	o.expect("one")

	write(t, path, "two")
	o.expect("two")

	// None of these is news: what comes next is the save after them.
	now := time.Now()
	if err := os.Chtimes(path, now, now); err != nil {
		t.Fatal(err)
	}
	time.Sleep(100 * time.Millisecond)
	write(t, path, "two")
	time.Sleep(100 * time.Millisecond)
	write(t, path+".swp", "three, by rename")
	if err := os.Rename(path+".swp", path); err != nil {
		t.Fatal(err)
	}
	o.expect("three, by rename")

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-o.texts:
		if !errors.Is(got.Err, fs.ErrNotExist) {
			t.Fatalf("got %q, %v for a file that is gone", got.Data, got.Err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("nothing came for a file that is gone")
	}
	write(t, path, "three, by rename")
	time.Sleep(100 * time.Millisecond)
	write(t, path, "four")
	o.expect("four")
}

func TestObserveSeesTheLastOfManySaves(t *testing.T) {
	path := filepath.Join(t.TempDir(), "graph.yaml")
	write(t, path, "0")
	o := observe(t, graphfile.Observe(path, inotify.New(inotify.Options{})))
	o.expect("0")
	for i := range 200 {
		write(t, path, fmt.Sprint(i))
	}
	for {
		select {
		case got := <-o.texts:
			if string(got.Data) == "199" {
				return
			}
		case <-time.After(5 * time.Second):
			t.Fatal("the last save was not seen")
		}
	}
}

func TestObserveReportsAFileThatIsNotThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "later", "graph.yaml")
	o := observe(t, graphfile.Observe(path, inotify.New(inotify.Options{})))
	if got := <-o.texts; !errors.Is(got.Err, fs.ErrNotExist) {
		t.Fatalf("got %q, %v", got.Data, got.Err)
	}
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, path, "there")
	o.expect("there")
}

func TestRead(t *testing.T) {
	observe(t, graphfile.Read(strings.NewReader("graph: g"), "standard input")).expect("graph: g")

	o := observe(t, graphfile.Read(iotest.ErrReader(errors.New("it hangs up")), "standard input"))
	if got := <-o.texts; got.Err == nil || got.Err.Error() != "reading standard input: it hangs up" {
		t.Errorf("got %v", got.Err)
	}
}

func ExampleObserve() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "graph.yaml")
	if err := os.WriteFile(path, []byte("graph: first\n"), 0o644); err != nil {
		panic(err)
	}

	for text := range graphfile.Observe(path, inotify.New(inotify.Options{})).Seq(context.Background()) {
		fmt.Print(string(text.Data))
		if string(text.Data) == "graph: second\n" {
			break
		}
		if err := os.WriteFile(path, []byte("graph: second\n"), 0o644); err != nil {
			panic(err)
		}
	}
	// Output:
	// graph: first
	// graph: second
}
