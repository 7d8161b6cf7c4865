package kv_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/kv"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	"github.com/mgmtproject/mgmt/sources"
	"github.com/mgmtproject/mgmt/sources/mesh"
	"github.com/mgmtproject/mgmt/sources/mesh/meshtest"
)

type params = map[string]any

// put sets a key as another host would; nil deletes it.
func put(t testing.TB, store mesh.Store, key string, value *string) {
	t.Helper()
	op := mesh.Delete(mesh.KVPrefix + key)
	if value != nil {
		op = mesh.Put(mesh.KVPrefix+key, []byte(*value))
	}
	if _, err := store.Write(t.Context(), mesh.Txn{Ops: []mesh.Op{op}}); err != nil {
		t.Fatal(err)
	}
}

// get returns what a key holds, "-" for no such key.
func get(t testing.TB, store mesh.Store, key string) string {
	t.Helper()
	e, ok, err := store.Get(t.Context(), mesh.KVPrefix+key)
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		return "-"
	}
	return string(e.Value)
}

func TestConformance(t *testing.T) {
	node := meshtest.Start(t)
	store, other := node.Store(t, "a"), node.Store(t, "b")
	for _, s := range []mesh.Store{store, other} { // which connects them, before leaks are counted
		get(t, s, "nothing")
	}
	set := func(key string, value *string) func() error {
		return func() error { put(t, other, key, value); return nil }
	}
	state := func() (string, error) {
		list, err := other.List(t.Context(), mesh.Root)
		return fmt.Sprint(list.Entries), err
	}
	undone := func(key string) func() (string, error) {
		return func() (string, error) { return get(t, other, key), nil }
	}
	sinktest.Run(t, kv.Spec,
		sinktest.Case{
			Name: "a key that others delete", Resource: "deleted", Mesh: store, Params: params{"value": "here"},
			Disturb: set("deleted", nil), State: state, Undone: undone("deleted"),
		},
		sinktest.Case{
			Name: "a key that others change", Resource: "changed", Mesh: store, Params: params{"key": "some/key", "value": "a\nb\n"},
			Disturb: set("some/key", new("")), State: state, Undone: undone("some/key"),
		},
		sinktest.Case{
			Name: "the empty text", Resource: "empty", Mesh: store, Params: params{"value": ""},
			Disturb: set("empty", nil), State: state, Undone: undone("empty"),
		},
		sinktest.Case{
			Name: "a key that others make", Resource: "made", Mesh: store,
			Disturb: set("made", new("here")), State: state, Undone: undone("made"),
		},
		sinktest.Case{
			Name: "a number that others make less", Resource: "number", Mesh: store, Params: params{"value": "10", "skiplessthan": true},
			Disturb: set("number", new("9")), State: state, Undone: undone("number"),
		},
		sinktest.Case{Name: "a key that is followed", Resource: "followed", Mesh: store, Params: params{"key": "empty", "follow": true}},
	)
}

func TestInvalid(t *testing.T) {
	sinktest.Invalid(t, kv.Spec, "a", params{"value": "x", "skiplessthan": true}, `value: "x" is no whole number, as skipcmpstyle int asks for`)
	sinktest.Invalid(t, kv.Spec, "a", params{"value": strings.Repeat("long", 100), "skiplessthan": true}, `longlonglonglong"... is no whole number`)
	sinktest.Invalid(t, kv.Spec, "a", params{"value": "x", "skipcmpstyle": "text"}, `skipcmpstyle: expected "int", "string", "0" or "1", found "text"`)
	sinktest.Invalid(t, kv.Spec, "a", params{"value": "x", "follow": true}, "value: it is given, and follow changes nothing: remove one of them")
}

