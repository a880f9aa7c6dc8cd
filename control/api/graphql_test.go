package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"selvage/control/api"
	"selvage/foundation/clock"
	"selvage/product"
)

func TestGraphQL(t *testing.T) {
	var asked product.GraphQuery
	state := openStore(t, t.TempDir(), clock.Clock{})
	owner, err := api.Bootstrap(t.Context(), state, clock.Clock{}, true)
	if err != nil {
		t.Fatal(err)
	}
	a, err := api.New(api.Options{State: state, Graphs: []product.Graph{{Name: "thingGroups", Rows: func(_ context.Context, account string, q product.GraphQuery) ([]map[string]any, error) {
		asked = q
		return []map[string]any{{"count": 3, "sum": map[string]any{"reads": 1, "writes": 2}, "dimensions": map[string]any{"account": account}}}, nil
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(token, query string) string {
		t.Helper()
		body, _ := json.Marshal(map[string]any{"query": query, "variables": map[string]any{"tag": owner.AccountID, "filter": map[string]any{"AND": []any{map[string]any{"date_geq": "x", "n": 1}}}}})
		r := httptest.NewRequest("POST", "/client/v4/graphql", strings.NewReader(string(body)))
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		return strings.TrimSpace(w.Body.String())
	}
	got := ask(owner.Secret, `query($tag: string, $filter: F) { viewer { accounts(filter: {accountTag: $tag}) {
		all: thingGroups(limit: 5, filter: $filter, orderBy: [sum_reads_DESC]) { count sum { r: reads other } dimensions { account } } } } }`)
	want := `{"data":{"viewer":{"accounts":[{"all":[{"count":3,"dimensions":{"account":"` + owner.AccountID + `"},"sum":{"other":null,"r":1}}]}]}},"errors":null}`
	if got != want {
		t.Errorf("answer %s, want %s", got, want)
	}
	if s := fmt.Sprint(asked); s != "{[{date_geq x} {n 1}] 5 [sum_reads_DESC] map[count:[] dimensions:[account] sum:[reads other]]}" {
		t.Errorf("the dataset was asked %s", s)
	}
	for query, says := range map[string]string{
		`{ viewer { zones { x } } }`: `no field \"zones\"`,
		`{ viewer }`:                 `Say what is wanted`,
		`{ viewer { accounts { thingGroups { count } } } }`:                                                              `Name the account`,
		`{ viewer { accounts(filter: {accountTag: "other"}) { thingGroups { count } } } }`:                               `may not read`,
		`query($tag: x) { viewer { accounts(filter: {accountTag: $tag}) { unknown { a } } } }`:                           `known are thingGroups`,
		`query($tag: x) { viewer { accounts(filter: {accountTag: $tag}) { thingGroups(limit: 0) { count } } } }`:         `from 1 to`,
		`query($tag: x) { viewer { accounts(filter: {accountTag: $tag}) { thingGroups(filter: {OR: []}) { count } } } }`: `OR is not supported`,
		`{ viewer`: `line 1`,
	} {
		if got := ask(owner.Secret, query); !strings.Contains(got, says) || !strings.HasPrefix(got, `{"data":null,"errors":[`) {
			t.Errorf("%s is answered %s, want an error that says %s", query, got, says)
		}
	}
	if got := ask("no token", `{ viewer { accounts { x } } }`); !strings.Contains(got, `"success":false`) {
		t.Errorf("without a valid token: %s", got)
	}
}
