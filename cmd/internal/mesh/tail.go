package mesh

import (
	"bytes"
	"strings"
	"sync"
)

// tailSize is how many bytes of what a peer has printed are kept, of the beginning and of
// the end.
const tailSize = 8 << 10

// tail keeps the beginning and the end of what is written.
type tail struct {
	mu         sync.Mutex
	begin, end []byte
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(len(p), tailSize-len(t.begin))
	t.begin = append(t.begin, p[:n]...)
	t.end = append(t.end, p[n:]...)
	if over := len(t.end) - tailSize; over > 0 {
		t.end = append(t.end[:0], t.end[over:]...)
	}
	return len(p), nil
}

// last is the line that tells most of an end: that of a panic, or else the last one.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var last string
	for line := range bytes.Lines(append(bytes.Clone(t.begin), t.end...)) {
		text := strings.TrimSpace(string(line))
		switch {
		case strings.HasPrefix(text, "panic: "), strings.HasPrefix(text, "fatal error: "):
			return text
		case text != "":
			last = text
		}
	}
	return last
}
