package sqlite_test

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"selvage/engine/sqlite"
	"selvage/foundation/fault"
)

const varied = `
CREATE TABLE "odd ""name" (id INTEGER PRIMARY KEY AUTOINCREMENT, "a col" TEXT, g AS (length("a col")) STORED);
INSERT INTO "odd ""name" ("a col") VALUES ('it''s; "fine"'), ('two
lines and \n in one'), ('cr' || char(13) || 'lf' || char(10)), (CAST(X'610062' AS TEXT)), ('Zürich 🙂'), (NULL);
CREATE TABLE plain (i, r, b BLOB, t, PRIMARY KEY (i)) WITHOUT ROWID;
INSERT INTO plain VALUES (9223372036854775807, 1.0, X'00FF', 'x'), (-1, 0.1, zeroblob(3), ''), (2, 1e308, NULL, 'y'), (3, -9e999, 'text', 1);
CREATE TABLE log (line TEXT);
CREATE TRIGGER noted AFTER INSERT ON plain BEGIN INSERT INTO log VALUES ('in; ' || new.i); SELECT CASE WHEN 1 THEN 2 END; END;
CREATE INDEX by_r ON plain (r) WHERE r > 0;
CREATE VIEW seen AS SELECT * FROM log;
`

func load(t *testing.T, s *sqlite.Store, name, sql string) {
	t.Helper()
	if _, err := s.Import(t.Context(), name, strings.NewReader(sql)); err != nil {
		t.Fatal(err)
	}
}

func dumpOf(t *testing.T, s *sqlite.Store, name string, o sqlite.DumpOptions) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Dump(t.Context(), name, &b, o); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A dump read by us and by the sqlite3 shell is the same database again.
func TestDumpIsReadBack(t *testing.T) {
	s := open(t, sqlite.Options{})
	load(t, s, "acme/one", varied)
	dump := dumpOf(t, s, "acme/one", sqlite.DumpOptions{})
	if err := s.Create(t.Context(), "acme/two"); err != nil {
		t.Fatal(err)
	}
	load(t, s, "acme/two", dump)
	if again := dumpOf(t, s, "acme/two", sqlite.DumpOptions{}); again != dump {
		t.Errorf("the dump of the dump differs:\n%s\n---\n%s", dump, again)
	}
	shell, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Fatal("there is no sqlite3 shell: run make test-setup")
	}
	file := filepath.Join(t.TempDir(), "x.db")
	cmd := exec.Command(shell, file)
	cmd.Stdin = strings.NewReader(dump)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("the shell: %v %s", err, out)
	}
	out, err := exec.Command(shell, file, `SELECT hex("a col"), g FROM "odd ""name"; SELECT i, typeof(r), r = -9e999, r > 1, quote(b), typeof(t) FROM plain; SELECT count(*) FROM sqlite_schema; SELECT seq FROM sqlite_sequence`).Output()
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, sql := range []string{`SELECT hex("a col"), g FROM "odd ""name"`, `SELECT i, typeof(r), r = -9e999, r > 1, quote(b), typeof(t) FROM plain`, `SELECT count(*) FROM sqlite_schema`, `SELECT seq FROM sqlite_sequence`} {
		for _, row := range must(t, s, sql) {
			for i, v := range row {
				if i > 0 {
					want.WriteByte('|')
				}
				if v != nil {
					fmt.Fprint(&want, v)
				}
			}
			want.WriteByte('\n')
		}
	}
	if string(out) != want.String() {
		t.Errorf("the shell has\n%s\nwant\n%s", out, want.String())
	}
}

func TestDumpChooses(t *testing.T) {
	s := open(t, sqlite.Options{})
	load(t, s, "acme/one", "CREATE TABLE a (x); INSERT INTO a VALUES (1); CREATE TABLE b (y); INSERT INTO b VALUES (2);")
	for _, c := range []struct {
		o    sqlite.DumpOptions
		want string
	}{
		{sqlite.DumpOptions{NoSchema: true}, "INSERT INTO \"a\" (\"x\") VALUES(1);\nINSERT INTO \"b\" (\"y\") VALUES(2);\n"},
		{sqlite.DumpOptions{NoData: true, Tables: []string{"b"}}, "CREATE TABLE b (y);\n"},
	} {
		if got := dumpOf(t, s, "acme/one", c.o); got != "PRAGMA defer_foreign_keys=TRUE;\n"+c.want {
			t.Errorf("Dump(%+v) = %q", c.o, got)
		}
	}
	must(t, s, "CREATE VIRTUAL TABLE words USING fts5(w)")
	if err := s.Dump(t.Context(), "acme/one", &bytes.Buffer{}, sqlite.DumpOptions{}); err == nil || !strings.Contains(err.Error(), "Virtual Tables") {
		t.Errorf("Dump with fts5: %v", err)
	}
}

