package file_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// nobody is the user and group that rerun becomes.
const nobody = 65534

// rerun runs a test of this package again as an ordinary user, who owns a directory with
// some of root's files in it.
func rerun(t *testing.T, name string) {
	t.Helper()
	d, err := os.MkdirTemp("", "mgmt-file-test-") //nolint:usetesting // that is in one of mode 0700
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(d)
	program := filepath.Join(d, "test")
	setup(t, func() error { return exec.Command("cp", os.Args[0], program).Run() },
		chmod(program, 0o755),
		write(d+"/own/theirs", "theirs"), chmod(d+"/own/theirs", 0o6774),
		write(d+"/own/odd", ""), chown(d+"/own/odd", nobody, 0), chmod(d+"/own/odd", 0o755),
		mkdir(d+"/own/shared"), chown(d+"/own/shared", nobody, 0), chmod(d+"/own/shared", 0o2755),
		chown(d+"/own", nobody, nobody), chmod(d, 0o755))
	cmd := exec.Command(program, "-test.run=^"+name+"$", "-test.v", "-test.count=1")
	cmd.Dir = d
	cmd.Env = append(os.Environ(), "TMPDIR="+d+"/own", "FILE_TEST_DIR="+d+"/own")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	t.Logf("as user %d:\n%s", nobody, out)
	if err != nil {
		t.Errorf("as an ordinary user: %v", err)
	}
}