// TestSkipLessThan lets a key hold something, and has a resource look at it.
func TestSkipLessThan(t *testing.T) {
	store := meshtest.New(t, "a")
	for i, tt := range []struct {
		name, there, value, style string
		want, refreshed           string
		fails                     string
	}{
		{"there is no such key", "-", "5", "", "5", "5", ""},
		{"less is replaced", "4", "5", "", "5", "5", ""},
		{"the same stays", "5", "5", "", "5", "5", ""},
		{"greater stays until there is a notification", "6", "5", "", "6", "5", ""},
		{"numbers are not compared as texts", "10", "9", "int", "10", "9", ""},
		{"negative ones are less", "-3", "-2", "0", "-2", "-2", ""},
		{"of any length", "100000000000000000000000000000", "99999999999999999999999999999", "", "100000000000000000000000000000", "99999999999999999999999999999", ""},
		{"equal ones may be written differently", "007\n", "7", "", "007\n", "7", ""},
		{"what is no number stays until there is a notification", "seven", "7", "", "seven", "7",
			`the key can't be compared with "7": "seven" is no whole number; a notification replaces it`},
		{"texts are compared as texts", "9", "10", "string", "9", "10", ""},
		{"so they are by the old name", "b", "a", "1", "b", "a", ""},
		{"a longer text is greater", "a", "aa", "string", "aa", "aa", ""},
		{"the empty text is less", "", "a", "string", "a", "a", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			key := fmt.Sprint("key", i)
			if tt.there != "-" {
				put(t, store, key, &tt.there)
			}
			c := kv.Spec.New().(*kv.Config)
			c.Value, c.SkipLessThan = &tt.value, true
			if tt.style != "" {
				c.SkipCmpStyle = tt.style
			}
			r, err := c.Build(key, sinks.Options{Mesh: store})
			if err != nil {
				t.Fatal(err)
			}
			out, err := r.CheckApply(t.Context(), true)
			if tt.fails != fmt.Sprint(err) && (tt.fails != "" || err != nil) {
				t.Errorf("it fails with %v, want %q", err, tt.fails)
			}
			if got := get(t, store, key); got != tt.want || out.Changed != (got != tt.there) || err == nil && out.Values["value"] != got {
				t.Errorf("there is %q, want %q; %+v", got, tt.want, out)
			}
			if out, err := r.(sinks.Refresher).Refresh(t.Context(), true); err != nil || out.Values["value"] != tt.refreshed {
				t.Errorf("a refresh: %+v, %v", out, err)
			}
			if got := get(t, store, key); got != tt.refreshed {
				t.Errorf("after a notification there is %q, want %q", got, tt.refreshed)
			}
		})
	}
}

// TestChanges sees how a change is told.
func TestChanges(t *testing.T) {
	store := meshtest.New(t, "a")
	for _, step := range []struct {
		name    string
		value   *string
		check   bool
		changes string
	}{
		{"a check of a new key", new("a"), true, `[state: absent -> exists value: "" -> a]`},
		{"a new key", new("a"), false, `[state: absent -> exists value: "" -> a]`},
		{"the same", new("a"), false, "[]"},
		{"another value", new("b"), false, "[value: a -> b]"},
		{"a key that goes", nil, false, `[state: exists -> absent value: b -> ""]`},
		{"a key that is gone", nil, false, "[]"},
		{"a new key that holds nothing", new(""), false, "[state: absent -> exists]"},
	} {
		r, err := (&kv.Config{Value: step.value}).Build("key", sinks.Options{Mesh: store})
		if err != nil {
			t.Fatal(err)
		}
		if out, err := r.CheckApply(t.Context(), !step.check); err != nil || fmt.Sprint(out.Changes) != step.changes || out.Changed != (step.changes != "[]") {
			t.Errorf("%s: %v, %v, want %s", step.name, out.Changes, err, step.changes)
		}
	}
}

