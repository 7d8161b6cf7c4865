package mount

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/file/atomicfile"
	"github.com/mgmtproject/mgmt/sources/mounts/table"
)

// presence is what there is of a mount.
type presence struct{ listed, mounted bool }

// word is the state that stands for it, as far as m looks.
func (m *mount) word(p presence) string {
	switch {
	case m.entry == either:
		return map[bool]string{true: mounted, false: unmounted}[p.mounted]
	case m.live == either:
		return map[bool]string{true: listed, false: unlisted}[p.listed]
	case p.listed && p.mounted:
		return exists
	case p.listed:
		return listed
	case p.mounted:
		return mounted
	}
	return absent
}

// found is the state of a mount point.
type found struct {
	presence
	entry  entry
	stale  bool           // the entry, or more than one
	others bool           // options than those of the entry are wanted
	wrong  []sinks.Change // in what is mounted
	remake bool           // and that another mount is needed to mend it
}

// look finds out about the halves that count.
func (m *mount) look() (*found, error) {
	now := &found{}
	if m.entry != either {
		_, text, err := atomicfile.At(fstab).ReadText()
		if err != nil {
			return nil, err
		}
		first, n := find(text, m.path)
		now.entry, now.listed = first, n > 0
		now.stale = m.entry == yes && (n != 1 || len(m.is.differences(now.entry, false)) > 0)
		now.others = now.stale && now.listed && !maps.Equal(split(now.entry.options), split(m.is.options))
	}
	if m.live == either {
		return now, nil
	}
	all, info, err := m.at()
	if err != nil {
		return nil, err
	}
	now.mounted = info != nil
	switch {
	case now.mounted && m.live == yes:
		now.wrong, now.remake = m.compare(all, info)
	case now.mounted: // what it takes to have it again
		now.wrong = []sinks.Change{{Field: "device", From: info.Source}, {Field: "type", From: info.FSType}, {Field: "options", From: info.Options + "," + info.VFSOptions}}
	}
	return now, nil
}

// at returns what is mounted at the mount point.
func (m *mount) at() (*table.Mounts, *mountinfo.Info, error) {
	all, err := table.Now()
	if err != nil {
		return nil, nil, err
	}
	if info := all.At(m.path); info != nil {
		return all, real(info), nil
	}
	// Something may lie behind a symbolic link. That is only looked at when nothing is
	// found, since a look at a server that is gone may take for ever.
	path, err := filepath.EvalSymlinks(m.path)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && path == m.path:
		return all, nil, nil
	case err != nil:
		return nil, nil, err
	}
	return all, real(all.At(path)), nil
}

// real leaves out what only waits for somebody to come, and then mounts.
func real(info *mountinfo.Info) *mountinfo.Info {
	if info != nil && info.FSType == "autofs" {
		return nil
	}
	return info
}

// compare lists how what is mounted differs.
func (m *mount) compare(all *table.Mounts, info *mountinfo.Info) (wrong []sinks.Change, remake bool) {
	if !m.sameDevice(all, info) {
		wrong = append(wrong, sinks.Change{Field: "device", From: info.Source, To: m.is.device})
	}
	if !m.sameType(info.FSType) {
		wrong = append(wrong, sinks.Change{Field: "type", From: info.FSType, To: m.is.kind})
	}
	remake = len(wrong) > 0
	if !m.sameOptions(info) {
		wrong = append(wrong, sinks.Change{Field: "options", From: info.Options + "," + info.VFSOptions, To: m.is.options})
	}
	return wrong, remake
}

func (m *mount) sameType(got string) bool {
	kind := m.is.kind
	switch {
	case m.bind() || kind == "auto" || kind == got:
		return true
	case kind == "nfs":
		return got == "nfs4"
	case kind == "fuse":
		return strings.HasPrefix(got, "fuse.")
	case kind == "swap" || kind == "ignore":
		return false
	}
	return got == "fuseblk" || got == "fuse."+kind || strings.Contains(kind, ",")
}

