package lint_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// top is what may lie at the top of the repository, besides names with a leading dot.
var top = []string{
	"streams", "operators", "sources", "sinks", "pipeline", "cmd", "examples", "docs",
	"go.mod", "go.sum", "README.md", "LICENSE", "Makefile", "CHANGELOG.md",
}

func topLevel(files tree) []string {
	var problems []string
	for _, p := range files.paths(func(p string) bool { return !strings.HasPrefix(p, ".") }) {
		first, _, _ := strings.Cut(p, "/")
		problem := fmt.Sprintf("%s does not belong at the top of the repository; what may lie there is %s", first, strings.Join(top, " "))
		if !slices.Contains(top, first) && !slices.Contains(problems, problem) {
			problems = append(problems, problem)
		}
	}
	return problems
}

// grep tells where in the files a pattern stands.
func grep(files tree, pattern *regexp.Regexp, what string) []string {
	var problems []string
	for _, p := range files.paths(func(string) bool { return true }) {
		if !pattern.MatchString(files[p]) {
			continue
		}
		for i, line := range strings.Split(files[p], "\n") {
			if m := pattern.FindString(line); m != "" {
				problems = append(problems, fmt.Sprintf("%s:%d: %q %s", p, i+1, m, what))
			}
		}
	}
	return problems
}

// The patterns are put together from parts, so that this file does not match itself.
var (
	workplaceWords = regexp.MustCompile(strings.Join([]string{
		`/wo` + `rk/`, `\.\./sha` + `red\b`, `\.lib` + `rary\b`, `(?:pro` + `xy|sum)\.golang\.org`, `\bissues ` + `show\b`,
	}, "|"))
	laterWords = regexp.MustCompile(`\b(?:TO` + `DO|FIX` + `ME)\b`)
)

func workplace(files tree) []string {
	return grep(files, workplaceWords, "means nothing to who has only this repository")
}

func leftForLater(files tree) []string {
	return grep(files, laterWords, "leaves something for later: do it, or say what the limit is")
}
