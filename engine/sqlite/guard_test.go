package sqlite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"selvage/engine/sqlite"
	"selvage/foundation/fault"
)

// What strangers try. Each must be refused, and leave the database working.
func TestAttacksAreRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, sqlite.Options{Dir: dir})
	must(t, s, "CREATE TABLE t (x)")
	must(t, s, "INSERT INTO t VALUES (1)")
	for _, sql := range []string{
		"ATTACH '" + dir + "/x.db' AS x", "ATTACH ':memory:' AS x", "DETACH main", "VACUUM", "VACUUM INTO '" + dir + "/stolen'",
		"SELECT load_extension('/tmp/x.so')", "SELECT readfile('/etc/passwd')", "SELECT writefile('" + dir + "/w', 'x')", "SELECT edit('x')",
		"SELECT fts3_tokenizer('simple')", "SELECT fts3_tokenizer('simple', x'00')", "SELECT sqlite_version()", "SELECT sqlite_source_id()",
		"SELECT sqlite_compileoption_get(1)", "SELECT sqlite_offset(x) FROM t", "SELECT randomblob(1000000000)", "SELECT zeroblob(1000000000)",
		"SELECT hex(zeroblob(1900000))", "SELECT replace(hex(zeroblob(900000)), '0', '00000000')",
		"SELECT group_concat(zeroblob(1000000)) FROM (SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3)",
		"PRAGMA writable_schema=ON", "PRAGMA writable_schema=1", "PRAGMA journal_mode=DELETE", "PRAGMA journal_mode=OFF", "PRAGMA synchronous=OFF",
		"PRAGMA temp_store_directory='/etc'", "PRAGMA data_store_directory='/etc'", "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA wal_autocheckpoint=1",
		"PRAGMA max_page_count=4294967294", "PRAGMA page_size=512", "PRAGMA cache_size=-10000000", "PRAGMA mmap_size=1000000000", "PRAGMA database_list",
		"PRAGMA locking_mode=EXCLUSIVE", "PRAGMA trusted_schema=1", "PRAGMA hard_heap_limit=1", "PRAGMA soft_heap_limit=1", "PRAGMA threads=8",
		"PRAGMA temp_store=MEMORY", "PRAGMA schema_version=1", "PRAGMA user_version=1", "PRAGMA application_id=1", "PRAGMA incremental_vacuum",
		"PRAGMA auto_vacuum=1", "PRAGMA cell_size_check=0", "PRAGMA read_uncommitted=1", "PRAGMA query_only=1", "PRAGMA secure_delete=0",
		"PRAGMA integrity_check", "PRAGMA module_list", "PRAGMA function_list", "PRAGMA pragma_list", "PRAGMA compile_options", "PRAGMA busy_timeout=1",
		"PRAGMA encoding='UTF-16'", "PRAGMA journal_size_limit=1", "PRAGMA shrink_memory", "PRAGMA analysis_limit=1", "PRAGMA lock_status",
		"SELECT * FROM pragma_database_list", "SELECT * FROM pragma_writable_schema", "SELECT * FROM pragma_journal_mode('off')",
		"PRAGMA foreign_keys=nonsense", "PRAGMA table_info(_cf_KV)", "PRAGMA quick_check(_cf_KV)", "PRAGMA optimize('x')",
		"UPDATE sqlite_schema SET sql = 'x'", "DELETE FROM sqlite_master", "INSERT INTO sqlite_schema VALUES ('table','x','x',2,'CREATE TABLE x(y)')",
		"SELECT * FROM dbstat", "SELECT * FROM sqlite_dbpage", "SELECT * FROM sqlite_stmt", "SELECT * FROM bytecode('SELECT 1')",
		"CREATE VIRTUAL TABLE v USING dbstat(main)", "CREATE VIRTUAL TABLE v USING csv(filename='/etc/passwd')", "CREATE VIRTUAL TABLE v USING fts3(x)",
		"CREATE VIRTUAL TABLE v USING fts4(x)", "CREATE VIRTUAL TABLE v USING geopoly(x)", "CREATE VIRTUAL TABLE v USING zipfile('x')",
		"CREATE VIRTUAL TABLE _cf_v USING fts5(x)", "CREATE TABLE _cf_KV (x)", "CREATE TABLE _CF_x (x)", "CREATE INDEX _cf_i ON t (x)",
		"CREATE VIEW _cf_v AS SELECT 1", "CREATE TRIGGER _cf_t AFTER INSERT ON t BEGIN SELECT 1; END", "SELECT * FROM _cf_KV",
		"CREATE TEMP TABLE x (y)", "CREATE TEMPORARY VIEW x AS SELECT 1", "CREATE TEMP TRIGGER x AFTER INSERT ON t BEGIN SELECT 1; END", "CREATE TABLE temp.x (y)",
		"BEGIN", "BEGIN IMMEDIATE", "COMMIT", "END", "ROLLBACK", "SAVEPOINT a", "RELEASE a", "ROLLBACK TO a",
		"WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT load_extension('x') FROM c",
		"CREATE TRIGGER tr AFTER INSERT ON t BEGIN SELECT writefile('x','y'); END; INSERT INTO t VALUES (2)",
		"SELECT 1; SELECT 2", "", "-- nothing", ";", "SELECT ?", "SELECT", "SELECT 1 FROM", "\x00", "SELECT 1\x00; DROP TABLE t", "SELECT 'a",
		"SELECT " + strings.Repeat("1+", 200) + "1",
		"SELECT 1" + strings.Repeat(" UNION ALL SELECT 1", 5), "SELECT '" + strings.Repeat("x", 100_000) + "'",
		"SELECT max(1" + strings.Repeat(",1", 32) + ")", "SELECT 1" + strings.Repeat(",1", 100), "SELECT 1 WHERE 'x' LIKE '" + strings.Repeat("a", 51) + "'",
		"SELECT 1 WHERE 'x' GLOB '" + strings.Repeat("*", 51) + "'", "CREATE TABLE wide (c0" + columns(101) + ")",
	} {
		rows, _, err := do(t.Context(), s, sql)
		if err == nil {
			t.Errorf("%.100q was run: %v", sql, rows)
		} else if k := fault.KindOf(err); k != fault.Invalid && k != fault.TooMuch {
			t.Errorf("%.100q: %v is %v", sql, err, k)
		}
	}
	if got := fmt.Sprint(must(t, s, "SELECT x FROM t")); got != "[[1]]" {
		t.Fatalf("after the attacks: %s", got)
	}
	for _, stolen := range []string{"stolen", "x.db", "w"} {
		if _, err := os.Stat(filepath.Join(dir, stolen)); err == nil {
			t.Errorf("%s was written", stolen)
		}
	}
}

