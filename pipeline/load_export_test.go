package pipeline

// The parts of Load that must agree, for the tests that compare them.
var (
	ParseDocuments = parseDocuments
	ParsePieces    = parsePieces
)
