package state

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"

	"go.etcd.io/bbolt"

	"github.com/mgmtproject/mgmt/pipeline"
)

// format says what is in the file, for those who know another one.
const format = "1"

// The buckets of the database. Those of resources are keyed by them; a value begins with a
// checksum, since bbolt has none.
var (
	aboutBucket    = []byte("about")
	refreshBucket  = []byte("refreshes")
	reversalBucket = []byte("reversals")

	formatKey = []byte("format")
)

func checksum(key, value []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE(key), crc32.IEEETable, value)
}

// seal puts its checksum before a value.
func seal(key, value []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, checksum(key, value)), value...)
}

// unseal returns the value that was sealed. It is good for as long as the transaction is.
func unseal(key, sealed []byte) ([]byte, error) {
	if len(sealed) < 4 || binary.BigEndian.Uint32(sealed) != checksum(key, sealed[4:]) {
		return nil, fmt.Errorf("what it has for %q is not what was saved", key)
	}
	return sealed[4:], nil
}

// longKey is the length of the longest resource that is its own key, well below the limit of
// bbolt.
const longKey = 1024

// key is that of a resource. The name of a resource may be of any length.
func key(ref string) []byte {
	if len(ref) <= longKey {
		return []byte(ref)
	}
	sum := sha256.Sum256([]byte(ref))
	return append([]byte(ref[:longKey]), sum[:]...)
}

// reversal is a pipeline.Reversal in the file. Texts are bytes where they need not be
// UTF-8, which JSON would not give back as they were.
type reversal struct {
	Kind   string            `json:"kind"`
	Name   []byte            `json:"name"`
	Params []byte            `json:"params,omitempty"`
	Was    map[string][]byte `json:"was"` // nil is not the same as empty
	Before [][]byte          `json:"before,omitempty"`
}

func encode(r pipeline.Reversal) ([]byte, error) {
	out := reversal{Kind: r.Kind, Name: []byte(r.Name), Params: []byte(r.Params)}
	if r.Was != nil {
		out.Was = make(map[string][]byte, len(r.Was))
	}
	for field, value := range r.Was {
		out.Was[field] = []byte(value)
	}
	for _, ref := range r.Before {
		out.Before = append(out.Before, []byte(ref))
	}
	return json.Marshal(out)
}

func decode(text []byte) (pipeline.Reversal, error) {
	var in reversal
	if err := json.Unmarshal(text, &in); err != nil {
		return pipeline.Reversal{}, err
	}
	r := pipeline.Reversal{Kind: in.Kind, Name: string(in.Name), Params: string(in.Params)}
	if in.Was != nil {
		r.Was = make(map[string]string, len(in.Was))
	}
	for field, value := range in.Was {
		r.Was[field] = string(value)
	}
	for _, ref := range in.Before {
		r.Before = append(r.Before, string(ref))
	}
	return r, nil
}

// load reads all that is saved.
func (s *Store) load() (pipeline.Saved, error) {
	var saved pipeline.Saved
	err := s.db.View(func(tx *bbolt.Tx) error {
		about := tx.Bucket(aboutBucket)
		if about == nil {
			return errors.New("it is the database of another program")
		}
		if found := about.Get(formatKey); string(found) != format {
			return fmt.Errorf("it has format %q, and this version of mgmt knows %q", found, format)
		}
		err := each(tx, refreshBucket, func(text []byte) error {
			saved.Refreshes = append(saved.Refreshes, string(text))
			return nil
		})
		if err != nil {
			return err
		}
		return each(tx, reversalBucket, func(text []byte) error {
			r, err := decode(text)
			saved.Reversals = append(saved.Reversals, r)
			return err
		})
	})
	if err != nil {
		return pipeline.Saved{}, &DamagedError{s.path(), err}
	}
	return saved, nil
}

func each(tx *bbolt.Tx, bucket []byte, do func(text []byte) error) error {
	b := tx.Bucket(bucket)
	if b == nil {
		return fmt.Errorf("it has no %s", bucket)
	}
	return b.ForEach(func(k, sealed []byte) error {
		text, err := unseal(k, sealed)
		if err != nil {
			return err
		}
		return do(text)
	})
}

// empty reports whether nothing is saved.
func (s *Store) empty() (bool, error) {
	empty := true
	err := s.db.View(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{refreshBucket, reversalBucket} {
			if k, _ := tx.Bucket(name).Cursor().First(); k != nil {
				empty = false
			}
		}
		return nil
	})
	return empty, err
}

// update makes changes in one transaction, and writes nothing if all is as they want it.
func (s *Store) update(changes ...pipeline.StateChanges) error {
	tx, err := s.db.Begin(true)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // which does nothing after a Commit
	w := writer{refreshes: tx.Bucket(refreshBucket), reversals: tx.Bucket(reversalBucket)}
	if w.refreshes == nil || w.reversals == nil {
		w.buckets(tx)
	}
	for _, c := range changes {
		w.save(c)
	}
	if w.err != nil || !w.changed {
		return w.err
	}
	return tx.Commit()
}

// writer makes changes until one fails.
type writer struct {
	refreshes, reversals *bbolt.Bucket
	changed              bool
	err                  error
}

// buckets makes those of a new file.
func (w *writer) buckets(tx *bbolt.Tx) {
	about, err := tx.CreateBucketIfNotExists(aboutBucket)
	if err == nil {
		err = about.Put(formatKey, []byte(format))
	}
	if err == nil {
		w.refreshes, err = tx.CreateBucketIfNotExists(refreshBucket)
	}
	if err == nil {
		w.reversals, err = tx.CreateBucketIfNotExists(reversalBucket)
	}
	w.changed, w.err = true, err
}

func (w *writer) save(c pipeline.StateChanges) {
	for _, ref := range c.AddRefreshes {
		w.put(w.refreshes, ref, []byte(ref))
	}
	for _, ref := range c.DropRefreshes {
		w.drop(w.refreshes, ref)
	}
	for _, r := range c.PutReversals {
		text, err := encode(r)
		if err != nil {
			w.err = errors.Join(w.err, err)
			return
		}
		w.put(w.reversals, r.Ref(), text)
	}
	for _, ref := range c.DropReversals {
		w.drop(w.reversals, ref)
	}
}

func (w *writer) put(b *bbolt.Bucket, ref string, text []byte) {
	if w.err != nil {
		return
	}
	k := key(ref)
	if v := seal(k, text); !bytes.Equal(v, b.Get(k)) {
		w.changed, w.err = true, b.Put(k, v)
	}
}

func (w *writer) drop(b *bbolt.Bucket, ref string) {
	if w.err != nil {
		return
	}
	if k := key(ref); b.Get(k) != nil {
		w.changed, w.err = true, b.Delete(k)
	}
}
