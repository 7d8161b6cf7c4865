package mount

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
	"github.com/mgmtproject/mgmt/sources/mounts/table"
)

// entry is a line of fstab(5).
type entry struct {
	device, point, kind, options string
	freq, passno                 int
}

// parse reads a line. It says no for a comment and the like.
func parse(line string) (entry, bool) {
	fields := strings.Fields(line)
	if len(fields) < 2 || strings.HasPrefix(fields[0], "#") {
		return entry{}, false
	}
	fields = append(fields, "", "", "", "")
	e := entry{device: table.Unescape(fields[0]), point: filepath.Clean(table.Unescape(fields[1])), kind: fields[2], options: table.Unescape(fields[3])}
	e.freq, _ = strconv.Atoi(fields[4])
	e.passno, _ = strconv.Atoi(fields[5])
	return e, true
}

var escape = strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`, "#", `\043`)

// String is the line.
func (e entry) String() string {
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%d\t%d\n", escape.Replace(e.device), escape.Replace(e.point), e.kind, escape.Replace(e.options), e.freq, e.passno)
}

// differences lists how an entry that was found differs from e, or, if it shall go, all of it.
func (e entry) differences(was entry, gone bool) []sinks.Change {
	if gone {
		e = entry{}
	}
	var changes []sinks.Change
	note := func(field, from, to string, same bool) {
		if !same {
			changes = append(changes, sinks.Change{Field: field, From: from, To: to})
		}
	}
	number := func(n int) string {
		if gone && n == 0 {
			return ""
		}
		return strconv.Itoa(n)
	}
	note("device", was.device, e.device, was.device == e.device)
	note("type", was.kind, e.kind, was.kind == e.kind)
	note("options", was.options, e.options, !gone && maps.Equal(split(was.options), split(e.options)) || was.options == e.options)
	note("freq", number(was.freq), number(e.freq), was.freq == e.freq)
	note("passno", number(was.passno), number(e.passno), was.passno == e.passno)
	return changes
}

// node is the path below /dev that the device appears at; "" if there is none.
func (e entry) node() string {
	tag, value, tagged := strings.Cut(e.device, "=")
	dir, known := map[string]string{"UUID": "uuid", "LABEL": "label", "PARTUUID": "partuuid", "PARTLABEL": "partlabel", "ID": "id"}[tag]
	switch {
	case tagged && known:
		return "/dev/disk/by-" + dir + "/" + strings.NewReplacer("/", `\x2f`, " ", `\x20`).Replace(strings.Trim(value, `"`))
	case strings.HasPrefix(e.device, "/dev/"):
		return filepath.Clean(e.device)
	}
	return ""
}

// join turns options into text, in a fixed order.
func join(options map[string]string) (string, error) {
	if len(options) == 0 {
		return "defaults", nil
	}
	var texts []string
	for _, name := range slices.Sorted(maps.Keys(options)) {
		value := options[name]
		switch {
		case name == "" || strings.ContainsAny(name, ",= \t\n\"\x00"):
			return "", fmt.Errorf("%q is not the name of an option", name)
		case strings.ContainsAny(value, "\n\x00") || strings.Contains(strings.Trim(value, `"`), `"`):
			return "", fmt.Errorf("the value %q of %s has a line break or a quotation mark", value, name)
		case value == "":
			texts = append(texts, name)
			continue
		case strings.Contains(value, ",") && !strings.HasPrefix(value, `"`):
			value = `"` + value + `"`
		}
		texts = append(texts, name+"="+value)
	}
	return strings.Join(texts, ","), nil
}

// split turns text into options. A comma between quotation marks is part of a value.
func split(text string) map[string]string {
	options := map[string]string{}
	quoted := false
	for _, option := range strings.FieldsFunc(text, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return r == ',' && !quoted
	}) {
		if name, value, _ := strings.Cut(option, "="); name != "defaults" {
			options[name] = value
		}
	}
	return options
}

// find looks the entry of a mount point up in fstab: the first, since that is the one that
// is mounted first.
func find(text []byte, point string) (e entry, n int) {
	name := []byte(filepath.Base(point))
	for line := range bytes.Lines(text) {
		if !bytes.Contains(line, name) && bytes.IndexByte(line, '\\') < 0 {
			continue // which spares nearly all of reading it
		}
		if got, ok := parse(string(line)); ok && got.point == point {
			if n++; n == 1 {
				e = got
			}
		}
	}
	return e, n
}

// amend puts the entries of a batch into the text, in place of all others of their mount
// points, or removes them.
func amend(text []byte, batch []*edit) []byte {
	of := make(map[string]*mount, len(batch))
	for _, e := range batch {
		of[e.m.path] = e.m
	}
	var out []byte
	for line := range bytes.Lines(text) {
		got, ok := parse(string(line))
		m, ours := of[got.point]
		switch {
		case !ok || !ours:
			out = append(out, line...)
		case m == nil || m.entry == no: // done, or not wanted
		case len(m.is.differences(got, false)) == 0:
			out = append(out, line...)
			of[got.point] = nil
		default:
			out = append(out, m.is.String()...)
			of[got.point] = nil
		}
	}
	for _, e := range batch {
		if m := of[e.m.path]; m == nil || m.entry == no {
			continue
		}
		if len(out) > 0 && out[len(out)-1] != '\n' {
			out = append(out, '\n')
		}
		out = append(out, of[e.m.path].is.String()...)
		of[e.m.path] = nil
	}
	return out
}

// edits are those of this process that wait for their turn. Whoever comes first makes all
// that have come until then with one new file.
var edits struct {
	sync.Mutex
	waiting []*edit
	busy    bool
}

type edit struct {
	m    *mount
	done chan error
}

// rewrite has fstab say what m wants.
func (m *mount) rewrite(ctx context.Context) error {
	e := &edit{m, make(chan error, 1)}
	edits.Lock()
	edits.waiting = append(edits.waiting, e)
	first := !edits.busy
	edits.busy = true
	edits.Unlock()
	for first {
		edits.Lock()
		batch := edits.waiting
		edits.waiting = nil
		edits.busy = len(batch) > 0
		edits.Unlock()
		if len(batch) == 0 {
			break
		}
		// The others of the batch did not ask to be cancelled with this one.
		o := atomicfile.Options{Meta: atomicfile.Keep, Perm: 0o644, Durable: true}
		_, err := atomicfile.Edit(context.WithoutCancel(ctx), atomicfile.At(fstab), o, func(text []byte) ([]byte, bool) {
			now := amend(text, batch)
			return now, !bytes.Equal(now, text)
		})
		for _, e := range batch {
			e.done <- err
		}
	}
	return <-e.done
}
