package bell_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/examples/extend/bell"
	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/streams"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dinner is a desired state that somebody upsets by ringing: it is eaten.
type dinner struct{ eaten int }

func (d *dinner) Build(string, sinks.Options) (sinks.Resource, error) { return d, nil }
func (d *dinner) Watches() []sources.Watch                            { return []sources.Watch{bell.Named("dinner")} }
func (d *dinner) CheckApply(context.Context, bool) (sinks.Outcome, error) {
	d.eaten++
	return sinks.Outcome{Changed: true}, nil
}

// A run is given the source beside those that it needs otherwise.
func Example() {
	bells := bell.New()
	g := &pipeline.Graph{}
	g.Add("dinner", "at eight", &dinner{})
	if err := g.Compile(sinks.Options{}); err != nil {
		panic(err)
	}
	run := pipeline.Run(streams.Of(pipeline.Update{Graph: g}), pipeline.Options{Sources: []sources.Source{bells}})
	dinners := 0
	for r, err := range run.Seq(context.Background()) {
		if err != nil {
			panic(err)
		}
		if r.Kind != pipeline.Finished {
			continue
		}
		fmt.Println(r.Vertex, "because of", r.Cause)
		if dinners++; dinners == 2 {
			break
		}
		bells.Ring("lunch") // nobody listens
		bells.Ring("dinner")
	}
	// Output:
	// dinner[at eight] because of swap
	// dinner[at eight] because of event bell dinner
}

func TestSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := bell.New()
		for _, w := range []sources.Watch{bell.Named("a"), bell.Named("b"), bell.Named("b")} {
			if err := s.Add(w); err != nil {
				t.Fatal(err)
			}
		}
		s.Remove(bell.Named("b")) // the other one stays
		if err := s.Add(sources.Interval{}); err == nil {
			t.Error("it accepts the watch of another source")
		}
		s.Ring("b") // before Events is subscribed
		s.Ring("b")
		s.Ring("nobody's")

		var heard []string
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- s.Events().Subscribe(ctx, func(e sources.Event) bool {
				heard = append(heard, e.String())
				return true
			})
		}()
		for _, name := range []string{"a", "b"} {
			synctest.Wait()
			s.Ring(name)
		}
		synctest.Wait()
		s.Remove(bell.Named("a"))
		s.Ring("a")
		synctest.Wait()
		cancel()
		if err := <-ended; err != context.Canceled {
			t.Errorf("it ended with %v", err)
		}
		if want := []string{"bell b ring", "bell a ring", "bell b ring"}; !slices.Equal(heard, want) {
			t.Errorf("heard %q, want %q", heard, want)
		}
	})
}
