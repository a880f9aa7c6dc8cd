package d1_test

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"selvage/spec"
)

// progress is what exports and imports answer.
type progress struct {
	Success  bool     `json:"success"`
	Type     string   `json:"type"`
	Bookmark string   `json:"at_bookmark"`
	Status   string   `json:"status"`
	Messages []string `json:"messages"`
	Error    string   `json:"error"`
	Filename string   `json:"filename"`
	URL      string   `json:"upload_url"`
	Result   struct {
		Filename string `json:"filename"`
		URL      string `json:"signed_url"`
		Bookmark string `json:"final_bookmark"`
		Queries  int    `json:"num_queries"`
		Meta     struct {
			Changes int64 `json:"changes"`
			Written int64 `json:"rows_written"`
			Size    int64 `json:"size_after"`
		} `json:"meta"`
	} `json:"result"`
}

// export exports a database as wrangler does, and returns what is in the file.
func (d *desk) export(path, options string) string {
	d.t.Helper()
	var p progress
	d.ok("POST", path+"/export", `{"output_format":"polling","dump_options":`+options+`}`).into(&p)
	for p.Status == "active" {
		mark := p.Bookmark
		p = progress{}
		d.ok("POST", path+"/export", `{"output_format":"polling","dump_options":`+options+`,"current_bookmark":"`+mark+`"}`).into(&p)
	}
	if p.Status != "complete" || !p.Success || p.Type != "export" || !strings.HasSuffix(p.Result.Filename, ".sql") {
		d.t.Fatalf("export: %+v", p)
	}
	return d.fetch(p.Result.URL)
}

func (d *desk) fetch(address string) string {
	d.t.Helper()
	u, err := url.Parse(address)
	must(d.t, err)
	g := d.call("GET", strings.TrimPrefix(u.Path, "/client/v4"), nil, "Authorization", "")
	if g.Status != 200 {
		d.t.Fatalf("GET %s = %d %s", address, g.Status, g.Body)
	}
	return g.Body
}