// sameDevice compares what is mounted by its number where it has one, since it has many
// names. A device that can't be seen is not known to be another.
func (m *mount) sameDevice(all *table.Mounts, info *mountinfo.Info) bool {
	device := m.is.device
	if m.bind() {
		return sameTree(all, device, info)
	}
	if device == info.Source || strings.TrimSuffix(device, "/") == strings.TrimSuffix(info.Source, "/") {
		return true
	}
	path := m.is.node()
	if path == "" && strings.HasPrefix(device, "/") {
		path = device
	}
	if path == "" {
		// A mere name means nothing, but to those that look for a server by it.
		return !strings.ContainsAny(device, ":/@=") && !slices.Contains([]string{"9p", "virtiofs", "ceph"}, info.FSType)
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return strings.Contains(device, "=")
	}
	var st, source unix.Stat_t
	if unix.Stat(real, &st) != nil {
		return false
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG { // an image
		backing, err := os.ReadFile("/sys/class/block/" + filepath.Base(info.Source) + "/loop/backing_file")
		return err == nil && strings.TrimSuffix(string(backing), "\n") == real
	}
	return st.Rdev == unix.Mkdev(uint32(info.Major), uint32(info.Minor)) ||
		unix.Stat(info.Source, &source) == nil && source.Mode&unix.S_IFMT == unix.S_IFBLK && source.Rdev == st.Rdev
}

// sameTree says whether a bind mount shows path.
func sameTree(all *table.Mounts, path string, info *mountinfo.Info) bool {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	on := all.Holding(real)
	if on != nil && on.ID == info.ID && on.Parent != on.ID { // it is mounted over itself, perhaps
		return info.Root == real || strings.HasSuffix(real, info.Root)
	}
	if on == nil || on.Major != info.Major || on.Minor != info.Minor {
		return false
	}
	rest, err := filepath.Rel(on.Mountpoint, real)
	return err == nil && filepath.Join(on.Root, rest) == info.Root
}

// opposites are options that the kernel shows, by those that it does not show.
var opposites = map[string]string{"suid": "nosuid", "dev": "nodev", "exec": "noexec", "atime": "noatime", "diratime": "nodiratime", "async": "sync", "symfollow": "nosymfollow"}

// shown are options that the kernel shows for every mount that has them.
var shown = []string{"nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "nosymfollow"}

// sameOptions compares the options that are known to be shown in the form in which they
// are given.
func (m *mount) sameOptions(info *mountinfo.Info) bool {
	now, super := split(info.Options), split(info.VFSOptions)
	_, readOnly := now["ro"]
	_, superReadOnly := super["ro"]
	if (readOnly || superReadOnly && !m.bind()) != m.readOnly(info.FSType) {
		return false
	}
	for name, value := range m.options {
		_, is := now[name]
		_, isnt := now[opposites[name]]
		_, sync := super["sync"]
		switch {
		case slices.Contains(shown, name) && !is, isnt, name == "sync" && !sync, name == "async" && sync:
			return false
		case info.FSType == "tmpfs" && !sameValue(name, value, super):
			return false
		}
	}
	return true
}

// readOnly says whether nothing may be written. Some file systems know no other way.
func (m *mount) readOnly(kind string) bool {
	return m.has("ro") || !m.has("rw") && slices.Contains([]string{"iso9660", "squashfs", "erofs", "cramfs", "romfs"}, kind)
}

// sameValue compares an option of tmpfs that is a number.
func sameValue(name, value string, super map[string]string) bool {
	now, there := super[name]
	switch name {
	case "size", "nr_inodes", "nr_blocks":
		want, err := size(value)
		got, err2 := size(now)
		if name == "size" {
			page := int64(os.Getpagesize())
			want = (want + page - 1) / page * page
		}
		return err != nil || err2 != nil || !there || want == got
	case "mode":
		want, err := strconv.ParseUint(value, 8, 32)
		got, err2 := strconv.ParseUint(now, 8, 32)
		if !there {
			got, err2 = 0o1777, nil // which is not shown
		}
		return err != nil || err2 != nil || want == got
	case "uid", "gid":
		if !there {
			now = "0"
		}
		_, err := strconv.Atoi(value)
		return err != nil || value == now
	}
	return true
}

// size reads a number with a suffix.
func size(text string) (int64, error) {
	unit := int64(1)
	if n := len(text); n > 0 {
		switch text[n-1] | 0x20 {
		case 'k':
			unit = 1 << 10
		case 'm':
			unit = 1 << 20
		case 'g':
			unit = 1 << 30
		}
		if unit > 1 {
			text = text[:n-1]
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n * unit, err
}
