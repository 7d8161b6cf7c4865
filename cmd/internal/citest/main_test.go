package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A module with one package for each way in which a package of tests can end.
var packages = map[string]string{
	"good": `package good
import "testing"
func TestOne(t *testing.T) { t.Log("not to be seen") }
func TestTwo(t *testing.T) { t.Run("a part", func(*testing.T) {}) }
`,
	"skips": `package skips
import "testing"
func TestRoot(t *testing.T) { t.Skip("needs root: it mounts") }
func TestSlow(t *testing.T) { t.Log("first this"); t.Skipf("needs %d minutes", 5) }
func TestWhy(t *testing.T) { t.SkipNow() }
`,
	"fails": `package fails
import "testing"
func TestGood(t *testing.T) {}
func TestBad(t *testing.T) { t.Run("in part", func(t *testing.T) { t.Log("the log"); t.Error("got 1, want 2") }) }
`,
	"panics": `package panics
import "testing"
func TestPanic(t *testing.T) { println("about to"); panic("out of order") }
`,
	"leaks": `package leaks
import ("fmt"; "os"; "testing")
func TestMain(m *testing.M) { m.Run(); fmt.Println("found a leak"); os.Exit(1) }
func TestFine(t *testing.T) {}
`,
	"broken": `package broken
import "testing"
func TestBroken(t *testing.T) { var x int = "text" }
`,
	"empty": `package empty
`,
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module example.org/m\n\ngo 1.26\n")
	for name, text := range packages {
		write(name+"/"+name+"_test.go", text)
	}
	write("empty/empty.go", packages["empty"])
	if err := os.Remove(filepath.Join(dir, "empty/empty_test.go")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)

	tests := []struct {
		name string
		args []string
		code int
		want []string
		not  []string
	}{
		{
			"what passes is counted and its output left out", []string{"./good"}, 0,
			[]string{"ok   example.org/m/good", ", 3 passed)\n", "\n3 passed, 0 failed, 0 skipped\n"},
			[]string{"not to be seen"},
		},
		{
			"skips are listed with their reasons", []string{"./skips"}, 0,
			[]string{
				"example.org/m/skips TestRoot: needs root: it mounts\n", "example.org/m/skips TestSlow: needs 5 minutes\n",
				"example.org/m/skips TestWhy: no reason given\n", "\n0 passed, 0 failed, 3 skipped\n",
			},
			nil,
		},
		{
			"a skip for a forbidden reason is a failure", []string{"-forbid", "needs root", "./skips", "./good"}, 1,
			[]string{"--- FAIL example.org/m/skips TestRoot", "needs root: it mounts", "nothing may be skipped for that reason", "\n3 passed, 1 failed, 2 skipped\n"},
			[]string{"--- FAIL example.org/m/skips TestSlow"},
		},
		{
			"a failure is shown with all that it printed", []string{"./fails"}, 1,
			[]string{"--- FAIL example.org/m/fails TestBad/in_part", "the log", "got 1, want 2", "FAIL example.org/m/fails", "\n1 passed, 2 failed, 0 skipped\n"},
			[]string{"TestGood"},
		},
		{
			"a panic is shown", []string{"./panics"}, 1,
			[]string{"out of order", "panics_test.go:3", "1 failed"},
			nil,
		},
		{
			"a package that fails by itself counts", []string{"./leaks"}, 1,
			[]string{"found a leak", "FAIL example.org/m/leaks", "\n1 passed, 1 failed, 0 skipped\n"},
			nil,
		},
		{
			"what the compiler said is shown", []string{"./broken", "./good"}, 1,
			[]string{"broken_test.go:3", "cannot use \"text\"", "FAIL example.org/m/broken", "\n3 passed, 1 failed, 0 skipped\n"},
			nil,
		},
		{
			"a package without tests is nothing", []string{"./empty"}, 0,
			[]string{"\n0 passed, 0 failed, 0 skipped\n"}, []string{"example.org"},
		},
		{"flags go to go test", []string{"-run", "TestOne", "./good"}, 0, []string{"\n1 passed, 0 failed, 0 skipped\n"}, nil},
		{"a package that does not exist is a failure", []string{"./nowhere"}, 1, []string{"nowhere"}, nil},
		{"an expression that does not compile is a usage error", []string{"-forbid", "(", "./good"}, 2, []string{"-forbid"}, nil},
		{"no arguments are a usage error", nil, 2, []string{"usage: citest"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), tt.args, &stdout, &stderr)
			out := stdout.String() + stderr.String()
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for _, w := range tt.want {
				if !strings.Contains(out, w) {
					t.Errorf("%q is missing", w)
				}
			}
			for _, n := range tt.not {
				if strings.Contains(out, n) {
					t.Errorf("%q should not be there", n)
				}
			}
			if t.Failed() {
				t.Logf("it printed:\n%s", out)
			}
		})
	}
}
