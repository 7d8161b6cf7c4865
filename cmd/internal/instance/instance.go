// Package instance gives each run of mgmt a place of its own below the prefix, so that
// runs of different graph files on one host don't get in each other's way, and two of the
// same one can't. The place is held by a lock, which tells other programs that a run is
// under way, and which the kernel releases however the run ends.
package instance

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Stdin is what a graph file is called that is read from standard input.
const Stdin = "-"

const (
	lockName   = "lock"
	socketName = "socket"
	kindsName  = "kinds"

	// readable is how many characters of a graph file's path are in the name of its
	// place: few, since the path of a Unix socket can't be longer than 107 bytes.
	readable = 32

	// grace is how long a lock is waited for. A process that has been killed may leave a
	// child behind that has still to become the command that it was made for.
	grace = 200 * time.Millisecond
)

// Place is the directory of the runs of one graph file.
type Place struct {
	// Dir is where it is. It may not exist.
	Dir string

	// File is the absolute path of the graph file, or Stdin.
	File string

	// Host is the name that runs were given in a mesh, if they were given one: see For.
	Host string
}

// At returns the place of a graph file below a prefix, and touches nothing. The file is
// known by the path that leads to it, whatever a symbolic link on that path points at.
func At(prefix, file string) (Place, error) {
	prefix, err := filepath.Abs(prefix)
	if err != nil {
		return Place{}, err
	}
	if file == Stdin {
		return Place{Dir: filepath.Join(prefix, "stdin"), File: file}, nil
	}
	if file, err = filepath.Abs(file); err != nil {
		return Place{}, err
	}
	return Place{Dir: filepath.Join(prefix, slug(file)), File: file}, nil
}

// For returns the place of the runs of the same graph file that are given the name host in
// a mesh: those of two hosts on one machine don't get in each other's way either. An empty
// name is none.
func (p Place) For(host string) Place {
	if host == "" {
		return p
	}
	file := p.File
	if file == Stdin {
		file = "stdin"
	}
	return Place{Dir: filepath.Join(filepath.Dir(p.Dir), slug(file+"@"+host)), File: p.File, Host: host}
}

// slug is a name for a path that is short, can be read, and is that of no other path:
// etc-mgmt-graph.yaml-0b1a7c3e for /etc/mgmt/graph.yaml.
func slug(path string) string {
	plain := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_':
			return r
		}
		return '-'
	}, path)
	if len(plain) > readable {
		plain = plain[len(plain)-readable:]
		if _, rest, ok := strings.Cut(plain, "-"); ok && rest != "" {
			plain = rest // without a part of a name
		}
	}
	sum := sha256.Sum256([]byte(path))
	return cmp.Or(strings.TrimLeft(plain, "-."), "graph") + "-" + hex.EncodeToString(sum[:4])
}

func (p Place) lock() string { return filepath.Join(p.Dir, lockName) }

// Socket is the path of the socket at which a run answers.
func (p Place) Socket() string { return filepath.Join(p.Dir, socketName) }

// Kinds is the directory in which resources keep what has to survive a restart.
func (p Place) Kinds() string { return filepath.Join(p.Dir, kindsName) }

// BusyError says that another run has the place.
type BusyError struct {
	File string // its graph file
	PID  int    // 0 if it is not known
}

// Error implements error.
func (e *BusyError) Error() string {
	who := "another run"
	if e.PID != 0 {
		who = fmt.Sprintf("another run (pid %d)", e.PID)
	}
	what := e.File
	if what == Stdin {
		what = "a graph from standard input"
	}
	return fmt.Sprintf("%s is keeping %s already; stop it, or give this one a place of its own with --prefix DIR or --tmp-prefix", who, what)
}

// Lock is a place that is held.
type Lock struct {
	Place
	file *os.File
}

// owner is what a lock file says of who holds the lock.
type owner struct {
	PID  int    `json:"pid"`
	File string `json:"file"`
	Host string `json:"host,omitempty"`
}

// Take makes the place, with mode 0700, and holds it until Release or the end of the
// process. If another run has it, the error is a *BusyError.
func (p Place) Take() (*Lock, error) {
	for {
		if _, err := os.Lstat(p.Dir); errors.Is(err, fs.ErrNotExist) {
			prune(filepath.Dir(p.Dir))
		}
		if err := p.make(); err == errPruned {
			continue
		} else if err != nil {
			return nil, err
		}
		f, err := os.OpenFile(p.lock(), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			continue // likewise
		} else if err != nil {
			return nil, err
		}
		held, err := p.hold(f)
		if err != nil {
			f.Close()
			return nil, err
		}
		if held {
			return &Lock{Place: p, file: f}, nil
		}
		f.Close()
	}
}

// Release lets go of the place.
func (l *Lock) Release() error { return l.file.Close() }

// errPruned says that another run has just removed the directory.
var errPruned = errors.New("pruned")

