package main

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mgmtproject/mgmt/cmd/internal/cli"
	"github.com/mgmtproject/mgmt/cmd/internal/meshcli"
	"github.com/mgmtproject/mgmt/pipeline"
	"github.com/mgmtproject/mgmt/sinks"
	"github.com/mgmtproject/mgmt/sinks/all"
	"github.com/mgmtproject/mgmt/sinks/params"
)

// Pages makes all pages of the module at root, by their file names.
func Pages(root string) (map[string][]byte, error) {
	pages := map[string][]byte{}
	var index bytes.Buffer
	index.WriteString("# Reference\n\nThese pages are made from the code by `make docs`.\n\n## Commands\n\n")
	programs(func(cmd *cobra.Command) {
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".md"
		pages[path.Join(folder, "cli", name)] = fmt.Appendf(nil, "# %s\n\n```text\n%s```\n", cmd.CommandPath(), cli.HelpText(cmd))
		fmt.Fprintf(&index, "- [%s](cli/%s): %s\n", cmd.CommandPath(), name, cmd.Short)
	})

	index.WriteString("\n## Kinds of resources\n\n")
	for _, spec := range all.Specs {
		page, summary, err := kindPage(root, spec)
		if err != nil {
			return nil, fmt.Errorf("kind %s: %w", spec.Kind, err)
		}
		pages[path.Join(folder, "kinds", spec.Kind+".md")] = page
		fmt.Fprintf(&index, "- [%s](kinds/%s.md) %s\n", spec.Kind, spec.Kind, summary)
	}

	meta, err := metaPage(root)
	if err != nil {
		return nil, fmt.Errorf("meta-parameters: %w", err)
	}
	pages[path.Join(folder, "meta-parameters.md")] = meta
	index.WriteString("\n## Beside them\n\n- [Meta-parameters](meta-parameters.md), which every resource has\n- [The event stream](../events.md)\n")
	pages[path.Join(folder, "README.md")] = index.Bytes()
	return pages, nil
}

// programs calls f for all commands of mgmt, those of the other program too that it hands
// some of its arguments.
func programs(f func(*cobra.Command)) {
	mesh := meshcli.New(meshcli.Program{})
	commands(cli.New(cli.Program{}), func(cmd *cobra.Command) {
		if cmd.CommandPath() == mesh.CommandPath() {
			commands(mesh, f)
			return
		}
		f(cmd)
	})
}

// commands calls f for a command and all below it.
func commands(cmd *cobra.Command, f func(*cobra.Command)) {
	f(cmd)
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			commands(c, f)
		}
	}
}

// kindPage is the page of a kind, and what the kind does in one sentence.
func kindPage(root string, spec sinks.Spec) (page []byte, summary string, err error) {
	src, err := sourceOf(root, spec.New())
	if err != nil {
		return nil, "", err
	}
	if src.pkg.Doc == "" {
		return nil, "", fmt.Errorf("package %s has no comment", src.pkg.Name)
	}
	summary = strings.TrimPrefix(src.pkg.Synopsis(src.pkg.Doc), "Package "+src.pkg.Name+" ")

	var b bytes.Buffer
	fmt.Fprintf(&b, "# %s\n\n%s\n", spec.Kind, upper(strings.TrimPrefix(src.markdown(src.pkg.Doc), "Package "+src.pkg.Name+" ")))
	if text, ok := strings.CutPrefix(src.markdown(src.typeDoc()), "Config "); ok {
		fmt.Fprintf(&b, "\n%s `%s` resource %s\n", article(spec.Kind), spec.Kind, text)
	}
	b.WriteString("\nEvery resource also has a `name` and the [meta-parameters](../meta-parameters.md).\n")
	if err := parameters(&b, src, params.Fields(spec)); err != nil {
		return nil, "", err
	}
	if err := outputs(&b, spec.New()); err != nil {
		return nil, "", err
	}

	graph, err := os.ReadFile(filepath.Join(root, "examples", "kinds", spec.Kind+".yaml"))
	if err != nil {
		return nil, "", fmt.Errorf("an example graph: %w", err)
	}
	fmt.Fprintf(&b, "\n## In a graph file\n\n```yaml\n%s```\n", graph)
	example, err := src.example()
	if err != nil {
		return nil, "", err
	}
	fmt.Fprintf(&b, "\n## In a Go program\n\n```go\n%s```\n", example)
	return b.Bytes(), summary, nil
}

