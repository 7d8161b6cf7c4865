package password_test

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/password"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type params = map[string]any

func TestConformance(t *testing.T) {
	d := t.TempDir()
	f := d + "/sub/secret"
	state := sinktest.Files(d)
	saved := params{"saved": true, "path": f}
	sinktest.Run(t, password.Spec,
		sinktest.Case{Name: "one that is not saved", Resource: "a"},
		sinktest.Case{Name: "a file that is removed", Resource: "a", State: state, Params: saved, Disturb: func() error { return os.RemoveAll(d + "/sub") }},
		sinktest.Case{Name: "a file that is emptied", Resource: "a", State: state, Params: saved, Disturb: func() error { return os.Truncate(f, 0) }},
		sinktest.Case{Name: "a file that others may read", Resource: "a", State: state, Params: saved, Disturb: func() error { return os.Chmod(f, 0o644) }},
		sinktest.Case{Name: "another length", Resource: "a", State: state, Params: params{"saved": true, "path": f, "length": 12},
			Disturb: func() error { return os.WriteFile(f, []byte("x\n"), 0o600) }},
	)
}

func TestInvalid(t *testing.T) {
	for _, tt := range []struct {
		params params
		want   string
	}{
		{params{"length": 0}, "length: 0 is not from 1 to 1024"},
		{params{"length": 1025}, "length: 1025 is not from 1 to 1024"},
		{params{"path": "/a"}, "path: it has no effect"},
		{params{"saved": true, "path": "a"}, `path: path "a" is not absolute`},
		{params{"saved": true, "path": "/a/"}, "path: /a/ is a directory"},
	} {
		sinktest.Invalid(t, password.Spec, "x", tt.params, tt.want)
	}
}

// sent applies r and returns the password that it sends.
func sent(t *testing.T, r sinks.Resource, changed bool) string {
	t.Helper()
	out, err := r.CheckApply(t.Context(), true)
	if err != nil || out.Changed != changed {
		t.Fatalf("got %v, %v; want Changed %v", out.Changes, err, changed)
	}
	word, _ := out.Values["password"].(string)
	if word == "" || strings.Contains(fmt.Sprintf("%+v", out.Changes), word) {
		t.Fatalf("it sends %q and says %v", word, out.Changes)
	}
	return word
}

func TestKept(t *testing.T) {
	f := filepath.Join(t.TempDir(), "secret")
	saved := params{"saved": true, "path": f, "length": 20}
	for name, ps := range map[string]params{"saved": saved, "not saved": {"length": 20}} {
		r := sinktest.Build(t, password.Spec, "x", ps)
		if out, err := r.CheckApply(t.Context(), false); err != nil || !out.Changed || out.Values != nil {
			t.Errorf("%s: before there is one: %v, %v", name, out, err)
		}
		first := sent(t, r, true)
		if len(first) != 20 || strings.Trim(first, password.Alphabet) != "" {
			t.Errorf("%s: %q is not made of 20 letters and digits", name, first)
		}
		if again := sent(t, r, false); again != first {
			t.Errorf("%s: it is %q at first, and then %q", name, first, again)
		}
		out, err := r.(sinks.Refresher).Refresh(t.Context(), true)
		second := out.Values["password"]
		if err != nil || !out.Changed || second == first || fmt.Sprint(out.Changes) != "[password: another -> (20 characters)]" {
			t.Errorf("%s: a refresh makes %q of %q: %v, %v", name, second, first, out.Changes, err)
		}
		if again := sent(t, r, false); again != second {
			t.Errorf("%s: it is %q, want %q", name, again, second)
		}
		if name == "not saved" {
			continue
		}
		if text, err := os.ReadFile(f); err != nil || string(text) != fmt.Sprintln(second) {
			t.Errorf("the file holds %q, %v; want %q", text, err, second)
		}
		// Another run of the program.
		if again := sent(t, sinktest.Build(t, password.Spec, "x", ps), false); again != second {
			t.Errorf("after a restart it is %q, want %q", again, second)
		}
	}
}

func TestFile(t *testing.T) {
	d := t.TempDir()
	f := d + "/secret"
	for _, tt := range []struct {
		name    string
		before  string
		mode    os.FileMode
		changes string // empty if it is right
		kept    bool
	}{
		{"somebody's own password", "p@ss/w0r", 0o600, "", true},
		{"with a new line", "p@ss/w0r\n", 0o600, "", true},
		{"that others may read", "p@ss/w0r\n", 0o640, "[mode: 0640 -> 0600]", true},
		{"of another length", "p@ss/w0rd\n", 0o600, "[password: another -> (8 characters)]", false},
		{"with a blank", "p@ss w0r\n", 0o600, "[password: another -> (8 characters)]", false},
		{"with two new lines", "p@ss/w0\n\n", 0o644, "[password: another -> (8 characters) mode: 0644 -> 0600]", false},
		{"binary", "\x00\x01\x02\x03\xff\xfe\xfd\xfc", 0o600, "[password: another -> (8 characters)]", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := errors.Join(os.WriteFile(f, []byte(tt.before), 0o600), os.Chmod(f, tt.mode)); err != nil {
				t.Fatal(err)
			}
			r := sinktest.Build(t, password.Spec, "x", params{"saved": true, "path": f, "length": 8})
			out, err := r.CheckApply(t.Context(), true)
			if err != nil || out.Changed != (tt.changes != "") || out.Changed && fmt.Sprint(out.Changes) != tt.changes {
				t.Errorf("got %v, %v; want %q", out.Changes, err, tt.changes)
			}
			text, err := os.ReadFile(f)
			if err != nil || (string(text) == tt.before) != tt.kept || strings.TrimSpace(string(text)) != out.Values["password"] {
				t.Errorf("it holds %q, %v; was %q; sends %q", text, err, tt.before, out.Values["password"])
			}
			if info, err := os.Stat(f); err != nil || info.Mode() != 0o600 {
				t.Errorf("the mode is %v, %v", info, err)
			}
			sent(t, r, false)
		})
	}
}

