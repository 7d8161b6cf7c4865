package sinks

// AddHolders appends to needs what has to be there before something is made at a clean
// absolute path: the nearest directory above that is managed, and the nearest mount.
func AddHolders(needs []Need, path string) []Need {
	return append(needs,
		Need{Fact: Fact{SpaceDir, path}, Above: true, Why: "which holds it"},
		Need{Fact: Fact{SpaceMount, path}, Above: true, Why: "on which it is"})
}

// AddInput appends to needs what has to be there before the file at a clean absolute
// path is read or run: whoever makes it, brings it or changes it. Why is about the one
// who makes it: "its source", "which it runs".
func AddInput(needs []Need, path, why string) []Need {
	return append(needs,
		Need{Fact: Fact{SpaceFile, path}, Why: why},
		Need{Fact: Fact{SpaceOwned, path}, Why: "which brings a file that it uses"},
		Need{Fact: Fact{SpaceEdits, path}, Why: "which changes a file that it uses"},
		Need{Fact: Fact{SpaceDir, path}, Above: true, Why: "which holds a file that it uses"},
		Need{Fact: Fact{SpaceMount, path}, Above: true, Why: "on which a file is that it uses"})
}

// AddInputTree is AddInput for what may be a directory that is read with everything in it.
func AddInputTree(needs []Need, path, why string) []Need {
	const inside = "which is in a directory that it uses"
	return append(AddInput(needs, path, why),
		Need{Fact: Fact{SpaceDir, path}, Why: why},
		Need{Fact: Fact{SpaceMount, path}, Why: "on which a file is that it uses"},
		Need{Fact: Fact{SpaceDir, path}, Below: true, Why: inside},
		Need{Fact: Fact{SpaceFile, path}, Below: true, Why: inside},
		Need{Fact: Fact{SpaceEdits, path}, Below: true, Why: inside})
}

// AddAccount appends to needs an account or a group, unless the name is empty or a
// number, which needs none.
func AddAccount(needs []Need, space Space, name, why string) []Need {
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		return needs
	}
	return append(needs, Need{Fact: Fact{space, name}, Why: why})
}
