package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

var shells = []string{"bash", "zsh", "fish"}

func completionCommand(p Program) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that completes the arguments of mgmt in a shell",
		Long: `Print a script for the shell that is named. Once the shell has read it, the Tab key
completes the commands and flags of mgmt, their values, and graph files.`,
		Example: `  source <(mgmt completion bash)                               in this bash
  mgmt completion bash >/etc/bash_completion.d/mgmt            for everybody's bash
  mgmt completion zsh >"${fpath[1]}/_mgmt"                     zsh, with compinit
  mgmt completion fish >~/.config/fish/completions/mgmt.fish   fish`,
		ValidArgs: shells,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("name one shell: %s", strings.Join(shells, ", "))
			}
			shell := choice{among: shells}
			if err := shell.Set(args[0]); err != nil {
				return usageError{Err: err}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(p.Out, true)
			case "zsh":
				return root.GenZshCompletion(p.Out)
			case "fish":
				return root.GenFishCompletion(p.Out, true)
			}
			return fmt.Errorf("no script for %s", args[0])
		},
	}
}
