package filter

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"selvage/foundation/fault"
)

// The limits of an expression. Going over one is a fault.TooMuch.
const (
	MaxLength   = 4096 // characters
	MaxDepth    = 64   // parentheses, negations and calls within each other
	MaxRegexes  = 64   // regular expressions in one expression
	MaxPrograms = 1000 // instructions of the regular expressions of all rules that a request runs through
	MaxRepeats  = 1000 // instructions that repeats such as a{1,100} add to its regular expressions: with the length this bounds their cost
	MaxStars    = 8    // "*" in one wildcard pattern
)

// faultAt returns a fault of the source between two offsets: line and column, the line itself, a
// mark under what is wrong, and the sentence.
func faultAt(src string, from, to int, format string, args ...any) error {
	from, to = min(from, len(src)), min(to, len(src))
	start := strings.LastIndexByte(src[:from], '\n') + 1
	line := src[start:]
	if end := strings.IndexByte(line, '\n'); end >= 0 {
		line = line[:end]
	}
	number := strings.Count(src[:start], "\n") + 1
	column := utf8.RuneCountInString(src[start:from])
	width := 1
	if end := min(to, start+len(line)); end > from {
		width = utf8.RuneCountInString(src[from:end])
	}
	line, indent := excerpt(line, column)
	return fault.New(fault.Invalid, "Filter parsing error (%d:%d):\n%s\n%s%s %s", number, column+1,
		line, strings.Repeat(" ", indent), strings.Repeat("^", min(width, 40)), fmt.Sprintf(format, args...))
}

// excerpt cuts a long line down to what is around a column, and returns where the column is then.
func excerpt(line string, column int) (string, int) {
	const before, after = 60, 60
	runes := []rune(strings.ToValidUTF8(strings.ReplaceAll(line, "\t", " "), "\uFFFD"))
	if len(runes) <= before+after {
		return string(runes), column
	}
	from, to := max(0, column-before), min(len(runes), column+after)
	cut := string(runes[from:to])
	if to < len(runes) {
		cut += "..."
	}
	if from > 0 {
		return "..." + cut, column - from + 3
	}
	return cut, column
}

// nearest returns the candidate that was most likely meant by name, or "" if none is near.
func nearest(name string, candidates []string) string {
	best, bestDistance := "", max(2, len(name)/5)+1
	for _, c := range candidates {
		if d := len(c) - len(name); d >= bestDistance || -d >= bestDistance {
			continue
		}
		if d := distance(name, c); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	if best == "" && len(name) > 3 {
		for _, c := range candidates {
			if strings.HasSuffix(c, "."+name) {
				return c
			}
		}
	}
	return best
}

// distance is the Levenshtein distance of two names.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// CheckPrograms refuses a set of expressions that every request runs through, if their regular
// expressions have more than MaxPrograms instructions together. One costs some 20 ns for each byte
// it looks at: without a bound on the set one request with a long path takes minutes of CPU.
func CheckPrograms(together int) error {
	if together <= MaxPrograms {
		return nil
	}
	return fault.New(fault.TooMuch, "The regular expressions of the rules have %d instructions together, the limit is %d: every request runs through them. Use fewer, or operators such as in, wildcard and contains.", together, MaxPrograms)
}
