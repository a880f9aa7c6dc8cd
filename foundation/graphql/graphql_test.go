package graphql_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"selvage/foundation/graphql"
)

func TestParse(t *testing.T) {
	// As wrangler asks.
	f, err := graphql.Parse(`query getD1MetricsOverviewQuery($accountTag: string, $filter: ZoneWorkersRequestsFilter_InputObject) {
		viewer { accounts(filter: {accountTag: $accountTag}) {
			d1AnalyticsAdaptiveGroups(limit: 10000, filter: $filter, orderBy: [sum_rowsRead_DESC]) { sum { readQueries, rows: rowsRead } dimensions { datetimeHour } } # the end
		} } }`, "getD1MetricsOverviewQuery", map[string]json.RawMessage{
		"accountTag": json.RawMessage(`"a1"`), "filter": json.RawMessage(`{"AND":[{"databaseId":"d1","n":12345678901234567890}]}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	accounts := f.Child("viewer").Child("accounts")
	if got := fmt.Sprint(accounts.Args); got != "map[filter:map[accountTag:a1]]" {
		t.Errorf("arguments of accounts = %s", got)
	}
	groups := accounts.Child("d1AnalyticsAdaptiveGroups")
	if got := fmt.Sprint(groups.Args); got != "map[filter:map[AND:[map[databaseId:d1 n:12345678901234567890]]] limit:10000 orderBy:[sum_rowsRead_DESC]]" {
		t.Errorf("arguments of the groups = %s", got)
	}
	if _, ok := groups.Args["orderBy"].([]any)[0].(graphql.Enum); !ok {
		t.Errorf("orderBy = %#v, want an Enum", groups.Args["orderBy"])
	}
	if sum := groups.Child("sum"); len(sum.Fields) != 2 || sum.Fields[1].Alias != "rows" || sum.Fields[1].Name != "rowsRead" {
		t.Errorf("sum = %+v", sum)
	}
	if groups.Child("avg") != nil {
		t.Error("Child of what was not selected is not nil")
	}
}

func TestParseRefuses(t *testing.T) {
	for query, says := range map[string]string{
		"":                                 "no operation",
		"{":                                "A name is expected",
		"{}":                               "at least one field",
		"{a":                               "A name is expected",
		"{a(":                              "A name is expected",
		"{a(b:$c)}":                        "$c is not declared",
		"mutation { a }":                   "Only queries",
		"{ ...F }":                         "Fragments",
		"{ a @skip(if: true) }":            "Directives",
		"{ a(b: \"x) }":                    "not closed",
		`{ a(b: """x""") }`:                "Block strings",
		`{ a(b: "\q") }`:                   "not valid",
		"{ a(b: 1.2.3) }":                  "no number",
		"{ a(b: %) }":                      `"%" cannot stand here`,
		"{ a } { b }":                      "several operations",
		strings.Repeat("{a", 100):          "deeper",
		"{a(b:" + strings.Repeat("[", 100): "deeper",
		"query(" + "$a:" + strings.Repeat("[", 100):             "deeper",
		"{" + strings.Repeat("a ", 5000) + "}":                  "more than",
		"{" + strings.Repeat("a ", graphql.MaxQuery) + "}":      "limit is",
		"query($a: Int) { b(c: $a) }\nquery Two {\n  c(d: ?) }": `(line 3, column 8)`,
	} {
		_, err := graphql.Parse(query, "", nil)
		var e *graphql.Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), says) {
			t.Errorf("Parse(%.60q) = %v, want an error that says %q", query, err, says)
		}
	}
	if _, err := graphql.Parse("query($a: Int) { b(c: $a) }", "", map[string]json.RawMessage{"a": json.RawMessage(`{"x":`)}); err == nil {
		t.Error("a variable that is no JSON was taken")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`query A($a: [Int!]! = [1]) { b: c(d: $a, e: {f: "g\n", h: ENUM}) { i } }`)
	f.Add(`{ a(b: -1.5e3, c: null, d: true) } # x`)
	f.Fuzz(func(t *testing.T, query string) {
		got, err := graphql.Parse(query, "", nil)
		if (got == nil) == (err == nil) {
			t.Errorf("Parse(%q) = %v, %v", query, got, err)
		}
	})
}
