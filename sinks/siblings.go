package sinks

// Keeper is a resource that needs something to stay which it does not own alone: the
// file that it edits a line of, the directory that it copies from.
type Keeper interface {
	// Keeps names what must stay, in the form of Owner.Owns: "path /etc/hosts". It is
	// called when a graph is compiled and touches nothing.
	Keeps() []string
}

// SiblingAware is a resource that removes what nobody manages, such as a directory that
// is purged, and therefore has to know what is managed.
type SiblingAware interface {
	// Siblings hands over what the resources of a graph own and keep, those of the
	// resource itself included: all results of Owner.Owns and Keeper.Keeps. It is
	// called whenever a graph is compiled that holds the resource, before any resource
	// of that graph runs, and perhaps while CheckApply runs. It reports whether there
	// is something else to spare than before, so that the engine lets the resource
	// look again. The slice is shared: it is neither changed by the resource nor,
	// later, by the engine.
	Siblings(names []string) (changed bool)
}
