package mesh_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mgmtproject/mgmt/cmd/internal/mesh"
	store "github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/streams"
)

// fake is a store of one key, whose watches end when it is lost.
type fake struct {
	value string
	lost  chan struct{}
	err   error // of watches, once it is lost
}

func newFake(value string) *fake { return &fake{value: value, lost: make(chan struct{})} }

func (f *fake) Host() string { return "a" }

func (f *fake) Get(context.Context, string) (store.Entry, bool, error) {
	return store.Entry{Value: []byte(f.value)}, true, nil
}

func (f *fake) List(context.Context, string) (store.List, error) { return store.List{}, nil }

func (f *fake) Write(context.Context, store.Txn) (int64, error) { return 1, nil }

func (f *fake) Changes(store.Watch) streams.Observable[store.Change] {
	return streams.New(func(ctx context.Context, emit func(store.Change) bool) error {
		if !emit(store.Change{Reset: true, Put: []store.Entry{{Value: []byte(f.value)}}}) {
			return nil
		}
		select {
		case <-f.lost:
			return f.err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
}

func TestACallWaitsForAStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := mesh.NewCurrent("a", nil)
		time.AfterFunc(time.Second, func() { c.Set(newFake("x"), nil) })
		e, ok, err := c.Get(t.Context(), "k")
		if err != nil || !ok || string(e.Value) != "x" {
			t.Errorf("got %q, %v, %v", e.Value, ok, err)
		}
	})
}

func TestACallGivesUpWithTheReason(t *testing.T) {
	why := errors.New("the program is not there")
	for _, tt := range []struct {
		name  string
		limit time.Duration // 0 is no deadline
		why   error
		want  time.Duration
	}{
		{"without a deadline after some seconds", 0, why, 5 * time.Second},
		{"at its deadline", time.Second, why, time.Second},
		{"without a reason if none is known", time.Second, nil, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := mesh.NewCurrent("a", nil)
				c.Set(nil, tt.why)
				ctx := t.Context()
				if tt.limit > 0 {
					var done context.CancelFunc
					ctx, done = context.WithTimeout(ctx, tt.limit)
					defer done()
				}
				began := time.Now()
				_, err := c.Write(ctx, store.Txn{})
				if !errors.Is(err, store.ErrUnreachable) || tt.why != nil && !errors.Is(err, tt.why) {
					t.Errorf("the error is %v", err)
				}
				if took := time.Since(began); took != tt.want {
					t.Errorf("it takes %v, want %v", took, tt.want)
				}
			})
		})
	}
}

func TestACallThatIsCancelledSaysSo(t *testing.T) {
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if _, err := mesh.NewCurrent("a", nil).List(ctx, "/"); err != why {
		t.Errorf("the error is %v", err)
	}
}

func TestAWatchGoesOnWithTheNextStore(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
	}{
		{"when the first is out of reach", store.ErrUnreachable},
		{"when the first has gone", errors.New("closed")},
		{"when the first ends its watches", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				used := 0
				c := mesh.NewCurrent("a", func() { used++ })
				first, second := newFake("one"), newFake("two")
				first.err = tt.err
				c.Set(first, nil)
				var got []string
				err := c.Changes(store.Key("k")).Subscribe(t.Context(), func(ch store.Change) bool {
					got = append(got, string(ch.Put[0].Value))
					if len(got) == 1 {
						c.Set(nil, nil)
						close(first.lost)
						time.AfterFunc(time.Hour, func() { c.Set(second, nil) })
					}
					return len(got) < 2
				})
				if err != nil || len(got) != 2 || got[1] != "two" {
					t.Errorf("it has seen %q, and then %v", got, err)
				}
				if used == 0 {
					t.Error("nobody was told that it is wanted")
				}
			})
		})
	}
}

func TestAWatchEndsWithAnErrorThatNoWaitingMends(t *testing.T) {
	f := newFake("x")
	f.err = errors.New("permission denied")
	close(f.lost)
	c := mesh.NewCurrent("a", nil)
	c.Set(f, nil)
	err := c.Changes(store.Below("/")).Subscribe(t.Context(), func(store.Change) bool { return true })
	if err != f.err {
		t.Errorf("the error is %v", err)
	}
}

func TestAStoreWithoutAVaultHidesNothing(t *testing.T) {
	c := mesh.NewCurrent("a", nil)
	c.Set(newFake("x"), nil)
	if _, err := c.Seal(t.Context(), []string{"b"}, []byte("secret")); err == nil {
		t.Error("it seals")
	}
	if _, err := c.Open(t.Context(), []byte("sealed")); err == nil {
		t.Error("it opens")
	}
}
