package main

import (
	"os"
	"regexp"
	"testing"
)

// TestMain makes the test binary a server when a measurement starts it as one.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "server" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestASmallSwarmIsMeasured(t *testing.T) {
	t.Run("with clients alone", func(t *testing.T) { measured(t) })
	t.Run("with graphs", func(t *testing.T) { measured(t, "--compile") })
}

func measured(t *testing.T, more ...string) {
	t.Helper()
	cmd := command()
	out, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	cmd.SetOut(out)
	cmd.SetArgs(append([]string{"--servers", "3", "--agents", "2,5", "--changes", "2"}, more...))
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`(?s)^agents .*\n +2 +\d+ms .*MiB\n +5 +\d+ms .*MiB\n$`)
	if !want.Match(text) {
		t.Errorf("measured\n%s", text)
	}
}
