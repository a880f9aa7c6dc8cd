package node_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// d1Script asks two databases: /slow one that takes long, /fast another, /add writes and says what it
// wrote, /count reads.
const d1Script = `export default { async fetch(request, env) {
	const { pathname, searchParams } = new URL(request.url);
	try {
		switch (pathname) {
		case "/setup":
			await env.FAST.exec("CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, v)");
			return new Response("ready");
		case "/slow":
			return Response.json(await env.SLOW.prepare("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 200000) SELECT count(*) AS n FROM n").first());
		case "/fast":
			return Response.json(await env.FAST.prepare("SELECT count(*) AS n FROM t").first());
		case "/add":
			await env.FAST.prepare("INSERT INTO t VALUES (?, ?)").bind(Number(searchParams.get("id")), "VERSION").run();
			return new Response("added"); // by VERSION
		}
		return new Response("what?", { status: 404 });
	} catch (e) {
		return new Response(e.message, { status: 500 });
	}
} }`

// TestD1Slow has one database work for seconds while another, asked by the same Worker, answers; then the
// Worker is deployed again and again, and finds what it wrote.
func TestD1Slow(t *testing.T) {
	t.Parallel()
	p := up(t, t.TempDir())
	var slow, fast struct{ UUID string }
	account := "/accounts/" + p.AccountID
	if err := p.call("POST", account+"/d1/database", `{"name":"slow"}`, &slow); err != nil {
		t.Fatal(err)
	}
	if err := p.call("POST", account+"/d1/database", `{"name":"fast"}`, &fast); err != nil {
		t.Fatal(err)
	}
	bindings := fmt.Sprintf(`"bindings":[{"type":"d1","name":"SLOW","id":%q},{"type":"d1","name":"FAST","database_id":%q}]`, slow.UUID, fast.UUID)
	s := p.deploy("asker", script{source: d1Script, meta: bindings})
	s.expect("/setup", 200, "ready")
	var slowly sync.WaitGroup
	ended := make(chan struct{})
	slowly.Go(func() {
		defer close(ended)
		if status, body, err := s.ask("/slow"); err != nil || status != 200 || body != `{"n":200000}` {
			t.Errorf("the slow query = %d %s %v", status, body, err)
		}
	})
	added, answered := 0, 0
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		select {
		case <-ended:
			deadline = time.Now()
		default:
		}
		added++
		s.expect(fmt.Sprintf("/add?id=%d", added), 200, "added")
		s.expect("/fast", 200, fmt.Sprintf(`{"n":%d}`, added))
		answered++
	}
	slowly.Wait()
	for version := range 3 {
		p.deploy("asker", script{source: strings.Replace(d1Script, "VERSION", fmt.Sprint("version ", version), 1), meta: bindings})
		added++
		s.expect(fmt.Sprintf("/add?id=%d", added), 200, "added")
	}
	if answered < 5 {
		t.Errorf("the fast database answered %d times while the slow one worked", answered)
	}
	var rows []struct {
		Results []map[string]any `json:"results"`
	}
	if err := p.call("POST", account+"/d1/database/fast/query", `{"sql":"SELECT count(*) AS n FROM t"}`, &rows); err != nil || fmt.Sprint(rows[0].Results[0]["n"]) != fmt.Sprint(added) {
		t.Errorf("of %d rows the database has %v, %v", added, rows, err)
	}
	if err := p.upload("thief", d1Script, `"bindings":[{"type":"d1","name":"FAST","id":"`+strings.Repeat("0", 36)+`"}]`); err == nil || !strings.Contains(err.Error(), "valid id") {
		t.Errorf("a binding to no database = %v", err)
	}
	if err := p.call("DELETE", account+"/d1/database/fast", "", nil); err != nil {
		t.Fatal(err)
	}
	s.expect("/fast", 500, "D1_ERROR: The database "+fast.UUID+" could not be found")
	var shown json.RawMessage
	if err := p.call("GET", account+"/workers/scripts/asker/settings", "", &shown); err != nil || !strings.Contains(string(shown), fast.UUID) {
		t.Errorf("the settings do not show the binding: %s %v", shown, err)
	}
}
