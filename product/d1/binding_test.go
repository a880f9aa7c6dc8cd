package d1_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"selvage/engine/sqlite"
	"selvage/spec"
)

func TestBinding(t *testing.T) {
	d := newDesk(t)
	_, id := d.make(d.owner.AccountID, "one")
	b := d.bind(d.owner.AccountID, id)
	mark, text := b.send("/execute?resultsFormat=NONE", `[{"sql":"CREATE TABLE t(id INTEGER PRIMARY KEY, v)","params":[]},{"sql":"INSERT INTO t VALUES (1,?)","params":["ü"]}]`)
	if len(mark) != 59 || results(t, text) != "[] []" {
		t.Errorf("batch = %s %s", mark, text)
	}
	later, _ := b.send("/execute?resultsFormat=NONE", `{"sql":"INSERT INTO t VALUES (2,null)"}`)
	if later <= mark {
		t.Errorf("bookmarks do not grow: %s, then %s", mark, later)
	}
	if got := b.ask("SELECT * FROM t"); got != `{"columns":["id","v"],"rows":[[1,"ü"],[2,null]]}` {
		t.Errorf("rows and columns = %s", got)
	}
	for format, want := range map[string]string{"?resultsFormat=ARRAY_OF_OBJECTS": `[{"id":1,"v":"ü"},{"id":2,"v":null}]`, "?resultsFormat=NONE": `[{"id":1,"v":"ü"},{"id":2,"v":null}]`, "": `[{"id":1,"v":"ü"},{"id":2,"v":null}]`} {
		if _, text := b.send("/query"+format, `{"sql":"SELECT * FROM t"}`); results(t, text) != want {
			t.Errorf("%s = %s", format, text)
		}
	}
	if _, text := b.send("/query?resultsFormat=ROWS_AND_COLUMNS", `[{"sql":"SELECT 1 AS a; SELECT ? AS b","params":[7]},{"sql":"-- nothing"},{"sql":"SELECT 3 AS c"}]`); results(t, text) != `{"columns":["b"],"rows":[[7]]} {"columns":["c"],"rows":[[3]]}` {
		t.Errorf("several statements in one = %s", text)
	}
	if _, text := b.send("/query?resultsFormat=ROWS_AND_COLUMNS", `[{"sql":"SELECT 1 AS a"},{"sql":"SELECT last_insert_rowid() AS b"}]`); results(t, text) != `{"columns":["a"],"rows":[[1]]} {"columns":["b"],"rows":[[2]]}` {
		t.Errorf("a batch that is run once more on the writer = %s", text)
	}
	if _, text := b.send("/execute", `[`+strings.TrimSuffix(strings.Repeat(`{"sql":"INSERT INTO t(v) VALUES (?)","params":[1]},`, 50), ",")+`]`); strings.Count(results(t, text), "[]") != 50 {
		t.Errorf("a batch that repeats a statement = %s", text)
	}
	for session, fails := range map[string]bool{"first-primary": false, "first-unconstrained": false, mark: false, later: false, "garbage": true, strings.Repeat("f", 59): true} {
		_, text := b.send("/query", `{"sql":"SELECT 1"}`, "x-cf-d1-session-commit-token", session)
		if got := strings.HasPrefix(text, `{"success":false`); got != fails {
			t.Errorf("session %s = %s", session, text)
		}
	}
	for sql, want := range map[string]string{
		"SELECT * FROM nope": "no such table: nope: SQLITE_ERROR", "selec 1": `near "selec": syntax error at offset 0: SQLITE_ERROR`, "select (": "incomplete input: SQLITE_ERROR", "": "No SQL statements detected.",
		"INSERT INTO t VALUES (1,1)": "UNIQUE constraint failed: t.id: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_PRIMARYKEY)", "SELECT ?": "Wrong number of parameter bindings for SQL query.",
	} {
		if got := b.ask(sql); got != want && !strings.HasPrefix(got, want) {
			t.Errorf("%q = %s, want %s", sql, got, want)
		}
	}
	for _, body := range []string{"", "{", "[]", "null", `{"sql":5}`, `{"params":[]}`, `[[]]`, `{"sql":"SELECT ?","params":[{}]}`, `{"sql":"x"` + strings.Repeat(" ", 100) + `}x`} {
		if _, text := b.send("/query", body); !strings.HasPrefix(text, `{"success":false,"error":"`) {
			t.Errorf("%q is answered %s", body, text)
		}
	}
	d.ok("DELETE", root(d.owner.AccountID)+"/"+id, "")
	if got := b.ask("SELECT 1"); !strings.Contains(got, "could not be found") {
		t.Errorf("a deleted database = %s", got)
	}
}

