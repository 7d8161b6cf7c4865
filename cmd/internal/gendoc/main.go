// The gendoc command writes the pages below docs/reference: one for each kind of
// resource, from its package, the comments and tags of its Config, its example graph and
// its Go example; one for the meta-parameters; and one for each command, from its help.
// With -check it writes nothing, and fails if a page is not as it would be written. With
// -man it prints the manual page of the program instead.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// folder is where all generated pages lie, and nothing else.
const folder = "docs/reference"

func main() {
	check := flag.Bool("check", false, "only say whether the pages are up to date")
	man := flag.Bool("man", false, "print the manual page")
	flag.Parse()
	if *man {
		fmt.Print(Man())
		return
	}
	if err := run(*check); err != nil {
		fmt.Fprintln(os.Stderr, "gendoc:", err)
		os.Exit(1)
	}
}

func run(check bool) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	pages, err := Pages(root)
	if err != nil {
		return err
	}
	if check {
		return Check(root, pages)
	}
	return Write(root, pages)
}

// moduleRoot is the directory with go.mod, at or above the current one.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod at or above the current directory")
		}
		dir = filepath.Dir(dir)
	}
}

// Write makes the pages what is below the folder.
func Write(root string, pages map[string][]byte) error {
	stale, err := strangers(root, pages)
	if err != nil {
		return err
	}
	for _, name := range stale {
		if err := os.Remove(filepath.Join(root, name)); err != nil {
			return err
		}
	}
	for name, text := range pages {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Check tells which pages are not as Write would leave them.
func Check(root string, pages map[string][]byte) error {
	stale, err := strangers(root, pages)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		if text, err := os.ReadFile(filepath.Join(root, name)); err != nil || !bytes.Equal(text, pages[name]) {
			stale = append(stale, name)
		}
	}
	if len(stale) > 0 {
		return fmt.Errorf("out of date, run make docs: %q", stale)
	}
	return nil
}

// strangers are files below the folder that are none of the pages.
func strangers(root string, pages map[string][]byte) ([]string, error) {
	var list []string
	err := filepath.WalkDir(filepath.Join(root, folder), func(path string, d fs.DirEntry, err error) error {
		switch {
		case os.IsNotExist(err):
			return nil
		case err != nil || d.IsDir():
			return err
		}
		name, err := filepath.Rel(root, path)
		if _, ok := pages[name]; !ok {
			list = append(list, name)
		}
		return err
	})
	return list, err
}
