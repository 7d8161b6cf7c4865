package file_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mgmtproject/mgmt/sinks/file"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

// The expected modes are what chmod(1) of GNU coreutils makes of the same arguments,
// with a umask of 0 for those without u, g, o or a.
func TestMode(t *testing.T) {
	tests := []struct {
		mode  string
		dir   bool
		found uint32
		want  uint32
	}{
		{"0644", false, 0o600, 0o644},
		{"644", false, 0o600, 0o644},
		{"0o644", false, 0o600, 0o644},
		{"4755", false, 0o600, 0o4755},
		{"0", false, 0o600, 0},
		{"0755", true, 0o2700, 0o755},
		{"u=rw,go=r", false, 0o777, 0o644},
		{"ug=rw,o=r", false, 0o000, 0o664},
		{"u+x", false, 0o644, 0o744},
		{"a-w", false, 0o666, 0o444},
		{"-w", false, 0o666, 0o444},
		{"+x", false, 0o644, 0o755},
		{"=r", false, 0o777, 0o444},
		{"g=u", false, 0o640, 0o660},
		{"o=g-w", false, 0o660, 0o664},
		{"go=", false, 0o777, 0o700},
		{"a+X", false, 0o644, 0o644},
		{"a+X", false, 0o744, 0o755},
		{"a+X", true, 0o644, 0o755},
		{"u=rwX,go=rX", true, 0o000, 0o755},
		{"u=rwX,go=rX", false, 0o000, 0o644},
		{"u+s", false, 0o755, 0o4755},
		{"g+s", true, 0o755, 0o2755},
		{"ug+s", false, 0o755, 0o6755},
		{"u=rwx", false, 0o4755, 0o755},
		{"u=rwx", true, 0o4755, 0o4755},
		{"+t", true, 0o777, 0o1777},
		{"o=rwxt", true, 0o770, 0o1777},
		{"a=rwx", true, 0o3700, 0o3777},
		{"a=rwx", false, 0o3700, 0o777},
		{"u-s,+t", false, 0o4755, 0o1755},
		{"u=rw+x-w", false, 0o000, 0o500},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%s of %04o, directory %v", tt.mode, tt.found, tt.dir), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "f")
			name := path
			if tt.dir {
				setup(t, mkdir(path), chmod(path, tt.found))
				name += "/"
			} else {
				setup(t, write(path, ""), chmod(path, tt.found))
			}
			r := sinktest.Build(t, file.Spec, name, params{"mode": tt.mode})
			out, err := r.CheckApply(t.Context(), true)
			if err != nil || out.Changed != (tt.found != tt.want) {
				t.Fatalf("%+v, %v", out, err)
			}
			var st unix.Stat_t
			if err := unix.Lstat(path, &st); err != nil || st.Mode&0o7777 != tt.want {
				t.Errorf("mode is %04o (%v), want %04o", st.Mode&0o7777, err, tt.want)
			}
			if out, err := r.CheckApply(t.Context(), true); err != nil || out.Changed {
				t.Errorf("a second time: %+v, %v", out, err)
			}
		})
	}
}

func TestInvalidMode(t *testing.T) {
	tests := []struct{ mode, want string }{
		{"8", "octal"},
		{"10000", "octal"},
		{"0x1ff", "octal"},
		{"u", `"u" lacks one of = + -`},
		{"rw", `"r" is not one of = + -`},
		{"u=rw,", `"" lacks one of = + -`},
		{"u=rg", `'g' is not one of`},
		{"o+s", "s is for u and g"},
		{"u+t", "t is for o and a"},
		{"g=u,u=o", "has no end"},
	}
	for _, tt := range tests {
		sinktest.Invalid(t, file.Spec, "/f", params{"mode": tt.mode}, tt.want)
	}
}

func TestNewFileMode(t *testing.T) {
	defer unix.Umask(unix.Umask(0o027))
	d := t.TempDir()
	setup(t, write(d+"/program", "#!"), chmod(d+"/program", 0o755), mkdir(d+"/tree"), chmod(d+"/tree", 0o700))
	tests := []struct {
		name   string
		path   string
		params params
		want   os.FileMode
	}{
		{"as for any program without a mode", "a", params{"content": "x"}, 0o640},
		{"an octal mode ignores the umask", "b", params{"content": "x", "mode": "0666"}, 0o666},
		{"that of the source less the umask", "c", params{"source": d + "/program"}, 0o750},
		{"a directory, too", "d/", params{"state": "exists"}, 0o750 | os.ModeDir},
		{"a directory as its source", "e/", params{"source": d + "/tree/", "recurse": true}, 0o700 | os.ModeDir},
		{"a directory with a mode", "f/", params{"state": "exists", "mode": "1777"}, 0o777 | os.ModeDir | os.ModeSticky},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := sinktest.Build(t, file.Spec, d+"/"+tt.path, tt.params)
			if _, err := r.CheckApply(t.Context(), true); err != nil {
				t.Fatal(err)
			}
			info, err := os.Lstat(filepath.Clean(d + "/" + tt.path))
			if err != nil || info.Mode() != tt.want {
				t.Errorf("mode is %v, %v; want %v", info.Mode(), err, tt.want)
			}
		})
	}
}
