package httpclient

import (
	"testing"
	"time"
)

// SetStall sets how long a server may send nothing.
func SetStall(t *testing.T, d time.Duration) {
	before := stall
	t.Cleanup(func() { stall = before })
	stall = d
}

// SetNoteEach sets after how many bytes of a download a note is made.
func SetNoteEach(t *testing.T, n int64) {
	before := noteEach
	t.Cleanup(func() { noteEach = before })
	noteEach = n
}

// PartPath is where a download of the file grows.
var PartPath = partPath

// SetMaxSent has less be sent during a test.
func SetMaxSent(t *testing.T, n int64) {
	old := maxSent
	maxSent = n
	t.Cleanup(func() { maxSent = old })
}