func TestBindingCheck(t *testing.T) {
	d := newDesk(t)
	_, id := d.make(d.owner.AccountID, "one")
	check := d.d1.Bindings()[0].Check
	for extra, ok := range map[string]bool{`{"id":"` + id + `"}`: true, `{"database_id":"` + id + `"}`: true, `{"id":"` + spec.NewUUID() + `"}`: false, `{}`: false, ``: false, `{"id":7}`: false, `{"id":"../x"}`: false} {
		if err := check(t.Context(), d.owner.AccountID, &spec.WorkerBinding{Name: "DB", Type: "d1", Extra: json.RawMessage(extra)}); (err == nil) != ok {
			t.Errorf("Check(%s) = %v", extra, err)
		}
	}
	if err := check(t.Context(), d.other, &spec.WorkerBinding{Name: "DB", Type: "d1", Extra: json.RawMessage(`{"id":"` + id + `"}`)}); err == nil {
		t.Error("another account may bind to the database")
	}
}

// TestLargeResults reads more than an answer may have, and much that it may.
func TestLargeResults(t *testing.T) {
	d := newDeskWith(t, sqlite.Limits{Duration: 10 * time.Minute}) // the race detector's pace
	path, id := d.make(d.owner.AccountID, "one")
	b := d.bind(d.owner.AccountID, id)
	const million = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 1000000) SELECT "
	_, text := b.send("/query?resultsFormat=ROWS_AND_COLUMNS", `{"sql":"`+million+`i FROM n"}`)
	var all []result
	must(t, json.Unmarshal([]byte(text), &all))
	if got := strings.Count(string(all[0].Results), ","); got != 1_000_000 {
		t.Errorf("a million rows came as %d", got)
	}
	if got := b.ask(million + "hex(zeroblob(10000)) FROM n"); !strings.Contains(got, "larger than") {
		t.Errorf("20 GB of rows are answered %.200s", got)
	}
	if g := d.do("POST", path+"/query", `{"sql":"`+million+`hex(zeroblob(10000)) AS x FROM n"}`); g.code() != 7500 || !strings.Contains(g.Body, "larger than") {
		t.Errorf("20 GB of rows are answered %.200s", g.Body)
	}
}

// TestSlowQuery interrupts what never ends while another database answers.
func TestSlowQuery(t *testing.T) {
	const endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT count(*) FROM n"
	d := newDeskWith(t, sqlite.Limits{Duration: 2 * time.Second})
	path, slow := d.make(d.owner.AccountID, "slow")
	_, fast := d.make(d.owner.AccountID, "fast")
	ended := make(chan string, 1)
	b := d.bind(d.owner.AccountID, slow)
	go func() {
		ended <- b.ask(endless)
	}()
	other := d.bind(d.owner.AccountID, fast)
	answered := 0
	for {
		select {
		case got := <-ended:
			if !strings.Contains(got, "exceeded timeout") {
				t.Errorf("a query without an end = %s", got)
			}
			if answered < 10 {
				t.Errorf("the other database answered %d queries meanwhile", answered)
			}
			if g := d.do("POST", path+"/query", `{"sql":"`+endless+`"}`); g.Status != 400 || g.code() != 7429 {
				t.Errorf("a query without an end by the API = %d %s", g.Status, g.Body)
			}
			return
		default:
		}
		if got := other.ask("SELECT 1"); got != `{"columns":["1"],"rows":[[1]]}` {
			t.Fatalf("the other database answers %s", got)
		}
		answered++
	}
}

func TestRelease(t *testing.T) {
	d := newDesk(t)
	path, id := d.make(d.owner.AccountID, "one")
	d.sql(path, "CREATE TABLE t(v); INSERT INTO t VALUES (1)")
	b := d.bind(d.owner.AccountID, id)
	d.d1.Release()
	if got := b.ask("SELECT * FROM t"); !strings.Contains(got, "handing over") {
		t.Errorf("while it is handed over = %s", got)
	}
	if g := d.do("POST", path+"/query", `{"sql":"SELECT 1"}`); g.Status != 503 {
		t.Errorf("while it is handed over = %s", g.Body)
	}
	d.d1.Reclaim()
	if got := b.ask("SELECT * FROM t"); got != `{"columns":["v"],"rows":[[1]]}` {
		t.Errorf("after it was taken back = %s", got)
	}
	before := d.d1
	before.Release()
	d.start(sqlite.Limits{}) // a successor
	if got := d.sql(path, "SELECT * FROM t"); got != `[{"v":1}]` {
		t.Errorf("the successor reads %s", got)
	}
}

func BenchmarkFirst(b *testing.B) {
	d := newDesk(b)
	path, id := d.make(d.owner.AccountID, "one")
	d.sql(path, "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)")
	for i := range 100 {
		d.sql(path, "INSERT INTO t VALUES (?, ?)", i, fmt.Sprint("name ", i))
	}
	c := d.bind(d.owner.AccountID, id)
	body := `{"sql":"SELECT * FROM t WHERE id = ?","params":[42]}`
	b.ReportAllocs()
	for b.Loop() {
		c.send("/query?resultsFormat=ROWS_AND_COLUMNS", body)
	}
}

func BenchmarkRun(b *testing.B) {
	d := newDesk(b)
	path, id := d.make(d.owner.AccountID, "one")
	d.sql(path, "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)")
	c := d.bind(d.owner.AccountID, id)
	body := `{"sql":"INSERT INTO t(name) VALUES (?)","params":["a name"]}`
	b.ReportAllocs()
	for b.Loop() {
		c.send("/execute?resultsFormat=NONE", body)
	}
}