func TestRefused(t *testing.T) {
	d := t.TempDir()
	if err := errors.Join(os.WriteFile(d+"/theirs", []byte("12345678\n"), 0o600), os.Symlink("theirs", d+"/link")); err != nil {
		t.Fatal(err)
	}
	refused := map[string]string{
		d + "/link": "/link is a symbolic link",
		d:           " is not a regular file",
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(d+"/theirs", 65534, 65534); err != nil {
			t.Fatal(err)
		}
		refused[d+"/theirs"] = "/theirs belongs to user 65534, who may know what is in it"
	}
	for path, want := range refused {
		r := sinktest.Build(t, password.Spec, "x", params{"saved": true, "path": path, "length": 8})
		out, err := r.CheckApply(t.Context(), true)
		if err == nil || out.Changed || out.Values != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; want %q", path, out, err, want)
		}
	}
}

// TestQuicker has many resources make the password of one file: they agree.
func TestQuicker(t *testing.T) {
	f := filepath.Join(t.TempDir(), "secret")
	words := make([]string, 8)
	var running sync.WaitGroup
	for i := range words {
		r := sinktest.Build(t, password.Spec, "x", params{"saved": true, "path": f})
		running.Go(func() {
			out, err := r.CheckApply(t.Context(), true)
			if err != nil {
				t.Error(err)
			}
			words[i] = fmt.Sprint(out.Values["password"])
		})
	}
	running.Wait()
	for _, word := range words {
		if word != words[0] {
			t.Errorf("one is %q, another %q", words[0], word)
		}
	}
}

// TestEven counts characters: with the simple remainder of a byte the first eight would
// come more often by a quarter.
func TestEven(t *testing.T) {
	counts := map[rune]float64{}
	const n = 620_000
	for _, c := range password.Generate(n) {
		counts[c]++
	}
	if len(counts) != len(password.Alphabet) {
		t.Fatalf("there are %d different characters, want %d", len(counts), len(password.Alphabet))
	}
	want := float64(n) / float64(len(password.Alphabet))
	for c, got := range counts {
		if math.Abs(got-want) > 8*math.Sqrt(want) { // eight standard deviations
			t.Errorf("%c comes %.0f times, want about %.0f", c, got, want)
		}
	}
}

// TestHome sees where a password is kept if nobody says it.
func TestHome(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	build := func(name string) sinks.Resource {
		t.Helper()
		r, err := (&password.Config{Length: 20, Saved: true}).Build(name, sinks.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	files := map[string]string{}
	long := strings.Repeat("x", 300)
	for name, want := range map[string]string{
		"simple-1.2_x": "simple-1.2_x", "of the database": "of_the_database~", "of_the database": "of_the_database~",
		"../../etc/passwd": "_.._etc_passwd~", ".": "~", "..": "~", ".hidden": "hidden~", "/": "_~", "ü": "_~", "a\nb": "a_b~", long: long[:100] + "~", long + "y": long[:100] + "~",
	} {
		r := build(name)
		if _, err := os.Lstat(dir); len(files) == 0 && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Build makes %s: %v", dir, err)
		}
		if out, err := r.CheckApply(t.Context(), false); err != nil || !out.Changed {
			t.Errorf("%q: a check: %v, %v", name, out, err)
		}
		word := sent(t, r, true)
		path := strings.TrimPrefix(r.(sinks.Owner).Owns()[0], "path ")
		if other, ok := files[path]; ok {
			t.Errorf("%q and %q are kept in one file", name, other)
		}
		files[path] = name
		base := filepath.Base(path)
		if filepath.Dir(path) != dir+"/password" || base != want && (!strings.HasSuffix(want, "~") || !strings.HasPrefix(base, want) || len(base) != len(want)+16) {
			t.Errorf("%q is kept in %s, want %s", name, path, want)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != word+"\n" {
			t.Errorf("%s holds %q, %v", path, text, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s has %v, %v", path, info.Mode(), err)
		}
		if again := sent(t, build(name), false); again != word {
			t.Errorf("%q: it is %q at first, and then %q", name, word, again)
		}
	}
	for _, d := range []string{dir, dir + "/password"} {
		if info, err := os.Stat(d); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s has %v, %v", d, info.Mode(), err)
		}
	}
	if left, err := os.ReadDir(dir + "/password"); err != nil || len(left) != len(files) {
		t.Errorf("there are %v, %v", left, err)
	}
}

func TestHomeless(t *testing.T) {
	r := sinktest.Build(t, password.Spec, "x", params{"saved": true})
	for _, apply := range []bool{false, true} {
		out, err := r.CheckApply(t.Context(), apply)
		if err == nil || out.Changed || out.Values != nil || err.Error() != "there is no directory for what has to survive a restart: give path, or a prefix to mgmt" {
			t.Errorf("got %v, %v", out, err)
		}
	}
}

func TestOwns(t *testing.T) {
	r := sinktest.Build(t, password.Spec, "x", params{"saved": true, "path": "/a//b"})
	if got := r.(sinks.Owner).Owns(); fmt.Sprint(got) != "[path /a/b]" {
		t.Errorf("owns %q", got)
	}
	r = sinktest.Build(t, password.Spec, "x", nil)
	if got := r.(sinks.Owner).Owns(); len(got) > 0 || len(r.Watches()) > 0 {
		t.Errorf("owns %q, watches %v", got, r.Watches())
	}
}
