package sqlite_test

import (
	"testing"
	"time"

	"selvage/engine/sqlite"
	"selvage/foundation/fault"
)

// FuzzRun runs what anybody may send: it ends, with rows or with an error that has a kind, and the database works on.
func FuzzRun(f *testing.F) {
	for _, sql := range []string{
		"SELECT 1", "DELETE FROM t WHERE n = 1 RETURNING * ORDER BY n LIMIT 1", "UPDATE OR IGNORE t SET v = 'x' WHERE n > 1 LIMIT 2 OFFSET 1;", "CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END",
		"WITH x AS (SELECT 1) DELETE FROM t LIMIT 1 -- LIMIT", "SELECT '", "PRAGMA table_list", "EXPLAIN QUERY PLAN SELECT * FROM t", "SELECT ?1, ?5", "/* ( */ UPDATE t SET v = [LIMIT 1", "CREATE VIRTUAL TABLE s USING fts5(a)",
	} {
		f.Add(sql)
	}
	s := open(f, sqlite.Options{Memory: 64 << 20, Limits: sqlite.Limits{Duration: 10 * time.Second, ResultBytes: 1 << 20}})
	f.Fuzz(func(t *testing.T, sql string) {
		must(t, s, "CREATE TABLE IF NOT EXISTS alive (n)")
		for _, one := range sqlite.Split(sql) {
			if _, _, err := do(t.Context(), s, one); err != nil && fault.KindOf(err) == fault.Internal {
				t.Errorf("%q: %v", one, err)
			}
		}
		must(t, s, "DELETE FROM alive")
	})
}
