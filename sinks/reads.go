package sinks

// Reader is a Resource that looks at what others may change, beyond what it owns and, as
// a Keeper, keeps. A plan takes what it says of itself as open when something of that
// would be changed before it runs.
type Reader interface {
	Resource

	// Reads names it: "path /etc/hosts" for the content of a file, or of all that is in a
	// directory, and "mode /etc/hosts" for owner, group and mode. It is called when a plan
	// is made and touches nothing.
	Reads() []string
}
