package mount

import (
	"bytes"

	"github.com/mgmtproject/mgmt/sinks"
)

// Amend is amend of one mount point, with what the text says afterwards: how many entries
// there are, and whether the first one is as it shall be.
func (c *Config) Amend(point string, text []byte) (amended []byte, entries int, right bool) {
	r, err := c.Build(point, sinks.Options{})
	if err != nil {
		panic(err)
	}
	m := r.(*mount)
	amended = amend(bytes.Clone(text), []*edit{{m: m}})
	e, n := find(amended, m.path)
	return amended, n, len(m.is.differences(e, false)) == 0
}

// Others are the lines of a text that are not about the mount point.
func Others(point string, text []byte) []string {
	var lines []string
	for line := range bytes.Lines(text) {
		if e, ok := parse(string(line)); !ok || e.point != point {
			lines = append(lines, string(line))
		}
	}
	return lines
}
