package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/command"
)

func versionCommand(p Program) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print which version this is",
		Long: `Print which version this is, the commit that it was built from if that is known, and
the version of Go and the platform that it was built for.`,
		Example:           "  mgmt version",
		Args:              noArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(*cobra.Command, []string) error { return printVersion(p) },
	}
}

func printVersion(p Program) error {
	_, err := fmt.Fprintf(p.Out, "mgmt %s\n%s %s/%s\n", release(p.Version), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

func noArgs(cmd *cobra.Command, args []string) error { return command.NoArgs(cmd, args) }

// release is the version that the linker was told, or else what the Go command knows:
// a module version, or the commit.
func release(linked string) string {
	if linked != "" {
		return linked
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	version := info.Main.Version
	if version == "" || version == "(devel)" {
		version = "development"
	}
	if commit := settings["vcs.revision"]; commit != "" {
		version += " (commit " + commit[:min(12, len(commit))]
		if settings["vcs.modified"] == "true" {
			version += ", modified"
		}
		version += ")"
	}
	return version
}
