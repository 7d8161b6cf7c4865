package local

import (
	"fmt"
	"slices"

	"github.com/mgmtproject/mgmt/sinks"
)

// attempts is how often Converge tries.
const attempts = 5

// Converge has look find the differences to a desired account and, with apply, change make
// them go away. Nobody holds the databases between the two, so others may change them: what
// fails, or is undone, because of that is tried again, a few times.
func Converge(apply bool, look func() ([]sinks.Change, error), change func() error) (sinks.Outcome, error) {
	found, err := look()
	if err != nil || len(found) == 0 {
		return sinks.Outcome{}, err
	}
	if !apply {
		return sinks.Outcome{Changed: true, Changes: found}, nil
	}
	var out sinks.Outcome
	for attempt := 1; ; attempt++ {
		failed := change()
		if failed == nil {
			out.Changed = true
			for _, c := range found {
				if !slices.Contains(out.Changes, c) {
					out.Changes = append(out.Changes, c)
				}
			}
		}
		rest, err := look()
		switch {
		case err != nil:
			return out, err
		case len(rest) == 0: // or somebody else has done it
			return out, nil
		case failed != nil && (attempt == attempts || slices.Equal(rest, found)):
			return out, failed
		case attempt == attempts:
			return out, fmt.Errorf("it was changed, but this still differs: %v", rest)
		}
		found = rest
	}
}
