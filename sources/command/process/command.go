// Package process runs programs for the source of command output and for the resources
// that run commands: each in a process group of its own, which is ended as a whole, with
// bounded memory for its output, and without a thread that waits for it.
package process

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/kballard/go-shellquote"
)

// Command says what to run.
type Command struct {
	// Cmd is the program and its arguments, split into words as a shell does it, with
	// quotes and backslashes; everything else ($, *, ;, |, &) is literal. With Args it
	// is the program alone, and with Shell the text of a script; both are taken as they are.
	// A program without a slash is looked for in PATH, that of Env if it is there; a
	// relative one with a slash is relative to Dir.
	Cmd string

	// Args are the arguments of the program, or of the script, where the first is $1.
	Args []string

	// Shell runs Cmd as a script: Shell -c Cmd. Empty is no shell.
	Shell string

	// Dir is the working directory; empty is that of this process.
	Dir string

	// Env are variables beyond those of this process, or in place of them.
	Env map[string]string

	// User and Group are the names or numbers to run as; empty is those of this
	// process. A user alone brings its own group and supplementary groups, and HOME,
	// USER and LOGNAME unless Env has them.
	User, Group string
}

// Validate says what makes the command impossible to run on any host, without
// touching this one.
func (c Command) Validate() error {
	for _, k := range slices.Sorted(maps.Keys(c.Env)) {
		if k == "" || strings.ContainsAny(k, "=\x00") || strings.Contains(c.Env[k], "\x00") {
			return fmt.Errorf("%q=%q can't be an environment variable", k, c.Env[k])
		}
	}
	for _, s := range append([]string{c.Cmd, c.Shell, c.Dir}, c.Args...) {
		if strings.Contains(s, "\x00") {
			return fmt.Errorf("%q has a zero byte, which no command can be given", s)
		}
	}
	_, err := c.argv()
	return err
}

// argv is the program and its arguments.
func (c Command) argv() ([]string, error) {
	switch {
	case strings.TrimSpace(c.Cmd) == "":
		return nil, errors.New("the command is empty")
	case c.Shell != "":
		return append([]string{c.Shell, "-c", c.Cmd, c.Shell}, c.Args...), nil
	case len(c.Args) > 0:
		return append([]string{c.Cmd}, c.Args...), nil
	}
	words, err := shellquote.Split(c.Cmd)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s can't be split into words: %s (with a shell or with args it is not split)", c, strings.ToLower(err.Error()))
	case words[0] == "":
		return nil, fmt.Errorf("%s begins with an empty word, where the program should be", c)
	}
	return words, nil
}

// String is the command as errors show it: quoted, on one line, and cut if it is long.
func (c Command) String() string {
	s := strings.TrimSpace(strings.Join(append([]string{c.Cmd}, c.Args...), " "))
	return fmt.Sprintf("%q", cut(s, 100))
}

// cut shortens s to at most n bytes of whole characters and an ellipsis.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// environ is the environment of the command, user is what goes with its user.
func (c Command) environ(user map[string]string) []string {
	env := os.Environ()
	if dir, err := filepath.Abs(c.Dir); err == nil && c.Dir != "" {
		env = append(env, "PWD="+dir)
	}
	for _, more := range []map[string]string{user, c.Env} {
		for _, k := range slices.Sorted(maps.Keys(more)) {
			env = append(env, k+"="+more[k])
		}
	}
	return env
}

// find is the file of the program name, as a shell with the command's PATH finds it.
func (c Command) find(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path, ok := c.Env["PATH"]
	if !ok {
		return exec.LookPath(name)
	}
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue // the working directory is not ours
		}
		if file, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return file, nil
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}