func TestImportIsAllOrNothing(t *testing.T) {
	s := open(t, sqlite.Options{})
	for _, sql := range []string{
		"CREATE TABLE a (x); INSERT INTO a VALUES (1); INSERT INTO nothing VALUES (1);",
		"CREATE TABLE a (x); COMMIT; CREATE TABLE b (x);",
		"CREATE TABLE a (x); INSERT INTO a VALUES ('not closed",
		"CREATE TABLE a (x UNIQUE); INSERT OR ROLLBACK INTO a VALUES (1), (1);",
	} {
		if _, err := s.Import(t.Context(), "acme/one", strings.NewReader(sql)); fault.KindOf(err) != fault.Invalid {
			t.Errorf("Import(%q) = %v", sql, err)
		}
		if got := must(t, s, "SELECT name FROM sqlite_schema"); len(got) != 0 {
			t.Errorf("after %q: %v", sql, got)
		}
	}
}

func TestSplit(t *testing.T) {
	for _, c := range []struct {
		sql  string
		want []string
	}{
		{"", nil},
		{" ; ;\n-- only; a comment\n/* and; another */", nil},
		{"SELECT 1", []string{"SELECT 1"}},
		{"SELECT ';'; SELECT \";\", `;`, [;] ;", []string{"SELECT ';';", "SELECT \";\", `;`, [;] ;"}},
		{"SELECT 1 -- a; b\n; SELECT /* ; */ 2", []string{"SELECT 1 -- a; b\n;", "SELECT /* ; */ 2"}},
		{"CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; SELECT CASE 1 WHEN 1 THEN 2 END; END; SELECT 2;",
			[]string{"CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; SELECT CASE 1 WHEN 1 THEN 2 END; END;", "SELECT 2;"}},
		{"CREATE TABLE trigger_log (x); SELECT 1", []string{"CREATE TABLE trigger_log (x);", "SELECT 1"}},
		{"SELECT 'it''s; ok'; SELECT 1", []string{"SELECT 'it''s; ok';", "SELECT 1"}},
	} {
		if got := sqlite.Split(c.sql); !reflect.DeepEqual(got, c.want) {
			t.Errorf("Split(%q) = %q, want %q", c.sql, got, c.want)
		}
	}
}

func TestBackupLoadsAndCopies(t *testing.T) {
	s := open(t, sqlite.Options{})
	load(t, s, "acme/one", varied)
	var b bytes.Buffer
	if err := s.Backup(t.Context(), "acme/one", &b); err != nil {
		t.Fatal(err)
	}
	if err := s.Load(t.Context(), "acme/two", bytes.NewReader(b.Bytes())); err != nil {
		t.Fatal(err)
	}
	if err := s.Copy(t.Context(), "acme/two", "acme/three"); err != nil {
		t.Fatal(err)
	}
	want := dumpOf(t, s, "acme/one", sqlite.DumpOptions{})
	start, err := s.Bookmark(t.Context(), "acme/three")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Run(t.Context(), "acme/three", sqlite.Request{Statements: []sqlite.Statement{{SQL: "DELETE FROM plain"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Restore(t.Context(), "acme/three", start); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"acme/two", "acme/three"} {
		if got := dumpOf(t, s, name, sqlite.DumpOptions{}); got != want {
			t.Errorf("%s differs", name)
		}
		if wrong, err := s.Check(t.Context(), name); err != nil || wrong != nil {
			t.Errorf("Check(%s) = %v, %v", name, wrong, err)
		}
	}
	if err := s.Load(t.Context(), "acme/four", bytes.NewReader(b.Bytes()[:5000])); err == nil || s.Exists("acme/four") {
		t.Errorf("half a backup: %v", err)
	}
	if err := s.Rename(t.Context(), "acme/two", "acme/five"); err != nil {
		t.Fatal(err)
	}
	if got := dumpOf(t, s, "acme/five", sqlite.DumpOptions{}); got != want {
		t.Error("renamed: differs")
	}
	if err := s.Delete(t.Context(), "acme/five"); err != nil || s.Exists("acme/five") {
		t.Error("delete:", err)
	}
	if _, err := s.Stat(t.Context(), "acme/five"); fault.KindOf(err) != fault.NotFound {
		t.Errorf("Stat of what was deleted: %v", err)
	}
}