// make makes the directory, and makes sure that nobody else can have put anything in it:
// what is found there will be relied on.
func (p Place) make() error {
	if err := os.MkdirAll(filepath.Dir(p.Dir), 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(p.Dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(p.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return errPruned
	} else if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory: remove it", p.Dir)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; int(uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d, and this is user %d: use another --prefix, or give it to user %[3]d with chown -R", p.Dir, uid, os.Geteuid())
	}
	if info.Mode()&0o022 != 0 {
		return fmt.Errorf("%s can be written by others (mode %#o), so what is in it can't be trusted: look through it, then chmod 700", p.Dir, info.Mode().Perm())
	}
	return nil
}

// hold locks f and writes down by whom. It reports false if the file has been removed
// meanwhile, so that its lock is worth nothing.
func (p Place) hold(f *os.File) (bool, error) {
	if free, err := wait(f); err != nil {
		return false, err
	} else if !free {
		who := read(f)
		return false, &BusyError{File: cmp.Or(who.File, p.File), PID: who.PID}
	}
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if info.Sys().(*syscall.Stat_t).Nlink == 0 {
		return false, nil
	}
	text, err := json.Marshal(owner{PID: os.Getpid(), File: p.File, Host: p.Host})
	if err != nil {
		return false, err
	}
	text = append(text, '\n')
	if info.Size() > int64(len(text)) {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(text, 0)
	}
	return true, err
}

// wait takes the lock of a file as soon as it can, and reports false if somebody keeps it.
func wait(f *os.File) (bool, error) {
	late := time.NewTimer(grace)
	defer late.Stop()
	again := time.NewTicker(grace / 20)
	defer again.Stop()
	for {
		if free, err := lock(f); free || err != nil {
			return free, err
		}
		select {
		case <-late.C:
			return false, nil
		case <-again.C:
		}
	}
}

// lock takes the lock of a file, and reports false if somebody has it. It is a lock that belongs
// to the open file, as that of flock(2) does, but that can also be asked for without taking
// it (fcntl(2), F_OFD_GETLK).
func lock(f *os.File) (bool, error) {
	switch err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); {
	case errors.Is(err, unix.EAGAIN):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("locking %s: %w", f.Name(), err)
	}
	return true, nil
}

// read returns what a lock file says, as far as it says anything.
func read(f *os.File) owner {
	var o owner
	if text, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<16)); err == nil {
		_ = json.Unmarshal(text, &o)
	}
	return o
}

// prune removes the places of graph files that are gone, if nothing was left there: those
// of programs that run each graph from a new file would be without number. It is done when a
// place is made, so that nobody else waits for it.
func prune(prefix string) {
	entries, err := os.ReadDir(prefix)
	if err != nil {
		return
	}
	for _, e := range entries {
		p := Place{Dir: filepath.Join(prefix, e.Name())}
		if f, err := os.OpenFile(p.lock(), os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0); err == nil {
			p.pruneHeld(f)
			f.Close()
		}
	}
}

// pruneHeld removes a place, if it has to go and nobody else has its lock.
func (p Place) pruneHeld(f *os.File) {
	if free, err := lock(f); err != nil || !free {
		return
	}
	if p.File = read(f).File; p.File == "" || p.File == Stdin {
		return
	}
	if _, err := os.Lstat(p.File); !errors.Is(err, fs.ErrNotExist) {
		return
	}
	entries, err := os.ReadDir(p.Dir)
	if err != nil || slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() != lockName && e.Name() != socketName }) {
		return
	}
	// Whoever has opened the lock file by now finds that it has been removed, and begins anew.
	_ = os.Remove(p.Socket())
	_ = os.Remove(p.lock())
	_ = os.Remove(p.Dir)
}

// Running is a run that is under way.
type Running struct {
	Place
	PID int
}

// List finds the runs that are under way below a prefix, ordered by their graph files and hosts. It
// takes no lock and changes nothing. Places that may not be read are left out. A prefix
// that is not there has none.
func List(prefix string) ([]Running, error) {
	prefix, err := filepath.Abs(prefix)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(prefix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var list []Running
	for _, e := range entries {
		p := Place{Dir: filepath.Join(prefix, e.Name())}
		if who, ok := p.holder(); ok {
			p.File, p.Host = who.File, who.Host
			list = append(list, Running{Place: p, PID: who.PID})
		}
	}
	slices.SortFunc(list, func(a, b Running) int {
		return cmp.Or(strings.Compare(a.File, b.File), strings.Compare(a.Host, b.Host))
	})
	return list, nil
}

// Held reports whether a run has the place.
func (p Place) Held() bool {
	_, ok := p.holder()
	return ok
}

func (p Place) holder() (owner, bool) {
	f, err := os.OpenFile(p.lock(), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return owner{}, false
	}
	defer f.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock); err != nil || lock.Type == unix.F_UNLCK {
		return owner{}, false
	}
	return read(f), true
}
