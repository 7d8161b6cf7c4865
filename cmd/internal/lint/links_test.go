package lint_test

import (
	"os/exec"
	"strings"
	"testing"
)

// notIn says what a program must not be linked with, since every start of it would pay.
var notIn = map[string][]string{
	"./cmd/mgmt": {"go.etcd.io/etcd/", "google.golang.org/grpc", "filippo.io/age", "go.uber.org/zap", "github.com/prometheus/"},
}

// linked lists the packages of a program that it must not be linked with.
func linked(packages, not []string) []string {
	var list []string
	for _, p := range packages {
		for _, prefix := range not {
			if strings.HasPrefix(p, prefix) {
				list = append(list, p)
			}
		}
	}
	return list
}

func TestProgramsLinkNoMoreThanTheyNeed(t *testing.T) {
	for program, not := range notIn {
		cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", program)
		cmd.Dir = root
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if list := linked(strings.Fields(string(out)), not); len(list) > 0 {
			t.Errorf("%s is linked with %q; what needs these belongs in cmd/mgmt-mesh, behind the socket to it", program, list)
		}
	}
}

func TestLinkedFindsWhatItIsFor(t *testing.T) {
	list := linked([]string{"fmt", "go.etcd.io/etcd/client/v3", "go.etcd.io.example/x"}, []string{"go.etcd.io/etcd/"})
	if len(list) != 1 || list[0] != "go.etcd.io/etcd/client/v3" {
		t.Errorf("got %q", list)
	}
}
