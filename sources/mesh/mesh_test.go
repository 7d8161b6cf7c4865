package mesh_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mgmtproject/mgmt/sources/mesh"
)

func ExampleTxn() {
	t := mesh.Txn{
		If:  []mesh.Condition{{Key: "/mgmt/shared/kv/x"}}, // only if there is none
		Ops: []mesh.Op{mesh.Put("/mgmt/shared/kv/x", []byte("1")), mesh.Delete("/mgmt/shared/kv/y")},
	}
	fmt.Println(t, t.Check())
	t.Ops[1].Key = t.Ops[0].Key
	fmt.Println(t.Check())
	// Output:
	// writing /mgmt/shared/kv/x and 1 more <nil>
	// /mgmt/shared/kv/x is changed twice at once
}

func ExampleFold() {
	one := mesh.Change{Put: []mesh.Entry{{Key: "a"}, {Key: "b"}}, Revision: 7}
	two := mesh.Change{Deleted: []string{"a"}, Revision: 8}
	fmt.Printf("%+v\n", mesh.Fold(one, two))
	// Output:
	// {Reset:false Put:[{Key:b Value:[] Revision:0 Created:0 Bound:false}] Deleted:[a] Revision:8}
}

func TestTransactionsThatNoStoreTakes(t *testing.T) {
	many := make([]mesh.Op, mesh.MaxOps+1)
	for i := range many {
		many[i] = mesh.Put(fmt.Sprint("/", i), nil)
	}
	for _, tt := range []struct {
		name string
		txn  mesh.Txn
		want string // "" if it is one
	}{
		{"nothing", mesh.Txn{}, ""},
		{"as much as goes", mesh.Txn{Ops: many[1:]}, ""},
		{"too much", mesh.Txn{Ops: many}, "128 changes under 0 conditions are too many"},
		{"too many conditions", mesh.Txn{If: make([]mesh.Condition, 128)}, "0 changes under 128 conditions are too many"},
		{"a condition without a key", mesh.Txn{If: []mesh.Condition{{}}}, "a condition has no key"},
		{"a condition on what is no text", mesh.Txn{If: []mesh.Condition{{Key: "\xff"}}}, "not valid UTF-8"},
		{"a change without a key", mesh.Txn{Ops: []mesh.Op{mesh.Delete("")}}, "a change has no key"},
		{"a change of what is no text", mesh.Txn{Ops: []mesh.Op{mesh.Put("a\xff", nil)}}, "not valid UTF-8"},
		{"one key twice", mesh.Txn{Ops: []mesh.Op{mesh.Put("/a", nil), mesh.Delete("/a")}}, "/a is changed twice"},
		{"a key and all below it", mesh.Txn{Ops: []mesh.Op{mesh.Put("/a/b", nil), {Key: "/a/", Delete: true, Below: true}}}, "/a/b is changed twice at once, by itself and with all below /a/"},
		{"what is below another", mesh.Txn{Ops: []mesh.Op{{Key: "/a/", Delete: true, Below: true}, {Key: "/a/b/", Delete: true, Below: true}}}, "/a/b/ is changed twice"},
		{"two that only begin alike", mesh.Txn{Ops: []mesh.Op{mesh.Put("/ab", nil), {Key: "/a/", Delete: true, Below: true}}}, ""},
		{"all below one key set", mesh.Txn{Ops: []mesh.Op{{Key: "/a/", Below: true}}}, "can't be set, only deleted"},
		{"a value that is deleted", mesh.Txn{Ops: []mesh.Op{{Key: "/a", Delete: true, Value: []byte("x")}}}, "deleted with a value"},
		{"a deletion that is bound", mesh.Txn{Ops: []mesh.Op{{Key: "/a", Delete: true, Bound: true}}}, "deleted with a value, or bound"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.txn.Check()
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// apply is what a subscriber does with a change.
func apply(state map[string]int64, c mesh.Change) map[string]int64 {
	state = maps.Clone(state)
	if c.Reset {
		state = make(map[string]int64)
	}
	for _, e := range c.Put {
		state[e.Key] = e.Revision
	}
	for _, key := range c.Deleted {
		delete(state, key)
	}
	return state
}

func TestFoldedChangesLeadWhereTheyDoOneByOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		revision := int64(0)
		changes := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) mesh.Change {
			revision++
			c := mesh.Change{Reset: rapid.IntRange(0, 5).Draw(t, "reset") == 0, Revision: revision}
			for _, k := range rapid.SliceOfDistinct(key, rapid.ID[string]).Draw(t, "keys") {
				if !c.Reset && rapid.Bool().Draw(t, "delete") {
					c.Deleted = append(c.Deleted, k)
				} else {
					c.Put = append(c.Put, mesh.Entry{Key: k, Revision: revision})
				}
			}
			return c
		}), 0, 8).Draw(t, "changes")
		before := map[string]int64{"a": -1, "z": -2}
		want := before
		for _, c := range changes {
			want = apply(want, c)
		}
		all := mesh.Fold(changes...)
		if got := apply(before, all); !maps.Equal(got, want) {
			t.Fatalf("%+v leads to %v, want %v", all, got, want)
		}
		cut := rapid.IntRange(0, len(changes)).Draw(t, "cut")
		twice := mesh.Fold(mesh.Fold(changes[:cut]...), mesh.Fold(changes[cut:]...))
		if got := apply(before, twice); !maps.Equal(got, want) || twice.Revision != all.Revision {
			t.Fatalf("in two steps %+v leads to %v, want %v", twice, got, want)
		}
		keys := slices.Clone(all.Deleted)
		for _, e := range all.Put {
			keys = append(keys, e.Key)
		}
		slices.Sort(keys)
		if len(slices.Compact(keys)) != len(all.Put)+len(all.Deleted) {
			t.Fatalf("%+v has a key twice", all)
		}
	})
}