func metaPage(root string) ([]byte, error) {
	meta := pipeline.DefaultMeta()
	src, err := sourceOf(root, &meta)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("# Meta-parameters\n\nEvery resource understands these, whatever its kind. They stand under `meta`:\n\n" +
		"```yaml\nresources:\n  exec:\n  - name: update\n    cmd: apt-get update\n    meta:\n      retry: 3\n      delay: 10s\n```\n")
	if err := parameters(&b, src, params.FieldsOf(&meta)); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// parameters writes the tables of parameters: those of today, and those of old files.
func parameters(b *bytes.Buffer, src *source, fields []params.Field) error {
	var today, old []params.Field
	for _, f := range fields {
		if f.Legacy {
			old = append(old, f)
		} else {
			today = append(today, f)
		}
	}
	if err := table(b, "\n## Parameters\n", src, today); err != nil {
		return err
	}
	return table(b, "\n## Parameters of old files\n\nThey are accepted, and have no place in a new file.\n", src, old)
}

func table(b *bytes.Buffer, heading string, src *source, fields []params.Field) error {
	if len(fields) == 0 {
		return nil
	}
	b.WriteString(heading + "\n| parameter | type | default | meaning |\n| --- | --- | --- | --- |\n")
	for _, f := range fields {
		text, err := src.fieldDoc(f.Go)
		if err != nil {
			return err
		}
		value := "`" + f.Default + "`"
		if f.Default == "" || f.Default == `""` {
			value = ""
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", f.Name, typeText(f), value, cell(meaning(f, src.markdown(text))))
	}
	return nil
}

// outputs writes the table of what a kind sends, if it does.
func outputs(b *bytes.Buffer, cfg sinks.Config) error {
	sender, ok := cfg.(sinks.Sender)
	if !ok {
		return nil
	}
	b.WriteString("\n## Outputs\n\nOther resources can [receive](../../graph-file.md#sending-values) them.\n\n| output | type | meaning |\n| --- | --- | --- |\n")
	for _, out := range sender.Outputs() {
		if out.Doc == "" {
			return fmt.Errorf("the output %s has no description", out.Name)
		}
		text := out.Doc
		if out.Secret {
			text += " It is secret."
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", out.Name, typeNames[out.Type], cell(text))
	}
	return nil
}

// typeNames are the types of outputs, as those of parameters are called.
var typeNames = map[sinks.Type]string{
	sinks.TypeString: "string", sinks.TypeInt: "whole number", sinks.TypeFloat: "number", sinks.TypeBool: "true or false",
	sinks.TypeStrings: "list of strings", sinks.TypeMap: "mapping of strings",
}

// typeText is what can be given for a parameter.
func typeText(f params.Field) string {
	if len(f.OneOf) > 0 {
		words := make([]string, len(f.OneOf))
		for i, w := range f.OneOf {
			words[i] = "`" + w + "`"
		}
		return strings.Join(words, ", ")
	}
	if f.Unit != "" {
		return f.Type + "; a number counts " + f.Unit
	}
	return f.Type
}

// meaning is the comment of a field, about the parameter instead of the field.
func meaning(f params.Field, text string) string {
	if rest, ok := strings.CutPrefix(text, f.Go+" "); ok {
		text = "`" + f.Name + "` " + rest
	}
	if f.Secret {
		text += " It is never printed."
	}
	if f.Shown {
		text += " No secret can be received here, since it is shown."
	}
	if len(f.Aliases) > 0 {
		text += " An older name is `" + strings.Join(f.Aliases, "`, `") + "`."
	}
	return text
}

// cell is text that fits into a table.
func cell(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(text, "|", `\|`), "\n\n", "<br>"), "\n", " ")
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func article(word string) string {
	if strings.ContainsRune("aeiou", rune(word[0])) && !strings.HasPrefix(word, "use") {
		return "An"
	}
	return "A"
}
