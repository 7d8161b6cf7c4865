package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/mgmtproject/mgmt/sources/mesh"
)

// keptFile is the name of the file below ExchangeOptions.Dir, keptVersion its form.
const (
	keptFile    = "exchange.json"
	keptVersion = 1
)

// keepAfter is how long a change may be in memory alone.
const keepAfter = time.Second

// kept is what an Exchange keeps over the end of the process: what it has collected, for a
// start without the mesh, and whether it has published anything.
type kept struct {
	x          *Exchange
	loaded     bool
	due        time.Time // when it is to be saved; zero if nothing has changed
	saving     bool
	complained bool

	// Published says that this host may have exports in the mesh.
	Published bool
}

// keptDocument is the file.
type keptDocument struct {
	Version   int          `json:"version"`
	Host      string       `json:"host"`
	Published bool         `json:"published"`
	Alive     []string     `json:"alive,omitempty"`
	Collected []mesh.Entry `json:"collected,omitempty"`
}

// load takes in what an earlier run has kept.
func (k *kept) load() {
	if k.loaded || k.x.opts.Dir == "" {
		return
	}
	k.loaded = true
	text, err := os.ReadFile(k.path())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var doc keptDocument
	if err == nil {
		err = json.Unmarshal(text, &doc)
	}
	if err == nil && doc.Version != keptVersion {
		err = fmt.Errorf("its form is %d, expected %d", doc.Version, keptVersion)
	}
	if err != nil {
		k.x.opts.Log.Warn("what was collected before is lost", "file", k.path(), "error", err, "next", "it comes again from the mesh")
		k.Published = true // perhaps
		return
	}
	if doc.Host != k.x.opts.Host {
		return
	}
	k.Published = doc.Published
	for _, host := range doc.Alive {
		k.x.in.alive[host] = true
	}
	for _, e := range doc.Collected {
		if host, kind, name, err := mesh.ParseExportKey(e.Key); err == nil {
			k.x.in.put(e, host, kind, name)
		}
	}
	k.due = time.Time{}
}

func (k *kept) path() string { return filepath.Join(k.x.opts.Dir, keptFile) }

// touch notes that there is something to save.
func (k *kept) touch() {
	if k.x.opts.Dir != "" && k.due.IsZero() {
		k.due = time.Now().Add(keepAfter)
	}
}

// publishes notes, before it happens, that something is published.
func (k *kept) publishes() {
	k.Published = true
	if k.x.opts.Dir != "" {
		k.complain(k.write(k.document()))
	}
}

// withdrawn notes that nothing is published.
func (k *kept) withdrawn() {
	if k.Published {
		k.Published = false
		k.touch()
	}
}

// save saves what has changed, when it is time.
func (k *kept) save(now time.Time) time.Time {
	switch {
	case k.due.IsZero() || k.saving:
		return time.Time{}
	case now.Before(k.due):
		return k.due
	}
	k.due, k.saving = time.Time{}, true
	doc := k.document()
	k.x.work.Go(func() {
		err := k.write(doc)
		k.x.later(func() {
			k.saving = false
			k.complain(err)
		})
	})
	return time.Time{}
}

// close saves what has changed, at the end.
func (k *kept) close() {
	if !k.due.IsZero() {
		k.complain(k.write(k.document()))
	}
}

func (k *kept) complain(err error) {
	if err != nil && !k.complained {
		k.complained = true
		k.x.opts.Log.Warn("what is collected can't be kept", "error", err, "why", "a start without the mesh would lack it")
	}
}

func (k *kept) document() keptDocument {
	in := &k.x.in
	doc := keptDocument{Version: keptVersion, Host: k.x.opts.Host, Published: k.Published, Alive: slices.Sorted(maps.Keys(in.alive))}
	for _, o := range in.inOrder() {
		if o.vertex != nil {
			doc.Collected = append(doc.Collected, o.entry)
		}
	}
	return doc
}

// write replaces the file, so that it is the old one or the new one at any time. There is
// none if there is nothing to keep.
func (k *kept) write(doc keptDocument) error {
	if !doc.Published && len(doc.Collected) == 0 {
		if err := os.Remove(k.path()); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	text, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(k.x.opts.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(k.x.opts.Dir, keptFile+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // which is not there any more if all goes well
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), k.path())
}
