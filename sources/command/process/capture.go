package process

import (
	"fmt"
	"strings"
	"sync"
)

// Keep is how many bytes of the beginning, and as many of the end, a Capture keeps.
const Keep = 32 << 10

// Capture keeps the beginning and the end of what is written to it. It takes at most
// three times Keep bytes of memory and never fails. The zero value is ready for use, by
// several goroutines at once.
type Capture struct {
	mu   sync.Mutex
	head []byte
	tail []byte // up to twice Keep, so that it needs to be moved only now and then
	lost int64
}

// Write implements io.Writer.
func (c *Capture) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(b)
	k := min(n, Keep-len(c.head))
	c.head, b = append(c.head, b[:k]...), b[k:]
	if over := len(b) - Keep; over > 0 {
		c.lost += int64(over)
		b = b[over:]
	}
	if len(c.tail)+len(b) > 2*Keep {
		c.shorten()
	}
	c.tail = append(c.tail, b...)
	return n, nil
}

// shorten reduces the tail to Keep bytes.
func (c *Capture) shorten() {
	if over := len(c.tail) - Keep; over > 0 {
		c.lost += int64(over)
		c.tail = c.tail[:copy(c.tail, c.tail[over:])]
	}
}

// String is what was written; where the middle is missing, a line says how much.
func (c *Capture) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shorten()
	if c.lost == 0 {
		return string(c.head) + string(c.tail)
	}
	return fmt.Sprintf("%s\n… %d bytes cut …\n%s", c.head, c.lost, c.tail)
}

// lastLine is the last line of s with something on it.
func lastLine(s string) string {
	s = strings.TrimSpace(s)
	s = strings.TrimSpace(s[strings.LastIndexByte(s, '\n')+1:])
	return cut(strings.ToValidUTF8(s, "\uFFFD"), 200)
}
