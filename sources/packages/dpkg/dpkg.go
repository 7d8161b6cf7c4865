// Package dpkg reads the package database of Debian and its kin: what is installed, which
// paths that brought, and who holds the lock. It reads the files themselves, as apt does:
// 3 ms for 700 packages, once a change, and a system call a time while nothing changes. It
// writes nothing and starts no program.
package dpkg

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Dir is where dpkg keeps its database.
const Dir = "/var/lib/dpkg"

// The states of a package that the database tells apart, as dpkg calls them. Those with
// triggers are installed and have something to do yet.
const (
	Installed       = "installed"
	TriggersPending = "triggers-pending"
	TriggersAwaited = "triggers-awaited"
	ConfigFiles     = "config-files" // removed, but for its configuration
	HalfInstalled   = "half-installed"
	Unpacked        = "unpacked"
	HalfConfigured  = "half-configured"
	NotInstalled    = "not-installed"
)

// nativePackage is the package whose architecture is that of the host.
const nativePackage = "dpkg"

// Package is what the database says of one package.
type Package struct {
	Name    string
	Arch    string // "amd64", "all"
	Version string
	State   string // one of the states above
	Held    bool   // somebody has asked for it to be left as it is
}

// Usable reports whether the package is there and was configured.
func (p Package) Usable() bool {
	return p.State == Installed || p.State == TriggersPending || p.State == TriggersAwaited
}

// Broken reports whether the package was left half way, by a transaction that failed or
// is under way.
func (p Package) Broken() bool {
	return p.State == HalfInstalled || p.State == Unpacked || p.State == HalfConfigured
}

// Snapshot is the database at one moment. It is never changed.
type Snapshot struct {
	packages map[key]Package
	native   string
}

type key struct{ name, arch string }

// Package returns the package of that name, which may be followed by a colon and an
// architecture. Without one it is that of the host. The second result is false for one
// that dpkg does not know, which is as good as not installed.
func (s *Snapshot) Package(name string) (Package, bool) {
	name, arch, given := strings.Cut(name, ":")
	if given {
		p, ok := s.packages[key{name, arch}]
		if !ok && arch == s.native {
			p, ok = s.packages[key{name, "all"}]
		}
		return p, ok
	}
	p, ok := s.packages[key{name, s.native}]
	if all, isAll := s.packages[key{name, "all"}]; isAll && (!ok || !p.Usable()) {
		return all, true
	}
	return p, ok
}

// Native is the architecture of the host; empty if dpkg itself is not in the database.
func (s *Snapshot) Native() string { return s.native }

// Len is the number of packages, those included of which only a configuration is left.
func (s *Snapshot) Len() int { return len(s.packages) }