func TestReverse(t *testing.T) {
	for _, tt := range []struct {
		name string
		was  map[string]string
		want string
	}{
		{"nothing was changed", nil, "nothing"},
		{"there was no key", map[string]string{"state": "absent", "value": ""}, "deleted"},
		{"there was another value", map[string]string{"value": "before"}, "before"},
		{"there was a key", map[string]string{"state": "exists", "value": "before"}, "before"},
		{"there was an empty value, which is no change of it", map[string]string{"state": "exists"}, ""},
		{"there was a value that was too long", map[string]string{"value": sinks.Withheld}, "what the key held before was too long to be remembered"},
	} {
		cfg, err := (&kv.Config{Key: "k", Value: new("now")}).Reverse(tt.was)
		got := "nothing"
		switch {
		case err != nil:
			got = err.Error()
		case cfg != nil && cfg.(*kv.Config).Value == nil:
			got = "deleted"
		case cfg != nil:
			got = *cfg.(*kv.Config).Value
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestFollow sends what others set, and changes nothing.
func TestFollow(t *testing.T) {
	store := meshtest.New(t, "a")
	r, err := (&kv.Config{Follow: true}).Build("key", sinks.Options{Mesh: store})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name  string
		there *string
		check bool
		want  string
	}{
		{"there is nothing", nil, false, "map[] []"},
		{"the first value is no change", new("a"), false, "map[value:a] []"},
		{"the same", new("a"), false, "map[value:a] []"},
		{"a check does not count", new("b"), true, "map[value:b] [value: a -> b]"},
		{"another one", new("b"), false, "map[value:b] [value: a -> b]"},
		{"it goes", nil, false, "map[] []"},
		{"it comes back", new("b"), false, "map[value:b] []"},
	} {
		put(t, store, "key", step.there)
		out, err := r.CheckApply(t.Context(), !step.check)
		if got := fmt.Sprint(out.Values, " ", out.Changes); err != nil || got != step.want || out.Changed != (len(out.Changes) > 0) {
			t.Errorf("%s: %s, %v, want %s", step.name, got, err, step.want)
		}
	}
}

// TestTheGreatestWins has many hosts set a key at once, each to a value of its own.
func TestTheGreatestWins(t *testing.T) {
	node := meshtest.Start(t)
	var all sync.WaitGroup
	for i := range 10 {
		c := kv.Spec.New().(*kv.Config)
		c.Value, c.SkipLessThan = new(fmt.Sprint(i)), true
		r, err := c.Build("key", sinks.Options{Mesh: node.Store(t, fmt.Sprint("host", i))})
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			if _, err := r.CheckApply(t.Context(), true); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := get(t, node.Store(t, "looker"), "key"); got != "9" {
		t.Errorf("there is %s in the end", got)
	}
}

// TestTheMeshGoesAwayAndComesBack stops the node: the resource says that it waits, and is
// woken when the mesh is there again.
func TestTheMeshGoesAwayAndComesBack(t *testing.T) {
	node := meshtest.Start(t)
	store := node.Store(t, "a")
	r, err := (&kv.Config{Value: new("x")}).Build("key", sinks.Options{Mesh: store})
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan sources.Event, 100)
	source := mesh.NewSource(store)
	for _, w := range r.Watches() {
		if err := source.Add(w); err != nil {
			t.Fatal(err)
		}
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = source.Events().Subscribe(t.Context(), func(e sources.Event) bool { events <- e; return e.What != "put" })
	}()
	if e := <-events; e.What != "reset" {
		t.Fatalf("the first event is %v", e)
	}
	node.Stop()
	_, err = r.CheckApply(t.Context(), true)
	if !errors.Is(err, mesh.ErrUnreachable) || !strings.HasPrefix(err.Error(), "it waits for the mesh: ") || strings.Contains(err.Error(), "\n") {
		t.Errorf("without the mesh it says %v", err)
	}
	if err := node.Restart(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-events:
	case <-time.After(30 * time.Second):
		t.Fatal("nothing wakes it when the mesh is back")
	}
	if out, err := r.CheckApply(t.Context(), true); err != nil || !out.Changed {
		t.Errorf("with the mesh: %+v, %v", out, err)
	}
	<-over
}

func TestWithoutAMesh(t *testing.T) {
	r, err := (&kv.Config{Value: new("x")}).Build("key", sinks.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if w := r.Watches(); w != nil {
		t.Errorf("it watches %v", w)
	}
	for _, apply := range []bool{false, true} {
		if _, err := r.CheckApply(t.Context(), apply); !errors.Is(err, sinks.ErrNoMesh) {
			t.Errorf("got %v", err)
		}
	}
}
