// Package testrepo makes an archive of tiny packages for tests in a test host, and has apt
// use that and nothing else. It needs no network.
package testrepo

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mgmtproject/mgmt/sources/packages/dpkg"
)

// Package is what a package is made of.
type Package struct {
	Name    string
	Version string // 1.0 if empty
	Fields  string // further lines of its control file, each with its end
	Files   map[string]string
	Scripts map[string]string // "postinst": "#!/bin/sh\nexit 1\n"
	Broken  bool              // the archive has another file than it says
}

// Archive is a folder of packages.
type Archive struct {
	t      testing.TB
	dir    string
	origin string
	index  strings.Builder
}

// New makes an empty archive in dir, of the distribution itself, as it says. It is not the
// test that has the right to change the machine: the caller has asked for a test host.
func New(t testing.TB, dir string) *Archive {
	t.Helper()
	if os.Getenv("MGMT_TESTHOST") == "" {
		t.Fatal("packages are made for test hosts only")
	}
	a := &Archive{t: t, dir: dir, origin: "Debian"}
	a.must(os.MkdirAll(dir, 0o755))
	return a
}

// Origin sets who is said to support the packages.
func (a *Archive) Origin(name string) { a.origin = name }

// Add builds packages for the archive.
func (a *Archive) Add(packages ...Package) {
	a.t.Helper()
	for _, p := range packages {
		a.add(p)
	}
}

func (a *Archive) add(p Package) {
	a.t.Helper()
	if p.Version == "" {
		p.Version = "1.0"
	}
	control := fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: for a test\n%s", p.Name, p.Version, p.Fields)
	file := p.Build(a.t, control, a.dir)
	deb, err := os.ReadFile(file)
	a.must(err)
	sum := sha256.Sum256(deb)
	if p.Broken {
		sum[0]++
	}
	fmt.Fprintf(&a.index, "%sFilename: ./%s\nSize: %d\nSHA256: %x\n\n", control, filepath.Base(file), len(deb), sum)
}

// Build builds a package file in dir.
func (p Package) Build(t testing.TB, control, dir string) string {
	t.Helper()
	root := t.TempDir()
	write := func(path, text string, mode os.FileMode) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	write(root+"/DEBIAN/control", control, 0o644)
	for name, text := range p.Scripts {
		write(root+"/DEBIAN/"+name, text, 0o755)
	}
	write(root+"/usr/share/"+p.Name+"/version", p.Version+"\n", 0o644)
	for name, text := range p.Files {
		write(root+name, text, 0o644)
	}
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, p.Name+"_"+p.Version+"_all.deb")
	if out, err := exec.CommandContext(t.Context(), "dpkg-deb", "--root-owner-group", "-Znone", "--build", root, file).CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v: %s", p.Name, err, out)
	}
	return file
}

// Publish writes the index of the archive, and has apt use it in place of all others.
func (a *Archive) Publish() {
	a.t.Helper()
	a.Index()
	a.must(os.RemoveAll("/etc/apt/sources.list.d"))
	a.must(os.MkdirAll("/etc/apt/sources.list.d", 0o755))
	// Images of containers have apt forget its caches, and then it takes four times as long.
	a.must(os.RemoveAll("/etc/apt/apt.conf.d/docker-clean"))
	a.must(os.WriteFile("/etc/apt/sources.list", []byte("deb [trusted=yes] file:"+a.dir+" ./\n"), 0o644))
	a.Run("apt-get", "-q", "update")
}

// Index writes the index alone: apt does not know of it yet.
func (a *Archive) Index() {
	a.t.Helper()
	index := a.index.String()
	a.must(os.WriteFile(a.dir+"/Packages", []byte(index), 0o644))
	release := fmt.Sprintf("Origin: %s\nDate: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n %x %d Packages\n", a.origin, sha256.Sum256([]byte(index)), len(index))
	a.must(os.WriteFile(a.dir+"/Release", []byte(release), 0o644))
}

// Run runs a program that must succeed, and returns what it says.
func (a *Archive) Run(name string, args ...string) string {
	a.t.Helper()
	cmd := exec.CommandContext(a.t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		a.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Version is the version of a package that is installed, empty if none is.
func (a *Archive) Version(name string) string {
	a.t.Helper()
	s, err := dpkg.Read(dpkg.Dir)
	a.must(err)
	p, _ := s.Package(name)
	if !p.Usable() {
		return ""
	}
	return p.Version
}

func (a *Archive) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}
