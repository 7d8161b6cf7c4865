package local_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/accounts/local"
)

// Each look finds the next of some differences, and each change ends in the next of some ways.
func TestConverge(t *testing.T) {
	a, b := sinks.Change{Field: "a"}, sinks.Change{Field: "b"}
	type list = []sinks.Change
	fails := errors.New("it fails")
	for _, tt := range []struct {
		name   string
		looks  []list
		ends   []error
		want   list
		failed string
	}{
		{"all is right", []list{nil}, nil, nil, ""},
		{"one change is enough", []list{{a, b}, nil}, []error{nil}, list{a, b}, ""},
		{"a change is undone by others at once", []list{{a}, {b}, nil}, []error{nil, nil}, list{a, b}, ""},
		{"a change fails", []list{{a}, {a}}, []error{fails}, nil, "it fails"},
		{"a change fails, as others have changed something else", []list{{a}, {b}, nil}, []error{fails, nil}, list{b}, ""},
		{"a change fails, as others have made it", []list{{a}, nil}, []error{fails}, nil, ""},
		{"a second change fails", []list{{a, b}, {b}, {b}}, []error{nil, fails}, list{a, b}, "it fails"},
		{"changes have no effect", []list{{a}, {a}, {a}, {a}, {a}, {a}}, []error{nil, nil, nil, nil, nil}, list{a}, "it was changed, but this still differs: [a:"},
		{"others always come before", []list{{a}, {b}, {a}, {b}, {a}, {b}}, []error{fails, fails, fails, fails, fails}, nil, "it fails"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			looks, ends := tt.looks, tt.ends
			look := func() ([]sinks.Change, error) {
				next := looks[0]
				looks = looks[1:]
				return next, nil
			}
			change := func() error {
				next := ends[0]
				ends = ends[1:]
				return next
			}
			out, err := local.Converge(true, look, change)
			if diff := cmp.Diff(sinks.Outcome{Changed: tt.want != nil, Changes: tt.want}, out); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if (err == nil) != (tt.failed == "") || err != nil && !strings.Contains(err.Error(), tt.failed) {
				t.Errorf("got %v, want %q", err, tt.failed)
			}
			if len(looks)+len(ends) > 0 {
				t.Errorf("%d looks and %d changes are left", len(looks), len(ends))
			}
		})
	}
	if out, err := local.Converge(false, func() ([]sinks.Change, error) { return list{a}, nil }, nil); err != nil || !out.Changed {
		t.Errorf("a check: %+v, %v", out, err)
	}
	if _, err := local.Converge(true, func() ([]sinks.Change, error) { return nil, fails }, nil); err != fails {
		t.Errorf("a look that fails: %v", err)
	}
}
