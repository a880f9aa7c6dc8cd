package analytics

import (
	"strings"

	"selvage/foundation/fault"
)

// statement is a query made fit for SQLite.
type statement struct {
	sql    string
	format string // JSON, JSONEachRow, TabSeparated
	show   string // TABLES, TIMEZONE or TIMEZONES instead of a SELECT
}

// formats are the values of FORMAT.
var formats = map[string]string{"json": "JSON", "jsoneachrow": "JSONEachRow", "tabseparated": "TabSeparated"}

// parse reads one statement: SELECT, or SHOW TABLES, with FORMAT at its end. What ClickHouse writes
// in another way than SQLite is rewritten, token by token:
//
//	count() FORMAT JSON                        FORMAT is taken off
//	now() - INTERVAL '1' DAY                   shift(now(), -1, 'DAY')
//	toStartOfInterval(t, INTERVAL '5' MINUTE)  toStartOfInterval(t, '5 MINUTE')
//	quantileExactWeighted(0.5)(x, w)           quantileExactWeighted(0.5, x, w)
//	a / b                                      a * 1.0 / b
//	if(a, b, c)                                iif(a, b, c)
//	a ILIKE b                                  a REGEXP b, which is ILIKE here
func parse(query string) (*statement, error) {
	list, err := tokens(query)
	if err != nil {
		return nil, err
	}
	for len(list) > 0 && list[len(list)-1].is(";") {
		list = list[:len(list)-1]
	}
	s := &statement{format: "JSON"}
	if n := len(list); n > 1 && list[n-2].is("FORMAT") && list[n-1].kind == word {
		format, ok := formats[strings.ToLower(list[n-1].text)]
		if !ok {
			return nil, fault.New(fault.Invalid, "FORMAT %.40s does not exist; it is JSON, JSONEachRow or TabSeparated.", list[n-1].text).At("query")
		}
		s.format, list = format, list[:n-2]
	}
	switch {
	case len(list) == 2 && list[0].is("SHOW") && (list[1].is("TABLES") || list[1].is("TIMEZONE") || list[1].is("TIMEZONES")):
		s.show = strings.ToUpper(list[1].text)
		return s, nil
	case len(list) == 0 || !list[0].is("SELECT"):
		return nil, fault.New(fault.Invalid, "Send one SELECT statement, or SHOW TABLES.").At("query")
	}
	for _, t := range list {
		if t.is(";") {
			return nil, fault.New(fault.Invalid, "Send one statement at a time.").At("query")
		}
	}
	if list, err = rewrite(list); err != nil {
		return nil, err
	}
	s.sql = sql(list)
	return s, nil
}

// rewrite makes SQLite's tokens of ClickHouse's.
func rewrite(in []token) ([]token, error) {
	var out []token
	for i := 0; i < len(in); i++ {
		t := in[i]
		calls := i+1 < len(in) && in[i+1].is("(")
		switch {
		case t.is("INTERVAL") && i+2 < len(in) && (in[i+1].kind == text || in[i+1].kind == digits) && in[i+2].kind == word:
			var err error
			if out, err = interval(out, in[i+1].text, in[i+2].text); err != nil {
				return nil, err
			}
			i += 2
		case t.is("/"):
			out = append(out, token{sign, "*"}, token{digits, "1.0"}, t)
		case t.is("if") && calls:
			out = append(out, token{word, "iif"})
		case t.is("ILIKE"):
			out = append(out, token{word, "REGEXP"})
		case t.kind == word && calls && parametric(in[i+1:]):
			end := closing(in, i+1)
			out = append(out, t, token{sign, "("})
			out = append(out, in[i+2:end]...)
			out = append(out, token{sign, ","})
			i = end + 1 // the second parenthesis
		default:
			out = append(out, t)
		}
	}
	return out, nil
}

// parametric tells whether two lists in parentheses follow each other, as in quantile(0.5)(x).
func parametric(in []token) bool {
	end := closing(in, 0)
	return end > 1 && end+1 < len(in) && in[end+1].is("(")
}

// closing returns the index of the parenthesis that ends the one at open, or -1.
func closing(in []token, open int) int {
	depth := 0
	for i := open; i < len(in); i++ {
		switch {
		case in[i].is("("):
			depth++
		case in[i].is(")"):
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// units are what an INTERVAL is counted in.
var units = map[string]bool{"SECOND": true, "MINUTE": true, "HOUR": true, "DAY": true, "WEEK": true, "MONTH": true, "QUARTER": true, "YEAR": true}

// interval adds INTERVAL 'count' UNIT to out: as an argument, or as a shift of the operand that
// stands before a plus or a minus.
func interval(out []token, count, unit string) ([]token, error) {
	unit = strings.ToUpper(unit)
	if !units[unit] {
		return nil, fault.New(fault.Invalid, "INTERVAL %.40s does not exist; its unit is SECOND, MINUTE, HOUR, DAY, WEEK, MONTH, QUARTER or YEAR.", unit).At("query")
	}
	n := len(out)
	if n == 0 || !out[n-1].is("-") && !out[n-1].is("+") {
		return append(out, token{text, count + " " + unit}), nil
	}
	if out[n-1].is("-") {
		count = "-" + count
	}
	start := operand(out[:n-1])
	if start < 0 {
		return nil, fault.New(fault.Invalid, "INTERVAL is added to, or taken from, a name, a function or an expression in parentheses.").At("query")
	}
	shifted := append([]token{}, out[:start]...)
	shifted = append(shifted, token{word, "shift"}, token{sign, "("})
	shifted = append(shifted, out[start:n-1]...)
	return append(shifted, token{sign, ","}, token{text, count}, token{sign, ","}, token{text, unit}, token{sign, ")"}), nil
}

// operand returns where the operand at the end of out begins, or -1.
func operand(out []token) int {
	i := len(out) - 1
	if i < 0 || !out[i].is(")") {
		if i >= 0 && (out[i].kind != sign) {
			return i
		}
		return -1
	}
	for depth := 0; i >= 0; i-- {
		if out[i].is(")") {
			depth++
		} else if out[i].is("(") {
			if depth--; depth == 0 {
				break
			}
		}
	}
	if i > 0 && out[i-1].kind == word && !keyword[strings.ToUpper(out[i-1].text)] {
		return i - 1
	}
	return i
}

// keyword are words before a parenthesis that call nothing.
var keyword = map[string]bool{"SELECT": true, "WHERE": true, "AND": true, "OR": true, "NOT": true, "IN": true, "BETWEEN": true, "HAVING": true, "BY": true, "ON": true, "WHEN": true, "THEN": true, "ELSE": true, "LIKE": true, "REGEXP": true, "AS": true, "DISTINCT": true}
