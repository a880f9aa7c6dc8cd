package d1_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"selvage/product"
	"selvage/product/producttest"
	"selvage/spec"
)

func TestContract(t *testing.T) {
	producttest.Run(t, func(t *testing.T) product.Product { return newDesk(t).d1 })
}

func TestDatabases(t *testing.T) {
	d := newDesk(t)
	base := root(d.owner.AccountID)
	made := d.ok("POST", base, `{"name":"first","primary_location_hint":"weur"}`)
	if made.at("name") != "first" || made.at("version") != "production" || !spec.IsUUID(made.at("uuid")) || made.at("primary_location_hint") != "weur" || made.at("created_in_region") != "WEUR" {
		t.Errorf("created: %s", made.Body)
	}
	one := base + "/" + made.at("uuid")
	d.make(d.owner.AccountID, "second")
	d.make(d.other, "first") // names are an account's own
	for query, want := range map[string]string{"": "second first", "?name=first": "first", "?name=nothing": "", "?per_page=1&page=2": "first", "?per_page=10&page=2": ""} {
		var list []struct{ Name string }
		g := d.ok("GET", base+query, "")
		g.into(&list)
		var names []string
		for _, n := range list {
			names = append(names, n.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s lists %q, want %q: %s", query, got, want, g.Body)
		}
	}
	d.sql(one, "CREATE TABLE a(x); CREATE TABLE b(x)")
	for _, path := range []string{one, base + "/first", strings.ToUpper(one[len(base):])} {
		if !strings.HasPrefix(path, "/acc") {
			path = base + path
		}
		g := d.ok("GET", path, "")
		if g.at("num_tables") != "2" || g.at("file_size") != "12288" || g.at("running_in_region") != "WEUR" || g.at("read_replication") != "map[mode:disabled]" {
			t.Errorf("GET %s: %s", path, g.Body)
		}
	}
	if g := d.ok("GET", base+"/first?fields=uuid,name", ""); string(g.Result) != `{"name":"first","uuid":"`+made.at("uuid")+`"}` {
		t.Errorf("fields: %s", g.Body)
	}
	for _, method := range []string{"PATCH", "PUT"} {
		if g := d.ok(method, one, `{"read_replication":{"mode":"auto"}}`); g.at("read_replication") != "map[mode:auto]" {
			t.Errorf("%s: %s", method, g.Body)
		}
	}
	for _, c := range []struct {
		method, path, body string
		code, status       int
	}{
		{"POST", base, `{"name":"first"}`, 7502, 400}, {"POST", base, `{"name":"a/b"}`, 7400, 400}, {"POST", base, `{}`, 7400, 400}, {"POST", base, `{"name":"x","what":1}`, 7400, 400},
		{"POST", base, `{"name":"x","primary_location_hint":"mars"}`, 7400, 400}, {"POST", base, `{"name":"x","jurisdiction":"mars"}`, 7400, 400}, {"POST", base, `{`, 7400, 400},
		{"PATCH", one, `{"read_replication":{"mode":"x"}}`, 7400, 400}, {"PATCH", one, `{"read_replication":{}}`, 7400, 400}, {"GET", one + "?fields=secret", "", 7400, 400},
		{"GET", base + "/" + spec.NewUUID(), "", 7404, 404}, {"GET", base + "/none", "", 7404, 404}, {"DELETE", base + "/none", "", 7404, 404}, {"PATCH", base + "/none", "{}", 7404, 404},
		{"POST", base + "/none/query", `{"sql":"select 1"}`, 7404, 404}, {"POST", base + "/none/export", `{"output_format":"polling"}`, 7404, 404}, {"POST", base + "/none/import", `{"action":"poll"}`, 7404, 404},
		{"GET", base + "/none/time_travel/bookmark", "", 7404, 404}, {"POST", base + "/none/time_travel/restore?bookmark=x", "", 7404, 404}, {"GET", base + "?page=0", "", 7400, 400},
	} {
		if g := d.do(c.method, c.path, c.body); g.code() != c.code || g.Status != c.status || g.Success {
			t.Errorf("%s %s %.40s = %d %s, want %d and code %d", c.method, c.path, c.body, g.Status, g.Body, c.status, c.code)
		}
	}
	if g := d.ok("DELETE", one, ""); string(g.Result) != "null" {
		t.Errorf("deleted: %s", g.Body)
	}
	if g := d.do("POST", one+"/query", `{"sql":"select 1"}`); g.code() != 7404 {
		t.Errorf("query of a deleted database: %s", g.Body)
	}
	d.make(d.owner.AccountID, "first")
}

func TestQuotas(t *testing.T) {
	d := newDesk(t)
	limit := func(limits map[string]int64) {
		t.Helper()
		must(t, d.state.Update(t.Context(), spec.Actor{}, func(tx product.Tx) error {
			return tx.Put(&spec.Quotas{AccountID: d.owner.AccountID, Limits: limits})
		}))
	}
	limit(map[string]int64{"d1_databases": 1})
	path, id := d.make(d.owner.AccountID, "one")
	if g := d.do("POST", root(d.owner.AccountID), `{"name":"two"}`); g.code() != 7406 || !strings.Contains(g.Body, "d1_databases") {
		t.Errorf("a database over the quota: %s", g.Body)
	}
	d.sql(path, "CREATE TABLE t(v); INSERT INTO t VALUES (hex(zeroblob(100000)))")
	limit(map[string]int64{"d1_bytes": 50_000})
	if g := d.do("POST", path+"/query", `{"sql":"INSERT INTO t VALUES (1)"}`); g.code() != 7500 || !strings.Contains(g.Body, "d1_bytes") {
		t.Errorf("a write over the quota: %s", g.Body)
	}
	b := d.bind(d.owner.AccountID, id)
	if got := b.ask("INSERT INTO t VALUES (1)"); !strings.Contains(got, "d1_bytes") {
		t.Errorf("a write over the quota through the binding: %s", got)
	}
	if got := b.ask("SELECT count(*) FROM t"); got != `{"columns":["count(*)"],"rows":[[1]]}` {
		t.Errorf("a read over the quota: %s", got)
	}
	d.sql(path, "DELETE FROM t")
	b.ask("SELECT 1")
	if got := b.ask("INSERT INTO t VALUES (2)"); got != `{"columns":[],"rows":[]}` {
		t.Errorf("a write after the delete: %s", got)
	}
}

func TestQuery(t *testing.T) {
	d := newDesk(t)
	path, _ := d.make(d.owner.AccountID, "one")
	if got := d.sql(path, "CREATE TABLE t(id INTEGER PRIMARY KEY, v, b); INSERT INTO t VALUES (1, 'x', x'00ff'), (2, null, 1.5); SELECT * FROM t;"); got != `[] [] [{"id":1,"v":"x","b":[0,255]},{"id":2,"v":null,"b":1.5}]` {
		t.Errorf("several statements = %s", got)
	}
	if got := d.sql(path, "SELECT ? AS a, ? AS b, typeof(?) AS c, ? AS d, ? AS e", 1, "two", 3, nil, true); got != `[{"a":1,"b":"two","c":"real","d":null,"e":1}]` {
		t.Errorf("parameters = %s", got)
	}
	if got := d.sql(path, "SELECT hex(?) AS a", []int{1, 255}); got != `[{"a":"01FF"}]` {
		t.Errorf("bytes = %s", got)
	}
	g := d.ok("POST", path+"/raw", `{"sql":"SELECT 1 AS a, 2 AS a, 9223372036854775807 AS big, 1e400 AS inf"}`)
	if !strings.HasPrefix(string(g.Result), `[{"success":true,"results":{"columns":["a","a","big","inf"],"rows":[[1,2,9223372036854776000,null]]},"meta":{"served_by":"selvage"`) {
		t.Errorf("raw = %s", g.Body)
	}
	if got := d.sql(path, "SELECT 1 AS a, 2 AS a"); got != `[{"a":2}]` {
		t.Errorf("columns of one name = %s", got)
	}
	batch := d.ok("POST", path+"/query", `{"batch":[{"sql":"INSERT INTO t(v) VALUES (?) RETURNING id","params":["y"]},{"sql":"SELECT count(*) AS n FROM t"}]}`)
	var all []result
	batch.into(&all)
	if shown(all) != `[{"id":3}] [{"n":3}]` || all[0].Meta.Changes != 1 || all[0].Meta.LastRowID != 3 || !all[0].Meta.ChangedDB || all[0].Meta.Written == 0 || all[1].Meta.RowsRead == 0 || all[1].Meta.ChangedDB {
		t.Errorf("batch = %s", batch.Body)
	}
	for _, c := range []struct {
		body, says string
		code       int
	}{
		{`{"sql":"SELECT * FROM nope"}`, "no such table: nope", 7500}, {`{"sql":"SELEC 1"}`, `near \"SELEC\": syntax error at offset 0: SQLITE_ERROR`, 7500},
		{`{"sql":"INSERT INTO t VALUES (1,1,1)"}`, "UNIQUE constraint failed: t.id: SQLITE_CONSTRAINT", 7500},
		{`{"sql":"INSERT INTO t(v) VALUES ('lost'); SELECT * FROM nope"}`, "no such table", 7500},
		{`{"batch":[{"sql":"INSERT INTO t(v) VALUES ('lost')"},{"sql":"nonsense"}]}`, "syntax error", 7500},
		{`{"sql":"SELECT ?"}`, "Wrong number of parameter bindings", 7500}, {`{"sql":""}`, "No SQL statements detected", 7500}, {`{"sql":"-- nothing"}`, "No SQL statements", 7500},
		{`{"sql":"SELECT ?; SELECT ?","params":[1]}`, "2 statements", 7400}, {`{}`, "either sql", 7400}, {`{"sql":"SELECT 1","batch":[]}`, "either sql", 7400}, {`{"batch":[]}`, "no queries", 7400},
		{`{"batch":[{"params":[]}]}`, "needs sql", 7400}, {`{"sql":1}`, "must be a string", 7400}, {`{"sql":"SELECT ?","params":[{}]}`, "is an object", 7400}, {`{"sql":"SELECT 1","params":"x"}`, "list of values", 7400},
		{`{"sql":"SELECT 1","x":1}`, "no field x", 7400}, {`{"sql":"SELECT 1"`, "Malformed", 7400}, {`{"sql":"SELECT ` + strings.Repeat("?,", 100) + `?","params":[` + strings.Repeat("1,", 100) + `1]}`, "too many SQL variables", 7500},
		{`{"sql":"SELECT '` + strings.Repeat("x", 100_001) + `'"}`, "statement too long", 7500}, {`{"sql":"SELECT 1","params":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, "nested deeper", 7400},
		{`{"sql":"BEGIN"}`, "transaction", 7500}, {`{"sql":"ATTACH 'x' AS y"}`, "not authorized", 7500}, {`{"sql":"SELECT load_extension('x')"}`, "not authorized", 7500}, {`{"sql":"PRAGMA journal_mode=DELETE"}`, "not authorized", 7500},
	} {
		if g := d.do("POST", path+"/query", c.body); g.code() != c.code || !strings.Contains(g.Body, c.says) || g.Status != 400 {
			t.Errorf("%.80s = %d %.600s, want code %d and %q", c.body, g.Status, g.Body, c.code, c.says)
		}
	}
	if got := d.sql(path, "SELECT count(*) AS n FROM t WHERE v = 'lost'"); got != `[{"n":0}]` {
		t.Errorf("what was rolled back: %s", got)
	}
}

func TestTimeTravel(t *testing.T) {
	d := newDesk(t)
	path, _ := d.make(d.owner.AccountID, "one")
	d.sql(path, "CREATE TABLE t(v); INSERT INTO t VALUES ('before')")
	mark := d.ok("GET", path+"/time_travel/bookmark", "").at("bookmark")
	d.sql(path, "UPDATE t SET v = 'after'; CREATE TABLE more(v)")
	back := d.ok("POST", path+"/time_travel/restore?bookmark="+mark, "")
	if got := d.sql(path, "SELECT v FROM t"); got != `[{"v":"before"}]` {
		t.Errorf("after the restore: %s", got)
	}
	d.ok("POST", path+"/time_travel/restore?bookmark="+back.at("previous_bookmark"), "")
	if got := d.sql(path, "SELECT v FROM t"); got != `[{"v":"after"}]` {
		t.Errorf("after undoing the restore: %s", got)
	}
	other, _ := d.make(d.owner.AccountID, "two")
	for query, code := range map[string]int{
		"/time_travel/restore": 7400, "/time_travel/restore?bookmark=x": 7400, "/time_travel/restore?bookmark=" + mark + "&timestamp=2026-01-01T00:00:00Z": 7400, "/time_travel/restore?timestamp=yesterday": 7400,
		"/time_travel/restore?timestamp=2999-01-01T00:00:00Z": 7400, "/time_travel/restore?timestamp=2001-01-01T00:00:00Z": 7400,
	} {
		if g := d.do("POST", path+query, ""); g.code() != code {
			t.Errorf("%s: %s", query, g.Body)
		}
	}
	if g := d.do("POST", other+"/time_travel/restore?bookmark="+mark, ""); g.code() != 7400 || !strings.Contains(g.Body, "not one of this database") {
		t.Errorf("a bookmark of another database: %s", g.Body)
	}
}

func TestFigures(t *testing.T) {
	d := newDesk(t)
	path, id := d.make(d.owner.AccountID, "one")
	d.sql(path, "CREATE TABLE t(v)")
	for i := range 3 {
		d.sql(path, "INSERT INTO t VALUES (?)", i)
	}
	d.sql(path, "SELECT * FROM t")
	ask := func(query string) string {
		body, _ := json.Marshal(map[string]any{"query": query})
		return strings.TrimSpace(d.do("POST", "/graphql", string(body)).Body)
	}
	in := func(dataset string) string {
		return ask(fmt.Sprintf(`{ viewer { accounts(filter: {accountTag: %q}) { %s } } }`, d.owner.AccountID, dataset))
	}
	if got := in(`d1AnalyticsAdaptiveGroups(limit: 10, filter: {databaseId: "` + id + `"}) { sum { readQueries writeQueries rowsRead } dimensions { databaseId } }`); !strings.Contains(got, `{"dimensions":{"databaseId":"`+id+`"},"sum":{"readQueries":1,"rowsRead":`) || !strings.Contains(got, `"writeQueries":4`) {
		t.Errorf("figures: %s", got)
	}
	if got := in(`d1QueriesAdaptiveGroups(limit: 1, orderBy: [count_DESC]) { count sum { rowsReturned } dimensions { query } }`); !strings.Contains(got, `[{"count":3,"dimensions":{"query":"INSERT INTO t VALUES (?)"},"sum":{"rowsReturned":0}}]`) {
		t.Errorf("queries: %s", got)
	}
	if got := in(`d1QueriesAdaptiveGroups(filter: {databaseId: "other"}) { count }`); !strings.Contains(got, `"d1QueriesAdaptiveGroups":[]`) {
		t.Errorf("queries of another database: %s", got)
	}
	for dataset, says := range map[string]string{
		`d1QueriesAdaptiveGroups(filter: {color: "red"}) { count }`: "not known", `d1QueriesAdaptiveGroups(filter: {datetime_geq: "x"}) { count }`: "needs a time", `d1QueriesAdaptiveGroups(orderBy: [count]) { count }`: "ends neither",
	} {
		if got := in(dataset); !strings.Contains(got, says) {
			t.Errorf("%s: %s", dataset, got)
		}
	}
}
