package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestD1Wrangler has two versions of wrangler do to databases what people do with them.
func TestD1Wrangler(t *testing.T) {
	n := startNode(t)
	for i, w := range wranglers {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			testD1(t, newProject(t, n, w.folder, "d1", fmt.Sprintf("d1-%d", i)))
		})
	}
}

func testD1(t *testing.T, p *project) {
	base := "/accounts/" + p.n.AccountID + "/d1/database/"
	if out := p.wrangler(t, "d1", "create", p.name, "--location", "weur"); !strings.Contains(out, "Successfully created DB '"+p.name+"' in region WEUR") {
		t.Errorf("wrangler d1 create:\n%s", out)
	}
	p.refused(t, []string{"A database with that name already exists"}, "d1", "create", p.name)
	id := p.n.call(t, "GET", base+p.name, nil)["uuid"].(string)
	p.rewrite(t, "wrangler.jsonc", "ID_HERE", id)
	var list []map[string]any
	p.json(t, &list, "d1", "list", "--json")
	if !strings.Contains(fmt.Sprint(list), id) {
		t.Errorf("wrangler d1 list lacks %s: %v", id, list)
	}

	if out := p.wrangler(t, "d1", "migrations", "list", p.name, "--remote"); !strings.Contains(out, "0001_people.sql") {
		t.Errorf("wrangler d1 migrations list:\n%s", out)
	}
	p.wrangler(t, "d1", "migrations", "apply", p.name, "--remote")
	if out := p.wrangler(t, "d1", "migrations", "list", p.name, "--remote"); !strings.Contains(out, "No migrations to apply") {
		t.Errorf("after apply, wrangler d1 migrations list:\n%s", out)
	}
	p.write(t, "migrations/0003_bad.sql", "INSERT INTO people (name) VALUES ('lost');\nCREATE TABLE people (x);")
	p.refused(t, []string{"table people already exists"}, "d1", "migrations", "apply", p.name, "--remote")
	p.write(t, "migrations/0003_bad.sql", "INSERT INTO people (name) VALUES ('cyd');")
	p.wrangler(t, "d1", "migrations", "apply", p.name, "--remote")
	p.count(t, 3)

	p.deployed(t, `[{"n":3,"last":"cyd"}]`)
	p.refused(t, []string{"no such table: nope: SQLITE_ERROR", "7500"}, "d1", "execute", p.name, "--remote", "--command", "SELECT * FROM nope")
	p.refused(t, []string{"who; are you"}, "d1", "execute", p.name, "--remote", "--command", "INSERT INTO people (name) VALUES ('')")
	p.large(t)
	p.refused(t, []string{"no such table: nowhere"}, "d1", "execute", p.name, "--remote", "--file", "broken.sql", "-y")
	p.count(t, 20_003)

	p.exported(t)
	p.travelled(t)
	info := map[string]any{}
	p.json(t, &info, "d1", "info", p.name, "--json")
	if info["num_tables"] != 2.0 || info["running_in_region"] != "WEUR" || info["read_queries_24h"].(float64) < 3 || info["rows_written_24h"].(float64) < 20_000 {
		t.Errorf("wrangler d1 info = %v", info)
	}
	var insights []map[string]any
	p.json(t, &insights, "d1", "insights", p.name, "--sort-by", "count", "--json")
	if len(insights) == 0 || insights[0]["query"] == "" || insights[0]["numberOfTimesRun"].(float64) < 1 {
		t.Errorf("wrangler d1 insights = %v", insights)
	}
	p.wrangler(t, "d1", "delete", p.name, "-y")
	if status, _ := p.n.try(t, "GET", base+id, nil); status != 404 {
		t.Errorf("the deleted database answers %d", status)
	}
	if got := p.get(t, "/"); got.status != 500 {
		t.Errorf("the Worker of the deleted database answers %d %q", got.status, got.body)
	}
}

func (p *project) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// count asks how many people there are.
func (p *project) count(t *testing.T, want float64) {
	t.Helper()
	var got []struct {
		Results []map[string]any `json:"results"`
	}
	p.json(t, &got, "d1", "execute", p.name, "--remote", "--json", "--command", "SELECT count(*) AS n FROM people")
	if len(got) != 1 || len(got[0].Results) != 1 || got[0].Results[0]["n"] != want {
		t.Errorf("there are %v people, want %v", got, want)
	}
}

func (p *project) deployed(t *testing.T, want string) {
	t.Helper()
	p.wrangler(t, "deploy")
	p.expect(t, "/", want)
}

// large runs a file that no query could hold.
func (p *project) large(t *testing.T) {
	t.Helper()
	var b strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&b, "INSERT INTO people (name, note) VALUES ('person %d', 'it''s; a %s note');\n", i, strings.Repeat("long ", 40))
	}
	p.write(t, "large.sql", b.String())
	if out := p.wrangler(t, "d1", "execute", p.name, "--remote", "--file", "large.sql", "-y"); !strings.Contains(out, "Executed 20000 queries") {
		t.Errorf("wrangler d1 execute --file:\n%.2000s", out)
	}
	p.count(t, 20_003)
}

// exported exports the database, runs that on an empty one, and exports it again.
func (p *project) exported(t *testing.T) {
	t.Helper()
	p.wrangler(t, "d1", "export", p.name, "--remote", "-y", "--output", "first.sql")
	p.wrangler(t, "d1", "create", p.name+"-copy")
	p.wrangler(t, "d1", "execute", p.name+"-copy", "--remote", "--file", "first.sql", "-y")
	p.wrangler(t, "d1", "export", p.name+"-copy", "--remote", "-y", "--output", "second.sql")
	first, err := os.ReadFile(filepath.Join(p.dir, "first.sql"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(filepath.Join(p.dir, "second.sql"))
	if err != nil || string(first) != string(second) || strings.Count(string(first), "INSERT INTO") < 20_000 {
		t.Errorf("an export of %d bytes became one of %d: %v", len(first), len(second), err)
	}
	p.wrangler(t, "d1", "export", p.name, "--remote", "-y", "--output", "schema.sql", "--no-data", "--table", "people")
	if schema, err := os.ReadFile(filepath.Join(p.dir, "schema.sql")); err != nil || !strings.Contains(string(schema), "CREATE TABLE people") || strings.Contains(string(schema), "ann") {
		t.Errorf("the schema alone: %s %v", schema, err)
	}
}

// travelled deletes everything and goes back.
func (p *project) travelled(t *testing.T) {
	t.Helper()
	var at struct {
		Bookmark string `json:"bookmark"`
	}
	p.json(t, &at, "d1", "time-travel", "info", p.name, "--json")
	p.wrangler(t, "d1", "execute", p.name, "--remote", "--command", "DELETE FROM people")
	p.count(t, 0)
	var back struct {
		Bookmark string `json:"bookmark"`
		Previous string `json:"previous_bookmark"`
	}
	p.json(t, &back, "d1", "time-travel", "restore", p.name, "--bookmark", at.Bookmark, "--json")
	p.count(t, 20_003)
	p.json(t, &back, "d1", "time-travel", "restore", p.name, "--bookmark", back.Previous, "--json")
	p.count(t, 0)
	p.json(t, &back, "d1", "time-travel", "restore", p.name, "--bookmark", at.Bookmark, "--json")
}
