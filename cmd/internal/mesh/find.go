package mesh

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Program is the name of the program that is the peer of a host.
const Program = "mgmt-mesh"

// Find returns the path of the program: beside the one that runs, in libexec/mgmt beside
// that one's directory, or else where PATH says.
func Find() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	dir := filepath.Dir(self)
	for _, path := range []string{filepath.Join(dir, Program), filepath.Join(filepath.Dir(dir), "libexec", "mgmt", Program)} {
		if path, err := exec.LookPath(path); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(Program)
	if err != nil {
		return "", fmt.Errorf("the program %s, which is for meshes, is not there: neither in %s nor on the PATH; install it beside mgmt", Program, dir)
	}
	return path, nil
}
