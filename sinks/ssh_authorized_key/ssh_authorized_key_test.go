package sshauthorizedkey_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/sinktest"
	sshauthorizedkey "github.com/mgmtproject/mgmt/sinks/ssh_authorized_key"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type params = map[string]any

const (
	one   = "AAAAC3NzaC1lZDI1NTE5AAAAIBgW1oD+huxYlpkD/65Au2pTmkr2VZl3PLiDtJx447zp"
	two   = "AAAAC3NzaC1lZDI1NTE5AAAAIDGJ3JLqd4+xVGbl3Oj7CsGRJtm2WahK8Arab6WDZlt7"
	line1 = "ssh-ed25519 " + one
	line2 = "ssh-ed25519 " + two
)

// alice is a user of the tests whose home directory is a new one. As root she is
// somebody else.
func alice(t *testing.T) user.User {
	t.Helper()
	u := user.User{Username: "alice", Uid: "65534", Gid: "65534", HomeDir: filepath.Join(t.TempDir(), "alice")}
	if os.Geteuid() != 0 {
		u.Uid, u.Gid = strconv.Itoa(os.Geteuid()), strconv.Itoa(os.Getegid())
	}
	if err := errors.Join(os.Mkdir(u.HomeDir, 0o755), give(u, u.HomeDir)); err != nil {
		t.Fatal(err)
	}
	sshauthorizedkey.SetUser(t, u)
	return u
}

// give has u own the paths.
func give(u user.User, paths ...string) error {
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	var errs []error
	for _, path := range paths {
		errs = append(errs, os.Lchown(path, uid, gid))
	}
	return errors.Join(errs...)
}

func TestConformance(t *testing.T) {
	u := alice(t)
	ssh := u.HomeDir + "/.ssh"
	keys := ssh + "/authorized_keys"
	set := func(text string) func() error {
		return func() error { return os.WriteFile(keys, []byte(text), 0o600) }
	}
	state := sinktest.Files(u.HomeDir)
	mine := params{"user": "alice", "type": "ssh-ed25519", "key": one, "comment": "alice@home"}
	sinktest.Run(t, sshauthorizedkey.Spec,
		sinktest.Case{Name: "a key that is removed", Resource: "a", State: state, Params: mine, Disturb: set(line2 + "\n")},
		sinktest.Case{Name: "options that appear", Resource: "a", State: state, Params: mine, Disturb: set("no-pty " + line1 + " alice@home\n")},
		sinktest.Case{Name: "a directory that is removed", Resource: "a", State: state, Params: mine, Disturb: func() error { return os.RemoveAll(ssh) }},
		sinktest.Case{Name: "a file that others may write to", Resource: "a", State: state, Params: mine, Disturb: func() error { return os.Chmod(keys, 0o666) }},
		sinktest.Case{Name: "a directory that others may write to", Resource: "a", State: state, Params: mine, Disturb: func() error { return os.Chmod(ssh, 0o777) }},
		sinktest.Case{Name: "a key that comes back", Resource: "a", State: state, Disturb: set(line2 + "\n" + line1 + "\n"),
			Params: params{"user": "alice", "key": one, "state": "absent"}},
		sinktest.Case{Name: "a line in a file that is given", Resource: "a", State: state, Disturb: set(line2),
			Params: params{"file": keys, "content": "restrict " + line1 + " c\n"}},
	)
}