// Changed lists the names of the packages that differ between two snapshots, without
// architectures, each once, in alphabetical order.
func Changed(a, b *Snapshot) []string {
	if a == b {
		return nil
	}
	names := map[string]bool{}
	for k, p := range a.packages {
		if b.packages[k] != p {
			names[k.name] = true
		}
	}
	for k := range b.packages {
		if _, ok := a.packages[k]; !ok {
			names[k.name] = true
		}
	}
	list := make([]string, 0, len(names))
	for name := range names {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// cache holds the last snapshot of each database: there is one, but for tests.
var cache struct {
	sync.Mutex
	of map[string]cached
}

type cached struct {
	identity identity
	snapshot *Snapshot
}

// identity is what changes when the database does: dpkg replaces the status file, and
// between two such moments adds files to the journal in updates.
type identity struct {
	status  os.FileInfo
	updates time.Time
}

func identify(dir string) (identity, error) {
	status, err := os.Stat(filepath.Join(dir, "status"))
	if err != nil {
		return identity{}, err
	}
	id := identity{status: status}
	if journal, err := os.Stat(filepath.Join(dir, "updates")); err == nil {
		id.updates = journal.ModTime()
	}
	return id, nil
}

func (a identity) equal(b identity) bool {
	return a.status != nil && os.SameFile(a.status, b.status) && a.status.Size() == b.status.Size() &&
		a.status.ModTime().Equal(b.status.ModTime()) && a.updates.Equal(b.updates)
}

// Read returns the database in dir, the same value as the last time if nothing has
// changed. The error is an fs.ErrNotExist where there is no dpkg.
func Read(dir string) (*Snapshot, error) {
	cache.Lock()
	defer cache.Unlock()
	const attempts = 5 // dpkg may be at work; what it does later is another event
	var s *Snapshot
	for range attempts {
		id, err := identify(dir)
		if err != nil {
			return nil, err
		}
		if c, ok := cache.of[dir]; ok && c.identity.equal(id) {
			return c.snapshot, nil
		}
		if s, err = read(dir); err != nil {
			return nil, err
		}
		if again, err := identify(dir); err == nil && again.equal(id) {
			if cache.of == nil {
				cache.of = map[string]cached{}
			}
			cache.of[dir] = cached{id, s}
			break
		}
	}
	return s, nil
}

func read(dir string) (*Snapshot, error) {
	text, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return nil, err
	}
	s := &Snapshot{packages: map[key]Package{}}
	s.parse(text)
	for _, name := range Journal(dir) {
		// It may be gone already, and be in the status file. Others than root may not read it.
		if text, err := os.ReadFile(name); err == nil {
			s.parse(text)
		}
	}
	for k, p := range s.packages {
		if k.name == nativePackage && p.Usable() {
			s.native = k.arch
		}
	}
	return s, nil
}

// Journal lists the files of the journal, the oldest first: changes that are not in the
// status file yet. If there are any while nobody holds the lock, dpkg was interrupted.
func Journal(dir string) []string {
	entries, err := os.ReadDir(filepath.Join(dir, "updates"))
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if strings.Trim(e.Name(), "0123456789") == "" {
			names = append(names, filepath.Join(dir, "updates", e.Name()))
		}
	}
	return names // sorted, and of equal length
}

var (
	fieldPackage = []byte("Package: ")
	fieldStatus  = []byte("Status: ")
	fieldArch    = []byte("Architecture: ")
	fieldVersion = []byte("Version: ")
)

// parse takes over the paragraphs of a file: "Package: bash", "Status: install ok
// installed", "Architecture: amd64", "Version: 5.2-1", between others, an empty line
// after each.
func (s *Snapshot) parse(text []byte) {
	var p Package
	for line := range bytes.Lines(text) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		switch {
		case len(line) == 0:
			s.put(p)
			p = Package{}
		case line[0] == ' ':
		case bytes.HasPrefix(line, fieldPackage):
			p.Name = string(line[len(fieldPackage):])
		case bytes.HasPrefix(line, fieldArch):
			p.Arch = short(line[len(fieldArch):])
		case bytes.HasPrefix(line, fieldVersion):
			p.Version = string(line[len(fieldVersion):])
		case bytes.HasPrefix(line, fieldStatus):
			words := bytes.Fields(line[len(fieldStatus):])
			if len(words) == 3 {
				p.Held, p.State = string(words[0]) == "hold", short(words[2])
			}
		}
	}
	s.put(p)
}

func (s *Snapshot) put(p Package) {
	if p.Name == "" {
		return
	}
	k := key{p.Name, p.Arch}
	if p.State == NotInstalled || p.State == "" {
		delete(s.packages, k)
		return
	}
	s.packages[k] = p
}

// short is one of the few words that every package has, which take no memory each.
func short(b []byte) string {
	switch string(b) {
	case "amd64":
		return "amd64"
	case "arm64":
		return "arm64"
	case "all":
		return "all"
	case Installed:
		return Installed
	case ConfigFiles:
		return ConfigFiles
	}
	return string(b)
}

// Paths lists what an installed package has brought: files, links and such directories as
// have nothing of it in them. It is empty for a package that is not installed.
func Paths(dir, name, arch string) []string {
	text, err := os.ReadFile(filepath.Join(dir, "info", name+".list"))
	if errors.Is(err, fs.ErrNotExist) && arch != "" {
		text, err = os.ReadFile(filepath.Join(dir, "info", name+":"+arch+".list"))
	}
	if err != nil {
		return nil
	}
	all := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	above := make(map[string]bool, len(all)/4)
	for _, path := range all {
		if i := strings.LastIndexByte(path, '/'); i >= 0 {
			above[path[:i]] = true
		}
	}
	return slices.DeleteFunc(all, func(path string) bool { return path == "/." || path == "" || above[path] })
}
