package pipeline

// State keeps what has to survive the end of the process, killed or not. Package
// pipeline/state has one that is kept in a file. Its methods are called by several
// goroutines.
type State interface {
	// Load returns what is saved.
	Load() (Saved, error)

	// Save makes all changes or none, and returns when they are on the disk.
	Save(StateChanges) error
}

// Saved is what a State holds.
type Saved struct {
	// Refreshes are the resources that have been notified, and have not succeeded since:
	// "exec[reload]".
	Refreshes []string

	// Reversals are what is to be undone when a resource leaves the graph.
	Reversals []Reversal
}

// Reversal says how to undo what a resource has done.
type Reversal struct {
	// Kind and Name are those of the resource.
	Kind, Name string

	// Params are the parameters of the Config that undoes it, those that are not the
	// default, as a YAML mapping; empty if there is nothing to undo.
	Params string

	// Was is what the resource found before its first change, by field.
	Was map[string]string

	// Settled is a fingerprint of the desired state that the resource has been in once: what
	// it finds to be different later is not what was there before, but has been changed by
	// others since. It is empty until then.
	Settled string

	// Before are resources with a reversal, "file[/etc/x]", on which this one depended: they
	// are undone after it.
	Before []string
}

// Ref is the resource as users write it.
func (r Reversal) Ref() string { return ref(r.Kind, r.Name) }

// StateChanges are changes to what is saved. A resource is in one of the two lists of
// its sort at most.
type StateChanges struct {
	AddRefreshes, DropRefreshes []string
	PutReversals                []Reversal // in place of those with the same Kind and Name
	DropReversals               []string   // by Ref
}