func columns(n int) string {
	var b strings.Builder
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, ", c%d", i)
	}
	return b.String()
}

// What D1's users do must work.
func TestWhatIsAllowed(t *testing.T) {
	s := open(t, sqlite.Options{})
	for _, sql := range []string{
		"CREATE TABLE t (id INTEGER PRIMARY KEY, x, j TEXT)", "CREATE TABLE IF NOT EXISTS child (t REFERENCES t (id))", "CREATE INDEX i ON t (x)",
		"INSERT INTO t (x, j) VALUES (1, json_object('a', json_array(1, 2)))", "SELECT j ->> '$.a[1]' FROM t", "SELECT value FROM t, json_each(t.j, '$.a')",
		"SELECT * FROM json_tree('{\"a\":1}')", "SELECT jsonb_extract(jsonb('[1]'), '$[0]')", "CREATE VIRTUAL TABLE words USING fts5(w, tokenize='porter')",
		"INSERT INTO words VALUES ('running fast')", "SELECT highlight(words, 0, '<', '>'), bm25(words) FROM words WHERE words MATCH 'run'",
		"SELECT snippet(words, 0, '', '', '', 5) FROM words('run')", "CREATE VIRTUAL TABLE vocab USING fts5vocab(words, 'row')", "SELECT * FROM vocab",
		"CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1)", "INSERT INTO boxes VALUES (1, 0, 2)", "SELECT id FROM boxes WHERE x0 < 1", "SELECT rtreecheck('boxes')",
		"PRAGMA table_list", "PRAGMA table_info(t)", "PRAGMA table_xinfo('t')", "PRAGMA index_list(t)", "PRAGMA index_info(i)", "PRAGMA foreign_key_list(child)",
		"PRAGMA foreign_key_check", "PRAGMA quick_check", "PRAGMA quick_check(t)", "PRAGMA optimize", "PRAGMA foreign_keys", "PRAGMA foreign_keys=OFF", "PRAGMA defer_foreign_keys=on",
		"PRAGMA case_sensitive_like=1", "SELECT * FROM pragma_table_info('t')", "SELECT name FROM sqlite_schema", "SELECT name FROM sqlite_master",
		"ALTER TABLE t ADD COLUMN more", "ALTER TABLE t RENAME COLUMN more TO less", "ALTER TABLE t DROP COLUMN less", "ALTER TABLE child RENAME TO kids", "DROP TABLE kids",
		"CREATE VIEW v AS SELECT x FROM t", "CREATE TRIGGER tr AFTER INSERT ON t BEGIN UPDATE t SET x = x + 1; END", "INSERT INTO t (x) VALUES (5) RETURNING *",
		"INSERT INTO t (id, x) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET x = excluded.x", "SELECT sum(x) OVER (ORDER BY id ROWS 1 PRECEDING), row_number() OVER () FROM t",
		"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 10) SELECT sum(n) FROM c", "SELECT datetime('now'), strftime('%s', 'now'), unixepoch()",
		"SELECT sin(1), pow(2, 3), random(), hex(randomblob(4)), format('%d', 1), iif(1, 2, 3)", "SELECT \"a string\"", "ANALYZE", "REINDEX", "EXPLAIN QUERY PLAN SELECT * FROM t",
		"EXPLAIN SELECT 1", "SELECT last_insert_rowid(), changes(), total_changes()", "DELETE FROM t", "DROP TABLE words", "SELECT 'x' LIKE 'X', 'x' GLOB '*'",
		"/* a comment */ SELECT 1 -- and another", "SELECT 1;", "VALUES (1), (2)", "REPLACE INTO t (id, x) VALUES (1, 1)",
	} {
		if _, _, err := do(t.Context(), s, sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	if got := fmt.Sprint(must(t, s, "SELECT 'x' LIKE 'X'")); got != "[[1]]" {
		t.Errorf("a PRAGMA outlived its run: 'x' LIKE 'X' is %s", got)
	}
}

func TestErrorsAreWorkerds(t *testing.T) {
	s := open(t, sqlite.Options{})
	must(t, s, "CREATE TABLE t (id INTEGER PRIMARY KEY, u UNIQUE, n NOT NULL DEFAULT 1, c CHECK (c < 5), f REFERENCES t (id))")
	must(t, s, "INSERT INTO t (id, u) VALUES (1, 1)")
	for sql, want := range map[string]string{
		"SELEC 1":                            `near "SELEC": syntax error at offset 0: SQLITE_ERROR`,
		"SELECT * FROM missing":              `no such table: missing: SQLITE_ERROR`,
		"SELECT missing FROM t":              `no such column: missing at offset 7: SQLITE_ERROR`,
		"INSERT INTO t (id) VALUES (1)":      `UNIQUE constraint failed: t.id: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_PRIMARYKEY)`,
		"INSERT INTO t (u) VALUES (1)":       `UNIQUE constraint failed: t.u: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_UNIQUE)`,
		"INSERT INTO t (n) VALUES (NULL)":    `NOT NULL constraint failed: t.n: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_NOTNULL)`,
		"INSERT INTO t (c) VALUES (9)":       `CHECK constraint failed: c < 5: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_CHECK)`,
		"INSERT INTO t (f) VALUES (9)":       `FOREIGN KEY constraint failed: SQLITE_CONSTRAINT (extended: SQLITE_CONSTRAINT_FOREIGNKEY)`,
		"INSERT INTO t (id) VALUES ('text')": `datatype mismatch: SQLITE_MISMATCH`,
		"ATTACH 'x' AS y":                    `not authorized: SQLITE_AUTH`,
		"SELECT sqlite_version()":            `not authorized to use function: sqlite_version at offset 7: SQLITE_ERROR`,
	} {
		_, _, err := do(t.Context(), s, sql)
		if got := fault.All(err); len(got) != 1 || got[0].Message != want {
			t.Errorf("%s:\n got %v\nwant %s", sql, err, want)
		}
	}
}

// A statement whose program has too many steps is its sender's fault, and passes for no lack of memory.
func TestLongPrograms(t *testing.T) {
	s := open(t, sqlite.Options{})
	must(t, s, "CREATE TABLE t (x)")
	for _, sql := range []string{"INSERT INTO t VALUES (1)" + strings.Repeat(",(1)", 20_000), "SELECT 1 WHERE 1 IN (1" + strings.Repeat(",1", 40_000) + ")"} {
		if _, _, err := do(t.Context(), s, sql); fault.KindOf(err) != fault.TooMuch || !strings.HasPrefix(err.Error(), "out of memory: SQLITE_NOMEM: the statement is too long") {
			t.Errorf("%.60s: %v", sql, err)
		}
	}
}

const endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"

// A statement that never ends is stopped, and meanwhile others are served, of the same database as well.
func TestSlowStatementsStopNobody(t *testing.T) {
	s := open(t, sqlite.Options{Limits: sqlite.Limits{Duration: 2 * time.Second}})
	must(t, s, "CREATE TABLE t (x)")
	if err := s.Create(t.Context(), "acme/two"); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := s.Run(t.Context(), "acme/two", sqlite.Request{Statements: []sqlite.Statement{{SQL: "CREATE TABLE e AS " + endless}}})
		ended <- err
	}()
	go func() {
		_, _, err := do(t.Context(), s, endless)
		ended <- err
	}()
	for i := range 20 {
		must(t, s, "INSERT INTO t VALUES (?)", i)
		must(t, s, "SELECT max(x) FROM t")
	}
	for range 2 {
		if err := <-ended; fault.KindOf(err) != fault.TooMuch || !strings.Contains(err.Error(), "exceeded timeout") {
			t.Errorf("an endless statement ended with %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _, err := do(ctx, s, endless)
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled statement ended with %v", err)
	}
	must(t, s, "INSERT INTO t VALUES (1)")
}

// A statement of an import ends, too, and the import with it.
func TestEndlessImport(t *testing.T) {
	s := open(t, sqlite.Options{Limits: sqlite.Limits{Duration: 20 * time.Millisecond}})
	_, err := s.Import(t.Context(), "acme/one", strings.NewReader("CREATE TABLE t (x); CREATE TABLE e AS "+endless+";"))
	if fault.KindOf(err) != fault.TooMuch || !strings.Contains(err.Error(), "exceeded timeout") {
		t.Errorf("an endless import ended with %v", err)
	}
	must(t, s, "CREATE TABLE t (x)")
}

// A statement cannot hold more memory than there is for it.
func TestMemoryIsBounded(t *testing.T) {
	s := open(t, sqlite.Options{Memory: 64 << 20})
	must(t, s, "CREATE TABLE t (x)")
	before := resident(t)
	wide := make([]string, 90)
	for i := range wide {
		args := make([]string, 30)
		for j := range args {
			args[j] = fmt.Sprintf("hex(zeroblob(%d))", 900_000+i*100+j)
		}
		wide[i] = "max(" + strings.Join(args, ",") + ")"
	}
	for _, sql := range []string{
		"SELECT " + strings.Join(wide, ","),
		"SELECT randomblob(1900000)" + strings.Repeat(", randomblob(1900000)", 99),
		"WITH RECURSIVE c(x) AS (SELECT randomblob(500000) UNION ALL SELECT randomblob(500000) FROM c LIMIT 200) SELECT group_concat(x, '') FROM c",
		"WITH RECURSIVE c(x) AS (SELECT randomblob(500000) UNION SELECT randomblob(500000) FROM c LIMIT 200) SELECT count(*) FROM c ORDER BY 1",
		"SELECT json_group_array(hex(zeroblob(10000))) FROM (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 1000) SELECT n FROM c)",
	} {
		_, _, err := do(t.Context(), s, sql)
		if k := fault.KindOf(err); err != nil && k != fault.Unavailable && k != fault.TooMuch {
			t.Errorf("%.60s: %v", sql, err)
		}
		if got := resident(t) - before; got > 400<<20 {
			t.Fatalf("%.60s: %d MiB more are resident", sql, got>>20)
		}
	}
	must(t, s, "INSERT INTO t VALUES (1)")
}

// A statement that holds much memory for long ends before others get none.
func TestMemoryIsLeftForOthers(t *testing.T) {
	s := open(t, sqlite.Options{Memory: 64 << 20})
	columns := make([]string, 30)
	for i := range columns { // 57 MB
		columns[i] = fmt.Sprintf("length(group_concat(CASE WHEN x < 100 THEN hex(zeroblob(%d)) END, ''))", 9400+i)
	}
	_, _, err := do(t.Context(), s, "SELECT "+strings.Join(columns, ",")+" FROM (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c)")
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "nearly all of the memory") {
		t.Errorf("a statement that holds much memory for long: %v", err)
	}
	must(t, s, "CREATE TABLE t (x)")
}

func TestBatchIsAllOrNothing(t *testing.T) {
	s := open(t, sqlite.Options{})
	must(t, s, "CREATE TABLE t (x UNIQUE)")
	insert := sqlite.Statement{SQL: "INSERT INTO t VALUES (?)"}
	var batch []sqlite.Statement
	for i := range 5 {
		insert.Args = []any{i}
		batch = append(batch, insert, sqlite.Statement{SQL: "SELECT max(x) FROM t"}, sqlite.Statement{SQL: "PRAGMA defer_foreign_keys=1"})
	}
	if _, err := s.Run(t.Context(), "acme/one", sqlite.Request{Statements: batch}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(must(t, s, "SELECT count(*) FROM t")); got != "[[5]]" {
		t.Fatalf("a batch of the same statement: %s", got)
	}
	must(t, s, "DELETE FROM t")
	for _, last := range []string{"INSERT INTO t VALUES (1)", "nonsense", "INSERT OR ROLLBACK INTO t VALUES (1)", "COMMIT", "SELECT ?"} {
		_, err := s.Run(t.Context(), "acme/one", sqlite.Request{Statements: []sqlite.Statement{
			{SQL: "INSERT INTO t VALUES (?)", Args: []any{1}}, {SQL: last}, {SQL: "INSERT INTO t VALUES (3)"}}})
		if err == nil {
			t.Errorf("a batch with %q went well", last)
		}
		if got := fmt.Sprint(must(t, s, "SELECT count(*) FROM t")); got != "[[0]]" {
			t.Fatalf("after a batch with %q: %s", last, got)
		}
	}
}

func TestLimitsOfSizes(t *testing.T) {
	s := open(t, sqlite.Options{Limits: sqlite.Limits{DatabaseBytes: 1 << 20, ResultBytes: 100_000}})
	must(t, s, "CREATE TABLE t (x)")
	var err error
	for range 100 {
		if _, _, err = do(t.Context(), s, "INSERT INTO t VALUES (randomblob(50000))"); err != nil {
			break
		}
	}
	if fault.KindOf(err) != fault.TooMuch || !strings.Contains(err.Error(), "maximum DB size") {
		t.Errorf("a database over its size: %v", err)
	}
	if _, _, err := do(t.Context(), s, "SELECT * FROM t"); fault.KindOf(err) != fault.TooMuch {
		t.Errorf("a result over its size: %v", err)
	}
	must(t, s, "DELETE FROM t")
	must(t, s, "INSERT INTO t VALUES (1)")
}
