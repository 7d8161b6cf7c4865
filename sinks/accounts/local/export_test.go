package local

// Reading reads the database of groups at path.
func Reading(path string) func() (*Groups, error) {
	r := &reading[Groups]{path: path, parse: ParseGroups}
	return r.now
}

// Holder is the process that has locked the databases.
func Holder() int32 { return holder() }
