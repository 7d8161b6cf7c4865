package graphfile_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/graphfile"
	"github.com/mgmtproject/mgmt/sources/inotify"
	"github.com/mgmtproject/mgmt/streams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bell is a Watcher that rings when told.
type bell chan sources.Event

func (b bell) Observe(sources.Watch) streams.Observable[sources.Event] {
	return streams.New(func(ctx context.Context, emit func(sources.Event) bool) error {
		if !emit(sources.Event{What: "watching"}) {
			return nil
		}
		return streams.FromChan(b).Subscribe(ctx, emit)
	})
}

// listen collects texts until stop, which returns how it ended.
func listen(o streams.Observable[graphfile.Text]) (got func() []string, stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var texts []string
	ended := make(chan error, 1)
	go func() {
		ended <- o.Subscribe(ctx, func(text graphfile.Text) bool {
			mu.Lock()
			defer mu.Unlock()
			if text.Err != nil {
				texts = append(texts, "error")
			} else {
				texts = append(texts, string(text.Data))
			}
			return true
		})
	}()
	got = func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string{}, texts...)
	}
	return got, func() error { cancel(); return <-ended }
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestObserveReadsWhenTheFileIsQuiet(t *testing.T) {
	type step struct {
		do   string // "write TEXT", "remove", "touch"
		wait time.Duration
	}
	const long, short = 50 * time.Millisecond, 10 * time.Millisecond
	tests := []struct {
		name  string
		steps []step
		want  string
	}{
		{"it emits at once", nil, "old"},
		{"a change is emitted", []step{{"write new", long}}, "old|new"},
		{"touch is not", []step{{"touch", long}, {"touch", long}}, "old"},
		{"the same bytes are not", []step{{"write old", long}, {"write old", long}}, "old"},
		{"a truncation before the write is not", []step{{"write ", short}, {"write ne", short}, {"write new", long}}, "old|new"},
		{"two saves apart are two", []step{{"write one", long}, {"write two", long}}, "old|one|two"},
		{"there and back at once is nothing", []step{{"write new", short}, {"write old", long}}, "old"},
		{"there and back apart is both", []step{{"write new", long}, {"write old", long}}, "old|new|old"},
		{"an empty file is a text", []step{{"write ", long}}, "old|"},
		{"a file that vanishes is an error, once", []step{{"remove", long}, {"touch", long}}, "old|error"},
		{"a file that comes back as it was is silent", []step{{"remove", long}, {"write old", long}, {"write new", long}}, "old|error|new"},
		{"a file that comes back different is emitted", []step{{"remove", long}, {"write new", long}, {"write old", long}}, "old|error|new|old"},
		{"a file that vanishes during a save is no error", []step{{"remove", short}, {"write new", long}}, "old|new"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "graph.yaml")
			write(t, path, "old")
			synctest.Test(t, func(t *testing.T) {
				events := make(bell)
				got, stop := listen(graphfile.Observe(path, events))
				synctest.Wait()
				for _, s := range tt.steps {
					what, text, _ := strings.Cut(s.do, " ")
					switch what {
					case "write":
						write(t, path, text)
					case "remove":
						if err := os.Remove(path); err != nil {
							t.Fatal(err)
						}
					}
					events <- sources.Event{What: what}
					time.Sleep(s.wait)
					synctest.Wait()
				}
				if got := strings.Join(got(), "|"); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
				if err := stop(); !errors.Is(err, context.Canceled) {
					t.Errorf("it ended with %v", err)
				}
			})
		})
	}
}

func TestObserveARealFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "conf", "graph.yaml")
	src := inotify.New(inotify.Options{})
	texts := make(chan graphfile.Text, 100)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = graphfile.Observe(path, src).Subscribe(ctx, func(text graphfile.Text) bool { texts <- text; return true })
	})
	next := func() graphfile.Text {
		t.Helper()
		select {
		case text := <-texts:
			if text.Name != path {
				t.Errorf("got the name %q", text.Name)
			}
			return text
		case <-time.After(20 * time.Second):
			t.Fatal("waited in vain for a text")
			panic("unreachable")
		}
	}
	want := func(data string) {
		t.Helper()
		if got := next(); got.Err != nil || string(got.Data) != data {
			t.Fatalf("got %q, %v; want %q", got.Data, got.Err, data)
		}
	}
	if got := next(); !errors.Is(got.Err, fs.ErrNotExist) {
		t.Fatalf("a missing file: got %q, %v", got.Data, got.Err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, path, "one")
	want("one")
	write(t, path, "two")
	want("two")
	write(t, path+"~", "three")
	if err := os.Rename(path+"~", path); err != nil {
		t.Fatal(err)
	}
	want("three")
	if err := os.RemoveAll(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	if got := next(); !errors.Is(got.Err, fs.ErrNotExist) {
		t.Fatalf("a removed directory: got %q, %v", got.Data, got.Err)
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := next(); got.Err == nil {
		t.Fatalf("a directory: got %q", got.Data)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(t, path, "four")
	for got := next(); string(got.Data) != "four"; got = next() {
		if !errors.Is(got.Err, fs.ErrNotExist) {
			t.Fatalf("got %q, %v", got.Data, got.Err)
		}
	}
	cancel()
	wg.Wait()
}

func TestObserveRefusesWhatCannotBeWatched(t *testing.T) {
	err := graphfile.Observe("", inotify.New(inotify.Options{})).Subscribe(t.Context(), func(graphfile.Text) bool { return true })
	if err == nil || !strings.Contains(err.Error(), "not absolute") {
		t.Errorf("got %v", err)
	}
}

func TestObserveEndsWhenItsReaderSaysSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "graph.yaml")
	write(t, path, "x")
	for text, err := range graphfile.Observe(path, inotify.New(inotify.Options{})).Seq(t.Context()) {
		if err != nil || string(text.Data) != "x" {
			t.Errorf("got %q, %v", text.Data, err)
		}
		break
	}
}

func TestRead(t *testing.T) {
	t.Run("emits once and stays silent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			o := graphfile.Read(strings.NewReader("graph: x"), "standard input")
			for range 2 {
				got, stop := listen(o)
				time.Sleep(time.Hour)
				if got := got(); len(got) != 1 || got[0] != "graph: x" {
					t.Errorf("got %q", got)
				}
				if err := stop(); !errors.Is(err, context.Canceled) {
					t.Errorf("it ended with %v", err)
				}
			}
		})
	})
	t.Run("emits a failure as a value", func(t *testing.T) {
		broken := errors.New("broken")
		for text, err := range graphfile.Read(iotest.ErrReader(broken), "standard input").Seq(t.Context()) {
			if err != nil || !errors.Is(text.Err, broken) || text.Err.Error() != "reading standard input: broken" || text.Data != nil {
				t.Errorf("got %+v, %v", text, err)
			}
			break
		}
	})
	t.Run("a cancel interrupts a pipe that waits", func(t *testing.T) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		defer w.Close()
		_, stop := listen(graphfile.Read(r, "pipe"))
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
	})
	t.Run("a cancel leaves a reader behind that can't be interrupted", func(t *testing.T) {
		r, w := io.Pipe()
		_, stop := listen(graphfile.Read(r, "pipe"))
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
		_ = w.Close() // and lets it end
	})
}
