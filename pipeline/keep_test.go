package pipeline_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file"
	"github.com/mgmtproject/mgmt/sources/all"
	"github.com/mgmtproject/mgmt/streams"
)

// keeper is a run of real files under real watches.
type keeper struct {
	t         *testing.T
	want      map[string]*string // nil: absent
	converged chan bool
}

// keep starts a run that keeps the files of want, by path, and waits for convergence.
func keep(t *testing.T, want map[string]*string) *keeper {
	t.Helper()
	g := &pipeline.Graph{Name: "files"}
	for path, text := range want {
		cfg := file.Spec.New().(*file.Config)
		cfg.State, cfg.Content = "exists", text
		if text == nil {
			cfg.State = "absent"
		}
		g.Add("file", path, cfg)
	}
	if err := g.Compile(sinks.Options{}); err != nil {
		t.Fatal(err)
	}
	k := &keeper{t: t, want: want, converged: make(chan bool, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		run := pipeline.Run(streams.Of(pipeline.Update{Graph: g}), pipeline.Options{
			Sources: all.New(nil), ConvergedTimeout: 20 * time.Millisecond,
			Fights: pipeline.Fights{Repairs: -1}, // this test is one
		})
		done <- run.Subscribe(ctx, func(r pipeline.Result) bool {
			switch {
			case r.Kind == pipeline.Converged:
				select {
				case k.converged <- true:
				default:
				}
			case r.Kind == pipeline.Finished && r.Err != nil && ctx.Err() == nil:
				t.Error(r.Failure())
			}
			return true
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	select {
	case <-k.converged:
	case <-time.After(time.Minute):
		t.Fatal("not converged within a minute")
	}
	if wrong := k.wrong(); wrong != "" {
		t.Fatal("converged, but", wrong)
	}
	return k
}

// wrong names a file that is not as it should be.
func (k *keeper) wrong() string {
	for path, want := range k.want {
		got, err := os.ReadFile(path)
		switch {
		case want == nil && err == nil:
			return path + " is there"
		case want != nil && err != nil:
			return err.Error()
		case want != nil && string(got) != *want:
			return fmt.Sprintf("%s holds %q", path, got)
		}
	}
	return ""
}

// repaired waits until all is right, and fails if that takes more than a minute: the
// disk may be slow, and what is lost stays lost.
func (k *keeper) repaired() {
	k.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		wrong := k.wrong()
		if wrong == "" {
			return
		}
		if time.Now().After(deadline) {
			k.t.Fatal("not repaired within a minute: " + wrong)
		}
		time.Sleep(time.Millisecond)
	}
}

func text(s string) *string { return &s }

func TestKeepThroughChangesWithoutAGap(t *testing.T) {
	for name, want := range map[string]*string{"a present file": text("as it should be\n"), "an absent file": nil} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			k := keep(t, map[string]*string{path: want})
			for i := range 500 {
				// A rename may win against any step of ours; that is what is tested.
				switch i % 3 {
				case 0:
					_ = os.WriteFile(path, []byte("drift\n"), 0o644)
				case 1:
					_ = os.Remove(path)
				case 2:
					_ = os.WriteFile(path+".new", []byte("drift by rename\n"), 0o644)
					_ = os.Rename(path+".new", path)
				}
			}
			k.repaired()
		})
	}
}

func TestKeepThroughStorms(t *testing.T) {
	if testing.Short() {
		storm(t, 80)
		return
	}
	storm(t, 800)
}

func TestSoakStorms(t *testing.T) {
	if os.Getenv("MGMT_SOAK") == "" {
		t.Skip("takes minutes: make soak")
	}
	storm(t, 20_000)
}

func storm(t *testing.T, rounds int) {
	dir := t.TempDir()
	want := map[string]*string{}
	var paths []string
	for i := range 6 {
		path := filepath.Join(dir, fmt.Sprint("f", i))
		paths = append(paths, path)
		if want[path] = text(fmt.Sprintf("file %d\n", i)); i == 0 {
			want[path] = nil
		}
	}
	k := keep(t, want)
	for round := range rounds {
		var wg sync.WaitGroup
		for writer := range 4 {
			r := rand.New(rand.NewPCG(uint64(round), uint64(writer)))
			wg.Go(func() {
				for range 5 {
					path := paths[r.IntN(len(paths))]
					switch r.IntN(4) {
					case 0:
						_ = os.WriteFile(path, []byte("storm"), 0o600)
					case 1:
						_ = os.Remove(path)
					case 2:
						temp := fmt.Sprintf("%s.%d", path, writer)
						_ = os.WriteFile(temp, []byte("storm"), 0o644)
						_ = os.Rename(temp, path)
					case 3:
						_ = os.Truncate(path, 1)
					}
				}
			})
		}
		wg.Wait()
		k.repaired()
	}
}

func TestKeepManyFiles(t *testing.T) {
	for _, n := range []int{1_000, 10_000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			dir := t.TempDir()
			want := map[string]*string{}
			var paths []string
			for i := range n {
				// a directory for each ten files, so that there are many watches
				path := filepath.Join(dir, fmt.Sprint("d", i/10), fmt.Sprint("f", i))
				want[path] = text(fmt.Sprintf("file %d\n", i))
				paths = append(paths, path)
			}
			k := keep(t, want)
			for i, path := range paths {
				if i%2 == 0 {
					_ = os.Remove(path)
				} else {
					_ = os.WriteFile(path, []byte("drift"), 0o644)
				}
			}
			k.repaired()
			if err := os.Rename(filepath.Join(dir, "d0"), filepath.Join(dir, "away")); err != nil {
				t.Fatal(err)
			}
			k.repaired()
		})
	}
}
