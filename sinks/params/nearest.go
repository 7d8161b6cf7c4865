package params

import "strings"

// Nearest returns the known name that word was most likely meant to be: the first of
// those that fewest typing errors separate from it (a letter too many, missing, wrong,
// or swapped with its neighbour; capitals don't count). It reports false if all are too
// far away: more than a third of the letters, or more than three.
func Nearest(word string, known []string) (string, bool) {
	var (
		near  string
		limit = min(3, len(word)/3)
		found bool
	)
	for _, k := range known {
		if d, ok := distance(word, k, limit); ok {
			near, found = k, true
			if d == 0 {
				break
			}
			limit = d - 1
		}
	}
	return near, found
}

// distance is the number of typing errors between a and b, unless it is above limit.
// It is the optimal string alignment distance (Damerau-Levenshtein in which no letter is
// edited twice).
func distance(a, b string, limit int) (int, bool) {
	if a == b {
		return 0, true
	}
	if len(a)-len(b) > limit || len(b)-len(a) > limit || limit <= 0 {
		return 0, limit >= 0 && strings.EqualFold(a, b)
	}
	a, b = strings.ToLower(a), strings.ToLower(b)
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	width := len(b) + 1
	var fixed [3 * 48]int
	rows := fixed[:]
	if 3*width > len(rows) {
		rows = make([]int, 3*width)
	}
	before, last, row := rows[:width], rows[width:2*width], rows[2*width:3*width]
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			d := min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, before[j-2]+1)
			}
			row[j] = d
			least = min(least, d)
		}
		if least > limit {
			return 0, false
		}
		before, last, row = last, row, before
	}
	return last[len(b)], last[len(b)] <= limit
}
