package nspawn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/mgmtproject/mgmt/sources/systemd/bus"
)

// machines is where images are, and rare are the other places where systemd-nspawn looks.
const machines = "/var/lib/machines"

var rare = []string{"/etc/machines", "/run/machines", "/usr/local/lib/machines", "/usr/lib/machines"}

// program is what runs containers, and template the unit that does it.
const (
	program  = "/usr/bin/systemd-nspawn"
	template = "systemd-nspawn@.service"
)

// An image that is booted has one of each, see systemd-nspawn(1).
var (
	releases = []string{"/etc/os-release", "/usr/lib/os-release"}
	inits    = []string{"/usr/lib/systemd/systemd", "/lib/systemd/systemd", "/sbin/init"}
)

// images are where the image of the container is looked for first: a directory, or a file.
func (n *nspawn) images() []string {
	image := path.Join(machines, n.name)
	return []string{image, image + ".raw"}
}

// settings is the file with the administrator's settings of the container.
func (n *nspawn) settings() string { return "/etc/systemd/nspawn/" + n.name + ".nspawn" }

// lacks says what is missing for the container to be started, before systemd tries: an
// image that can't be booted would be started again and again. One that runs lacks
// nothing, but for a restart.
func (n *nspawn) lacks(ctx context.Context, restart bool) error {
	if n.state == stopped {
		return nil
	}
	missing := n.missing()
	if missing == nil {
		return nil
	}
	u, err := n.bus.Unit(ctx, n.unit)
	if err != nil {
		return err
	}
	if u.Running() && !restart || n.special(ctx) {
		return nil
	}
	return missing
}

// missing looks for what the unit needs, as it is shipped.
func (n *nspawn) missing() error {
	if !n.installed() {
		return errors.New("systemd-nspawn is missing: install it (Debian and Fedora package systemd-container); waiting until it is installed")
	}
	image := n.image()
	if image == "" {
		return fmt.Errorf("there is no container %s: no image %s; waiting until it is there", n.name, strings.Join(n.images(), " or "))
	}
	if strings.HasSuffix(image, ".raw") || n.differs(image) {
		return nil
	}
	for _, parts := range [][]string{releases, inits} {
		if !slices.ContainsFunc(parts, func(part string) bool { return exists(image + part) }) {
			return fmt.Errorf("the image %s can't be booted: there is no %s in it; waiting until it is complete", image, strings.TrimPrefix(strings.Join(parts, " or "), "/"))
		}
	}
	return nil
}

// installed tells whether there are both the program and the unit.
func (n *nspawn) installed() bool {
	return exists(program) && slices.ContainsFunc(bus.UnitDirs(false), func(dir string) bool {
		return exists(path.Join(dir, template)) || exists(path.Join(dir, n.unit))
	})
}

// image is where systemd-nspawn finds the image, or "".
func (n *nspawn) image() string {
	for _, dir := range append([]string{machines}, rare...) {
		for _, suffix := range []string{"", ".raw"} {
			if image := path.Join(dir, n.name) + suffix; exists(image) {
				return image
			}
		}
	}
	return ""
}

// otherwise is in settings by which an image is not booted in the usual way.
var otherwise = regexp.MustCompile(`(?mi)^\s*(Boot|ProcessTwo|PivotRoot)\s*=`)

// differs tells whether settings of the container say that it is not booted in the usual
// way, so that its image need not have what that takes.
func (n *nspawn) differs(image string) bool {
	for _, file := range []string{n.settings(), "/run/systemd/nspawn/" + n.name + ".nspawn", image + ".nspawn"} {
		if text, err := os.ReadFile(file); err == nil && otherwise.Match(text) {
			return true
		}
	}
	return false
}

// special tells whether the command of the unit was changed such that it may do without
// what is missing: it is another one, or it has been told the place of the image.
func (n *nspawn) special(ctx context.Context) bool {
	v, err := n.bus.UnitProperty(ctx, n.unit, "Service", "ExecStart")
	commands, ok := v.([][]any) // path, arguments, and how it went last
	if err != nil || !ok || len(commands) == 0 || len(commands[0]) < 2 {
		return false
	}
	args, _ := commands[0][1].([]string)
	if len(args) == 0 || path.Base(args[0]) != "systemd-nspawn" || commands[0][0] != "systemd-nspawn" && commands[0][0] != program {
		return true
	}
	return slices.ContainsFunc(args[1:], func(arg string) bool {
		name, _, _ := strings.Cut(arg, "=")
		return slices.Contains([]string{"-D", "--directory", "-i", "--image", "--template", "--oci-bundle"}, name)
	})
}

// look tells by what is watched whether somebody has changed the image or the settings.
func (n *nspawn) look() string {
	var b strings.Builder
	for _, file := range append(n.images(), program, n.settings()) {
		note(&b, file)
	}
	for _, part := range slices.Concat(releases, inits) {
		note(&b, n.images()[0]+part)
	}
	return b.String()
}

func note(b *strings.Builder, file string) {
	if info, err := os.Lstat(file); err != nil {
		fmt.Fprintln(b, err)
	} else {
		fmt.Fprintln(b, file, info.Size(), info.ModTime().UnixNano())
	}
}

// exists tells whether there is something at a path, as far as can be seen. What is in
// an image may be a link that leads somewhere only when the image is the root.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