func TestInvalid(t *testing.T) {
	tests := []struct {
		params params
		want   string
	}{
		{params{"key": one}, "user: it is missing"},
		{params{"file": "keys", "key": one}, "is not absolute"},
		{params{"file": "/keys/", "key": one}, "is a directory"},
		{params{"user": "a"}, "key: it is missing"},
		{params{"user": "a", "key": line1}, "key: it has a blank"},
		{params{"user": "a", "key": one + "\n"}, "key: it is more than one line"},
		{params{"user": "a", "key": "x"}, "key: it is not in base64"},
		{params{"user": "a", "key": "AAAAC3NzaC1lZDI1NTE5"}, "key: it is no key, or only a part of one"},
		{params{"user": "a", "key": "AAAAAAAA"}, "key: it is no key"},
		{params{"user": "a", "key": "AAAAAQAB"}, "key: it is no key"},
		{params{"user": "a", "key": one, "type": "ssh-rsa"}, `type: it is "ssh-rsa", but the key is of type ssh-ed25519`},
		{params{"user": "a", "key": one, "options": "no-pty x"}, "options: "},
		{params{"user": "a", "key": one, "options": []any{"no-pty", ""}}, "options: "},
		{params{"user": "a", "key": one, "options": `command="x`}, "options: "},
		{params{"user": "a", "key": one, "options": "a\nb"}, "options: "},
		{params{"user": "a", "key": one, "comment": "a\nb"}, "comment: "},
		{params{"user": "a", "key": one, "content": line1}, "key: it can't be given together with content"},
		{params{"user": "a", "options": "x", "content": line1}, "options: it can't be given together with content"},
		{params{"user": "a", "content": line1 + "\n" + line2}, "content: it is more than one line"},
		{params{"user": "a", "content": "# no key"}, "content: it is no line with a key"},
		{params{"user": "a", "content": "ssh-rsa " + one}, "content: it is no line with a key"},
		{params{"user": "a", "key": one, "state": "present"}, "present"},
	}
	for _, tt := range tests {
		sinktest.Invalid(t, sshauthorizedkey.Spec, "x", tt.params, tt.want)
	}
}

func TestEdits(t *testing.T) {
	const others = "# a comment with " + line1 + "\n\nnonsense\nfrom=\"a \\\"b\",no-pty " + line2 + " two\n"
	command := `command="echo \"hi there\"",no-pty`
	tests := []struct {
		name         string
		params       params
		before, want string
		changes      string
	}{
		{"a new key goes to the end", params{"key": one}, others, others + line1 + "\n", "[key: absent -> SHA256:FE4SWWWOOwLhHcg03Qwp1A/Owl0N7Ej3IpT+Z8sOFGY]"},
		{"after a last line without an end", params{"key": one}, "x", "x\n" + line1 + "\n", "[key: absent -> SHA256:FE4SWWWOOwLhHcg03Qwp1A/Owl0N7Ej3IpT+Z8sOFGY]"},
		{"any comment is right if none is given", params{"key": one}, others + line1 + " whatever it is\n", others + line1 + " whatever it is\n", "[]"},
		{"and is kept when options change", params{"key": one, "options": "restrict"}, line1 + " c d\n" + others, "restrict " + line1 + " c d\n" + others, "[options: (0 bytes) -> (8 bytes)]"},
		{"a comment is changed in its place", params{"key": one, "comment": "new"}, line1 + " old\n" + others, line1 + " new\n" + others, "[comment: old -> new]"},
		{"a comment may be empty", params{"key": one, "comment": ""}, line1 + " old\n", line1 + "\n", `[comment: old -> ""]`},
		{"options are a list", params{"key": one, "options": []any{`command="echo \"hi there\""`, "no-pty"}}, command + "  \t" + line1 + "\n", command + "  \t" + line1 + "\n", "[]"},
		{"quoted blanks are no end of options", params{"key": one, "state": "absent"}, others + command + " " + line1 + "\n", others, "[key: SHA256:FE4SWWWOOwLhHcg03Qwp1A/Owl0N7Ej3IpT+Z8sOFGY -> absent]"},
		{"a second line with the key goes", params{"key": one, "options": "restrict"}, "restrict " + line1 + "\n" + others + line1 + "\n", "restrict " + line1 + "\n" + others, "[key: in 2 lines -> in one]"},
		{"absent removes each line with the key", params{"key": one, "state": "absent"}, line1 + "\n" + others + "no-pty " + line1 + " x\n", others, "[key: SHA256:FE4SWWWOOwLhHcg03Qwp1A/Owl0N7Ej3IpT+Z8sOFGY -> absent]"},
		{"content is the whole line", params{"content": "no-pty " + line1 + " a b"}, line1 + " a b\n", "no-pty " + line1 + " a b\n", "[options: (0 bytes) -> (6 bytes)]"},
		{"white space does not matter", params{"content": line1 + " a b"}, "\t" + strings.Replace(line1, " ", "  ", 1) + "\ta b \r\n", "\t" + strings.Replace(line1, " ", "  ", 1) + "\ta b \r\n", "[]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := filepath.Join(t.TempDir(), "keys")
			if err := os.WriteFile(f, []byte(tt.before), 0o644); err != nil {
				t.Fatal(err)
			}
			tt.params["file"] = f
			r := sinktest.Build(t, sshauthorizedkey.Spec, "x", tt.params)
			out, err := r.CheckApply(t.Context(), true)
			if err != nil || fmt.Sprint(out.Changes) != tt.changes || out.Changed != (tt.changes != "[]") {
				t.Errorf("got %v, %v; want %s", out.Changes, err, tt.changes)
			}
			if got, err := os.ReadFile(f); err != nil || string(got) != tt.want {
				t.Errorf("it holds %q, %v; want %q", got, err, tt.want)
			}
			if info, err := os.Stat(f); err != nil || info.Mode() != 0o644 {
				t.Errorf("the mode of a file without a user is changed: %v, %v", info, err)
			}
			if out, err := r.CheckApply(t.Context(), true); err != nil || out.Changed {
				t.Errorf("a second time: %+v, %v", out, err)
			}
		})
	}
}

