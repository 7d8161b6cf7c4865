package pipeline

// The parts of Load that must agree, for the tests that compare them.
var (
	ParseDocuments = parseDocuments
	ParsePieces    = parsePieces
)

// What Compile notes with the vertices of links, for the run.
var (
	SameLinks = sameLinks
	Disguise  = disguise
)

// Sends lists the outputs of v that somebody receives.
func (v *Vertex) Sends() []string { return v.sends }

// Tainted says that v receives something secret.
func (v *Vertex) Tainted() bool { return v.tainted }

// Receives lists what v is sent, in words.
func (v *Vertex) Receives() []string {
	var list []string
	for _, r := range v.receives {
		list = append(list, r.output+" of "+r.from+" as "+r.param+"."+r.key)
	}
	return list
}
