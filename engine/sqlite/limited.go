package sqlite

import (
	"slices"
	"strings"
)

// Programs written for D1 say DELETE ... LIMIT and UPDATE ... LIMIT, which our SQLite was compiled without. SQLite itself
// makes of them a statement over the rowids that a SELECT with that LIMIT finds; here that is done with the text.

// unlimited returns what a statement with a LIMIT means in SQL without it; false if it is no such statement, or one that
// cannot be written so: an UPDATE with FROM, a parameter without a number in RETURNING, which would come to stand elsewhere.
func unlimited(sql string) (string, bool) {
	words, end := clauses(sql)
	verb := slices.IndexFunc(words, func(w clause) bool { return w.word == "DELETE" || w.word == "UPDATE" })
	if verb < 0 || verb > 0 && words[0].word != "WITH" {
		return "", false
	}
	words = words[verb:]
	until := func(i int) int {
		if i+1 < len(words) {
			return words[i+1].at
		}
		return end
	}
	var table string
	switch {
	case len(words) < 3:
		return "", false
	case words[0].word == "DELETE" && words[1].word == "FROM":
		table = sql[words[1].end:until(1)]
	case words[0].word == "UPDATE" && words[1].word == "SET":
		table = afterConflict(strings.TrimSpace(sql[words[0].end:words[1].at]))
	default:
		return "", false
	}
	last, order, parts := -1, []string{"WHERE", "RETURNING", "ORDER", "LIMIT"}, [4]string{}
	for i := 2; i < len(words); i++ {
		n := slices.Index(order, words[i].word)
		if n <= last {
			return "", false
		}
		last, parts[n] = n, sql[words[i].at:until(i)]
	}
	if where, returning, by, limit := parts[0], parts[1], parts[2], parts[3]; limit != "" && !strings.Contains(returning, "?") {
		// New lines end what comments may be at the ends of the parts.
		return sql[:until(1)] + "\nWHERE _rowid_ IN (SELECT _rowid_ FROM " + table + "\n" + where + "\n" + by + "\n" + limit + "\n) " + returning + sql[end:], true
	}
	return "", false
}

// afterConflict returns what follows "OR IGNORE" and its like.
func afterConflict(table string) string {
	if or, rest, ok := strings.Cut(table, " "); ok && strings.EqualFold(or, "OR") {
		_, rest, _ = strings.Cut(strings.TrimSpace(rest), " ")
		return rest
	}
	return table
}

// clause is a word that begins a part of a statement.
type clause struct {
	word    string // in capitals
	at, end int    // of the word in the text
}

// clauses returns the words that begin parts of the first statement of sql, outside of parentheses, and where it ends.
func clauses(sql string) (words []clause, end int) {
	depth := 0
	s := newScannerOver(sql)
	for {
		at := len(s.text)
		t, err := s.token()
		if err != nil || t == semicolon && depth == 0 {
			return words, at
		}
		switch text := strings.ToUpper(string(s.text[at:])); text {
		case "(":
			depth++
		case ")":
			if depth--; depth < 0 {
				return nil, 0
			}
		case "WITH", "DELETE", "UPDATE", "FROM", "SET", "WHERE", "RETURNING", "ORDER", "LIMIT":
			// IS DISTINCT FROM is an operator.
			if depth == 0 && (text != "FROM" || !strings.HasSuffix(strings.ToUpper(strings.TrimSpace(sql[:at])), "DISTINCT")) {
				words = append(words, clause{text, at, len(s.text)})
			}
		}
	}
}