// TestOwner sees whose the file and its directory are, in the file and out of it.
func TestOwner(t *testing.T) {
	u := alice(t)
	other := filepath.Join(t.TempDir(), "keys.d", "alice")
	for path, ps := range map[string]params{
		u.HomeDir + "/.ssh/authorized_keys": {"user": "alice", "key": one},
		other:                               {"user": "alice", "key": one, "file": other},
	} {
		r := sinktest.Build(t, sshauthorizedkey.Spec, "x", ps)
		if _, err := r.CheckApply(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		for path, mode := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700 | os.ModeDir} {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			st := info.Sys().(*syscall.Stat_t)
			if got := fmt.Sprintf("%d:%d %v", st.Uid, st.Gid, info.Mode()); got != fmt.Sprintf("%s:%s %v", u.Uid, u.Gid, mode) {
				t.Errorf("%s has %s, want %s:%s %v", path, got, u.Uid, u.Gid, mode)
			}
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: the rest gives files away")
	}
	keys := u.HomeDir + "/.ssh/authorized_keys"
	r := sinktest.Build(t, sshauthorizedkey.Spec, "x", params{"user": "alice", "key": one})
	if err := os.Chown(keys, 0, 0); err != nil {
		t.Fatal(err)
	}
	out, err := r.CheckApply(t.Context(), true)
	if err != nil || fmt.Sprint(out.Changes) != "[owner of the file: 0 -> 65534]" {
		t.Errorf("got %v, %v", out.Changes, err)
	}
	if out, err := r.CheckApply(t.Context(), true); err != nil || out.Changed {
		t.Errorf("a second time: %v, %v", out, err)
	}
}

func TestMissing(t *testing.T) {
	u := alice(t)
	tests := []struct {
		name   string
		params params
		want   string // of the error; empty if nothing is to be done
	}{
		{"an unknown user", params{"user": "bob", "key": one}, `looking up the user "bob": there is no such user on this host`},
		{"a key that an unknown user shall not have", params{"user": "bob", "key": one, "state": "absent"}, ""},
		{"a directory that is not to be made", params{"user": "alice", "key": one, "mkdir": false}, ".ssh: no such file or directory: it is not made, as mkdir says"},
		{"a key in no directory", params{"user": "alice", "key": one, "state": "absent"}, ""},
		{"a directory that is far away", params{"file": u.HomeDir + "/a/b/c", "key": one}, "/a: no such file or directory"},
		{"below a file", params{"file": "/etc/passwd/c", "key": one}, "/etc/passwd: not a directory"},
		{"absent below a file", params{"file": "/etc/passwd/c", "key": one, "state": "absent"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := sinktest.Build(t, sshauthorizedkey.Spec, "x", tt.params)
			out, err := r.CheckApply(t.Context(), true)
			if out.Changed || (err == nil) != (tt.want == "") || err != nil && !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("got %v, %v; want %q", out, err, tt.want)
			}
			if len(r.Watches()) == 0 {
				t.Error("it watches nothing")
			}
		})
	}
	r := sinktest.Build(t, sshauthorizedkey.Spec, "x", params{"file": u.HomeDir + "/a/b/c", "key": one})
	if out, err := r.CheckApply(t.Context(), false); err != nil || !out.Changed {
		t.Errorf("a check of what may be about to come: %v, %v", out, err)
	}
}

