// Package state keeps a pipeline.State in a file, so that what is due outlives a process
// that is killed: notifications that nobody has acted on yet, and what is to be undone.
//
// It is a database of bbolt, which writes a change beside what was there and then points
// at it: whenever the process ends, the file has all of a change or nothing of it. What
// another process has written is only read: the first change makes a new file in the place of
// it, so that what may be wrong with the old one goes no further. There is a file only
// while there is something to keep.
package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/pipeline"
)

// FileName is the name of the file in the directory that Open is given.
const FileName = "state.db"

// Store is a State that is kept in a file.
type Store struct {
	dir string

	mu     sync.Mutex     // held by who uses what follows
	left   pipeline.Saved // by an earlier process; until there is a db
	db     *bbolt.DB      // nil until something is saved
	file   *os.File       // of db
	broken error          // why db can't be used any more
	closed bool
}

var _ pipeline.State = (*Store)(nil)

// DamagedError says that a file can't be read as a state.
type DamagedError struct {
	Path string
	Err  error // what is wrong with it
}

// Error implements error.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("the state in %s can't be read: %v", e.Path, e.Err)
}

// Unwrap gives the cause to errors.Is and errors.As.
func (e *DamagedError) Unwrap() error { return e.Err }

// Open reads the state in a directory, and fails with a *DamagedError if it is not as Save
// has left it: SetAside makes room for a new one. If there is none, nothing is made before the
// first Save that has something to keep; it makes the directory, too, with mode 0700. The
// caller sees to it that no two Stores of one directory are open at the same time.
func Open(dir string) (*Store, error) {
	left, err := Peek(dir)
	if err != nil {
		return nil, err
	}
	return &Store{dir: dir, left: left}, nil
}

// Peek reads the state in a directory, as Open does, and that is all.
func Peek(dir string) (pipeline.Saved, error) {
	s := &Store{dir: dir}
	var saved pipeline.Saved
	err := s.guard(func() error {
		err := s.open(s.path(), os.O_RDONLY)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		saved, err = s.load()
		return errors.Join(err, s.db.Close())
	})
	return saved, err
}

// SetAside renames the state in a directory, so that a new one can be begun, and returns
// the new name.
func SetAside(dir string) (string, error) {
	from := filepath.Join(dir, FileName)
	to := from + "." + time.Now().UTC().Format("20060102T150405.000000000Z")
	return to, os.Rename(from, to)
}

func (s *Store) path() string { return filepath.Join(s.dir, FileName) }

// Load implements pipeline.State. The lists are in the order of the resources' names.
func (s *Store) Load() (pipeline.Saved, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	saved := s.left
	err := s.guard(func() (err error) {
		if s.db != nil {
			saved, err = s.load()
		}
		return err
	})
	return saved, err
}

// Save implements pipeline.State.
func (s *Store) Save(c pipeline.StateChanges) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("saving the state in %s: it is closed", s.path())
	}
	if s.db == nil && s.broken == nil && !matters(c, s.left) {
		return nil
	}
	err := s.guard(func() error {
		if s.db == nil {
			return s.create(c)
		}
		return s.update(c)
	})
	if err == nil || err == s.broken {
		return err
	}
	if at, ok := errors.AsType[*fs.PathError](err); ok {
		err = at.Err // its path is the one at which the file was made
	}
	return fmt.Errorf("saving the state in %s: %w", s.path(), err)
}

// matters says whether changes make a difference, or may.
func matters(c pipeline.StateChanges, left pipeline.Saved) bool {
	return len(c.AddRefreshes)+len(c.PutReversals) > 0 ||
		slices.ContainsFunc(left.Refreshes, func(ref string) bool { return slices.Contains(c.DropRefreshes, ref) }) ||
		slices.ContainsFunc(left.Reversals, func(r pipeline.Reversal) bool { return slices.Contains(c.DropReversals, r.Ref()) })
}

// Close ends the use of the file. If there is nothing in it, it is removed.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	closed := s.closed
	s.closed = true
	if closed || s.broken != nil {
		return nil
	}
	if s.db == nil {
		if len(s.left.Refreshes)+len(s.left.Reversals) > 0 {
			return nil
		}
		err := os.Remove(s.path()) // of a process that was killed when nothing was left to do
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return s.guard(func() error {
		empty, err := s.empty()
		if err == nil && empty {
			err = os.Remove(s.path())
		}
		return errors.Join(err, s.db.Close())
	})
}

// create makes the file, with what was left and the first changes, under another name, and then
// renames it: so there is the old file, or the new one, and it is complete.
func (s *Store) create(c pipeline.StateChanges) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	part := s.path() + ".new"
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := s.open(part, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err == nil {
		err = s.update(pipeline.StateChanges{AddRefreshes: s.left.Refreshes, PutReversals: s.left.Reversals}, c)
	}
	if err == nil {
		err = os.Rename(part, s.path())
	}
	if err == nil {
		err = syncDirs(s.dir)
	}
	if err == nil {
		s.left = pipeline.Saved{}
		return nil
	}
	if s.db != nil {
		err = errors.Join(err, s.db.Close())
		s.db = nil
	}
	_ = os.Remove(part)
	return err
}

// syncDirs gets the entries of a directory to the disk, and its own, as far as those above
// it can be read.
func syncDirs(dir string) error {
	for i, d := range []string{dir, filepath.Dir(dir), filepath.Dir(filepath.Dir(dir))} {
		f, err := os.Open(d)
		if err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
		if err != nil && i == 0 {
			return err
		}
	}
	return nil
}

// open opens a file with bbolt.
func (s *Store) open(path string, flag int) error {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:      time.Nanosecond, // it is locked by somebody, or it is not
		ReadOnly:     flag == os.O_RDONLY,
		NoStatistics: true,
		OpenFile: func(path string, _ int, mode os.FileMode) (f *os.File, err error) {
			s.file, err = os.OpenFile(path, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, mode)
			if err == nil && flag == os.O_RDONLY {
				err = begun(s.file)
			}
			return s.file, err
		},
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("the state in %s is in use by another process", s.path())
	case err == nil:
		if err = whole(db); err == nil {
			s.db = db
			return nil
		}
		err = errors.Join(err, db.Close())
	}
	if flag != os.O_RDONLY || isPathError(err) {
		return err
	}
	return &DamagedError{s.path(), err}
}

// begun refuses a file that bbolt would want to write first.
func begun(f *os.File) error {
	info, err := f.Stat()
	if err == nil && info.Size() == 0 {
		err = errors.New("it is empty")
	}
	return err
}

func isPathError(err error) bool {
	_, ok := errors.AsType[*fs.PathError](err)
	return ok
}

// guard calls f, and turns a panic into an error: bbolt panics when the file is not as it
// expects, and faults when a page that it needs is not there or can't be read. After that the
// database's locks are as they happen to be, so it is never used again.
func (s *Store) guard(f func() error) (err error) {
	if s.broken != nil {
		return s.broken
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			s.broken = &DamagedError{s.path(), fmt.Errorf("%v", r)}
			err = s.broken
			_ = unix.Flock(int(s.file.Fd()), unix.LOCK_UN) // which the mapping would keep
			_ = s.file.Close()
		}
	}()
	return f()
}

// whole checks that the file has all of its pages, without looking at them.
func whole(db *bbolt.DB) error {
	var want int64
	if err := db.View(func(tx *bbolt.Tx) error { want = tx.Size(); return nil }); err != nil {
		return err
	}
	info, err := os.Stat(db.Path())
	if err == nil && info.Size() < want {
		err = fmt.Errorf("it has %d bytes of %d", info.Size(), want)
	}
	return err
}
