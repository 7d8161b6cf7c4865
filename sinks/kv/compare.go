package kv

import (
	"fmt"
	"math/big"
	"strings"
)

const styleInt = "int"

// less returns how a style of skipcmpstyle compares.
func less(style string) func(a, b string) (bool, error) {
	if style == styleInt || style == "0" {
		return lessInt
	}
	return func(a, b string) (bool, error) { return a < b, nil }
}

// lessInt compares decimal numbers of any length, such as the output of a command, that
// may have white space around them.
func lessInt(a, b string) (bool, error) {
	var numbers [2]big.Int
	for i, text := range []string{a, b} {
		if _, ok := numbers[i].SetString(strings.TrimSpace(text), 10); !ok {
			return false, fmt.Errorf("%s is no whole number", brief(text))
		}
	}
	return numbers[0].Cmp(&numbers[1]) < 0, nil
}

// brief is a text as an error shows it.
func brief(text string) string {
	const most = 60
	if len(text) > most {
		return fmt.Sprintf("%q...", text[:most])
	}
	return fmt.Sprintf("%q", text)
}