func sumOf(text string) string {
	sum := md5.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

// load imports SQL as wrangler does and returns the end of it.
func (d *desk) load(path, text string) progress {
	d.t.Helper()
	var p progress
	etag := sumOf(text)
	d.ok("POST", path+"/import", `{"action":"init","etag":"`+etag+`"}`).into(&p)
	u, err := url.Parse(p.URL)
	must(d.t, err)
	up := d.call("PUT", strings.TrimPrefix(u.Path, "/client/v4"), strings.NewReader(text), "Authorization", "")
	if up.Status != 200 || up.Header.Get("ETag") != `"`+etag+`"` {
		d.t.Fatalf("upload: %d %v %s", up.Status, up.Header, up.Body)
	}
	name := p.Filename
	p = progress{}
	d.ok("POST", path+"/import", `{"action":"ingest","etag":"`+etag+`","filename":"`+name+`"}`).into(&p)
	for p.Status == "active" {
		mark := p.Bookmark
		p = progress{}
		d.ok("POST", path+"/import", `{"action":"poll","current_bookmark":"`+mark+`"}`).into(&p)
	}
	return p
}

func TestExportThenImport(t *testing.T) {
	d := newDesk(t)
	one, _ := d.make(d.owner.AccountID, "one")
	two, _ := d.make(d.owner.AccountID, "two")
	d.sql(one, `CREATE TABLE people(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT, score REAL, raw BLOB, UNIQUE(name));
		CREATE TABLE "odd ""name"" table"("a b" INTEGER, c);
		CREATE INDEX by_score ON people(score);
		CREATE VIEW best AS SELECT * FROM people WHERE score > 1;
		CREATE TRIGGER grows AFTER INSERT ON people BEGIN UPDATE people SET score = 1 WHERE new.score IS NULL; END;`)
	for i := range 500 {
		d.sql(one, `INSERT INTO people(name, score, raw) VALUES (?, ?, ?)`, fmt.Sprintf("it's %d\nline; -- \"x\" ü", i), float64(i)/3, []int{i % 256, 0, 255})
	}
	d.sql(one, `INSERT INTO "odd ""name"" table" VALUES (9007199254740993, NULL)`)
	text := d.export(one, `{}`)
	done := d.load(two, text)
	if done.Status != "complete" || done.Result.Queries < 507 || len(done.Result.Bookmark) != 59 || done.Result.Meta.Size == 0 {
		t.Fatalf("import: %+v", done)
	}
	if again := d.export(two, `{}`); again != text {
		t.Error("what was imported is exported otherwise")
	}
	if got := d.sql(two, `SELECT count(*) AS n, sum(score) AS s, max(length(raw)) AS l FROM people`); got != d.sql(one, `SELECT count(*) AS n, sum(score) AS s, max(length(raw)) AS l FROM people`) {
		t.Errorf("the copy has %s", got)
	}
	if got := d.export(one, `{"no_data":true}`); strings.Contains(got, "INSERT INTO") || !strings.Contains(got, "CREATE TRIGGER grows") {
		t.Errorf("without data: %s", got)
	}
	if got := d.export(one, `{"no_schema":true,"tables":["people"]}`); strings.Contains(got, "CREATE") || strings.Contains(got, "odd") || strings.Count(got, "INSERT INTO") != 500 {
		t.Errorf("one table without schema: %.500s", got)
	}
	bad := d.load(two, "INSERT INTO people(name) VALUES ('lost');\nINSERT INTO nope VALUES (1);")
	if bad.Status != "error" || !strings.Contains(bad.Error, "no such table") {
		t.Errorf("an import that fails: %+v", bad)
	}
	if again := d.export(two, `{}`); again != text {
		t.Error("an import that failed left something")
	}
}

func TestTransfersRefuse(t *testing.T) {
	d := newDesk(t)
	path, _ := d.make(d.owner.AccountID, "one")
	other, _ := d.make(d.other, "one")
	for _, c := range []struct {
		to, body, says string
	}{
		{"/export", `{"output_format":"file"}`, "polling"}, {"/export", `{}`, "polling"},
		{"/import", `{}`, "init, ingest or poll"}, {"/import", `{"action":"init"}`, "MD5"}, {"/import", `{"action":"init","etag":"../x"}`, "MD5"}, {"/import", `{"action":"ingest","etag":"` + sumOf("x") + `","filename":"x"}`, "has not been uploaded"},
	} {
		if g := d.do("POST", path+c.to, c.body); g.code() != 7400 || !strings.Contains(g.Body, c.says) {
			t.Errorf("%s %s = %s, want %q", c.to, c.body, g.Body, c.says)
		}
	}
	var p progress
	d.ok("POST", path+"/import", `{"action":"poll","current_bookmark":"x"}`).into(&p)
	if p.Success || p.Error != "Not currently importing anything." {
		t.Errorf("a poll of nothing: %+v", p)
	}
	d.ok("POST", path+"/import", `{"action":"init","etag":"`+sumOf("SELECT 1")+`"}`).into(&p)
	u, err := url.Parse(p.URL)
	must(t, err)
	to := strings.TrimPrefix(u.Path, "/client/v4")
	if g := d.call("PUT", to, strings.NewReader("SELECT 2")); g.code() != 7400 || !strings.Contains(g.Body, "MD5") {
		t.Errorf("another file than was announced: %s", g.Body)
	}
	if g := d.call("PUT", to+"0", strings.NewReader("SELECT 1")); g.Status != 404 {
		t.Errorf("another token: %d %s", g.Status, g.Body)
	}
	if g := d.call("GET", "/selvage/d1/exports/"+to[strings.LastIndex(to, "/")+1:], nil); g.Status != 404 {
		t.Errorf("the upload's token at exports: %d %s", g.Status, g.Body)
	}
	if g := d.call("PUT", to, strings.NewReader("SELECT 1")); g.Status != 200 {
		t.Errorf("the right file after the wrong one: %d %s", g.Status, g.Body)
	}
	// Another database, and another account's, know nothing of the file.
	if g := d.do("POST", other+"/import", `{"action":"ingest","etag":"`+sumOf("SELECT 1")+`","filename":"`+p.Filename+`"}`); g.Success {
		t.Errorf("another database runs the file: %s", g.Body)
	}
	// Who asks for a place of a file that is here gets no other: it runs.
	var now progress
	d.ok("POST", path+"/import", `{"action":"init","etag":"`+sumOf("SELECT 1")+`"}`).into(&now)
	if now.URL != "" || now.Status != "complete" && now.Status != "active" {
		t.Errorf("init of a file that is here: %+v", now)
	}
}

// TestManyExports exports more often in an hour than exports are kept: the oldest make room.
func TestManyExports(t *testing.T) {
	d := newDesk(t)
	path, _ := d.make(d.owner.AccountID, "one")
	d.sql(path, "CREATE TABLE t (x)")
	for i := range 40 {
		d.sql(path, "INSERT INTO t VALUES (?)", i)
		if text := d.export(path, "{}"); strings.Count(text, "INSERT INTO") != i+1 {
			t.Fatalf("export %d: %s", i, text)
		}
	}
}

// TestImportsHoldNobodyUp has one account import what takes long, more than runs at once: another's export ends meanwhile.
func TestImportsHoldNobodyUp(t *testing.T) {
	d := newDesk(t)
	mine, _ := d.make(d.owner.AccountID, "mine")
	var marks, paths []string
	for i := range 6 {
		path, _ := d.make(d.other, fmt.Sprint("theirs-", i))
		text := fmt.Sprintf("CREATE TABLE t%d AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) SELECT max(i) FROM n;", i)
		var p progress
		d.ok("POST", path+"/import", `{"action":"init","etag":"`+sumOf(text)+`"}`).into(&p)
		u, err := url.Parse(p.URL)
		must(t, err)
		if g := d.call("PUT", strings.TrimPrefix(u.Path, "/client/v4"), strings.NewReader(text)); g.Status != 200 {
			t.Fatal(g.Body)
		}
		d.ok("POST", path+"/import", `{"action":"ingest","etag":"`+sumOf(text)+`"}`).into(&p)
		marks, paths = append(marks, p.Bookmark), append(paths, path)
	}
	d.export(mine, "{}")
	for i, mark := range marks {
		var p progress
		if d.ok("POST", paths[i]+"/import", `{"action":"poll","current_bookmark":"`+mark+`"}`).into(&p); p.Status != "active" {
			t.Errorf("an endless import had ended when another account's export had: %+v", p)
		}
	}
}

// TestTenants has two accounts try all ways to each other's databases.
func TestTenants(t *testing.T) {
	d := newDesk(t)
	mine, id := d.make(d.owner.AccountID, "mine")
	d.sql(mine, "CREATE TABLE secret(v); INSERT INTO secret VALUES ('treasure')")
	d.make(d.other, "theirs")
	before := d.export(mine, "{}")
	mark := d.ok("GET", mine+"/time_travel/bookmark", "").at("bookmark")
	for _, name := range []string{id, "mine", strings.ToUpper(id), d.owner.AccountID + "%2F" + id, "..%2F" + d.owner.AccountID + "%2F" + id, "theirs%2F..%2F..%2F" + d.owner.AccountID + "%2F" + id, spec.NewUUID()} {
		at := root(d.other) + "/" + name
		for _, c := range [][3]string{
			{"GET", "", ""}, {"GET", "?fields=uuid,name", ""}, {"PATCH", "", `{"read_replication":{"mode":"auto"}}`}, {"PUT", "", `{}`}, {"DELETE", "", ""},
			{"POST", "/query", `{"sql":"SELECT * FROM secret"}`}, {"POST", "/raw", `{"sql":"DELETE FROM secret"}`}, {"POST", "/query", `{"batch":[{"sql":"DROP TABLE secret"}]}`},
			{"POST", "/export", `{"output_format":"polling"}`}, {"POST", "/export", `{"output_format":"polling","current_bookmark":"` + mark + `"}`},
			{"POST", "/import", `{"action":"init","etag":"` + sumOf("x") + `"}`}, {"POST", "/import", `{"action":"ingest","etag":"x","filename":"x"}`}, {"POST", "/import", `{"action":"poll","current_bookmark":"` + mark + `"}`},
			{"GET", "/time_travel/bookmark", ""}, {"POST", "/time_travel/restore?bookmark=" + mark, ""}, {"POST", "/time_travel/restore?timestamp=2020-01-01T00:00:00Z", ""},
		} {
			if g := d.do(c[0], at+c[1], c[2]); g.Success || g.Status != 404 || strings.Contains(g.Body, "treasure") {
				t.Errorf("%s %s%s of another account = %d %s", c[0], name, c[1], g.Status, g.Body)
			}
		}
		b := d.bind(d.other, name)
		for _, sql := range []string{"SELECT * FROM secret", "DROP TABLE secret", "SELECT 1"} {
			if got := b.ask(sql); !strings.Contains(got, "could not be found") {
				t.Errorf("a binding to %s of another account answers %s", name, got)
			}
		}
	}
	if g := d.ok("GET", root(d.other), ""); strings.Contains(g.Body, id) || strings.Contains(g.Body, "mine") {
		t.Errorf("another account's list: %s", g.Body)
	}
	if after := d.export(mine, "{}"); after != before {
		t.Errorf("another account changed the database: %s", after)
	}
}