// TestLinks has a user try to get at the files of others.
func TestLinks(t *testing.T) {
	u := alice(t)
	secret := t.TempDir()
	keys := secret + "/authorized_keys"
	if err := os.WriteFile(keys, []byte(line2+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := sinktest.Build(t, sshauthorizedkey.Spec, "x", params{"user": "alice", "key": one})
	ssh := u.HomeDir + "/.ssh"
	if err := errors.Join(os.Symlink(secret, ssh), give(u, ssh)); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		before, _ := sinktest.Files(secret)()
		_, err := r.CheckApply(t.Context(), true)
		if err == nil || !strings.Contains(err.Error(), `".ssh" is a symbolic link that belongs to user 65534`) {
			t.Errorf("through a link of the user: %v", err)
		}
		if after, _ := sinktest.Files(secret)(); after != before {
			t.Errorf("it was %s, is %s", before, after)
		}
		if err := errors.Join(os.Remove(ssh), os.Mkdir(ssh, 0o700), os.Link(keys, ssh+"/authorized_keys")); err != nil {
			t.Fatal(err)
		}
		if _, err := r.CheckApply(t.Context(), true); err == nil || !strings.Contains(err.Error(), "is also known by another name") {
			t.Errorf("through another name: %v", err)
		}
		if err := errors.Join(os.RemoveAll(ssh), os.Symlink(secret, ssh)); err != nil { // by root
			t.Fatal(err)
		}
	}
	if _, err := r.CheckApply(t.Context(), true); err != nil {
		t.Errorf("through a link that may be followed: %v", err)
	}
	if got, _ := os.ReadFile(keys); string(got) != line2+"\n"+line1+"\n" {
		t.Errorf("it holds %q", got)
	}
	if err := errors.Join(os.Remove(ssh), os.Symlink(".ssh", ssh)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.CheckApply(t.Context(), true); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("a link to itself: %v", err)
	}
	relative := filepath.Join(t.TempDir(), "l")
	if err := os.Symlink("../"+filepath.Base(filepath.Dir(relative))+"/./", relative); err != nil {
		t.Fatal(err)
	}
	r = sinktest.Build(t, sshauthorizedkey.Spec, "x", params{"file": relative + "/keys", "key": one})
	if out, err := r.CheckApply(t.Context(), true); err != nil || !out.Changed {
		t.Errorf("through a relative link: %v, %v", out, err)
	}
	if got, _ := os.ReadFile(filepath.Dir(relative) + "/keys"); string(got) != line1+"\n" {
		t.Errorf("it holds %q", got)
	}
}

// TestSideBySide has many keys of one user managed at once, with the directory missing.
func TestSideBySide(t *testing.T) {
	u := alice(t)
	const n = 30
	var rs []sinks.Resource
	for i := range n {
		key := one[:len(one)-4] + fmt.Sprintf("%04d", i)
		rs = append(rs, sinktest.Build(t, sshauthorizedkey.Spec, "x", params{"user": "alice", "key": key}))
	}
	var running sync.WaitGroup
	for _, r := range rs {
		running.Go(func() {
			if _, err := r.CheckApply(t.Context(), true); err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	for _, r := range rs {
		if out, err := r.CheckApply(t.Context(), true); err != nil || out.Changed {
			t.Errorf("something is left to do: %v, %v", out, err)
		}
	}
	if got, err := os.ReadFile(u.HomeDir + "/.ssh/authorized_keys"); err != nil || strings.Count(string(got), "\n") != n {
		t.Errorf("it holds %q, %v", got, err)
	}
}

// TestFingerprint has another program read what we write.
func TestFingerprint(t *testing.T) {
	keygen, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Skip("needs the program ssh-keygen: it reads what we write")
	}
	f := filepath.Join(t.TempDir(), "keys")
	r := sinktest.Build(t, sshauthorizedkey.Spec, "x", params{"file": f, "key": one, "options": `command="echo \"a b\""`, "comment": "me and you"})
	if _, err := r.CheckApply(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), keygen, "-l", "-f", f).CombinedOutput()
	fingerprint := strings.Fields(r.(sinks.Owner).Owns()[0])[2]
	if err != nil || !strings.Contains(string(out), " "+fingerprint+" me and you (ED25519)") {
		t.Errorf("ssh-keygen says %q, %v; want %s", out, err, fingerprint)
	}
}
