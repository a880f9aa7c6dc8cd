package sqlite_test

import (
	"fmt"
	"strings"
	"testing"

	"selvage/engine/sqlite"
)

// TestLimitedWrites deletes and updates no more rows than LIMIT says.
func TestLimitedWrites(t *testing.T) {
	for _, tt := range []struct {
		sql  string
		args []any
		rows string // that RETURNING gives
		left string // the table afterwards
	}{
		{"DELETE FROM t LIMIT 2", nil, "[]", "[[3 c] [4 d] [5 e]]"},
		{"delete from t where n > 1 returning * limit 1", nil, "[[2 b]]", "[[1 a] [3 c] [4 d] [5 e]]"},
		{"DELETE FROM t WHERE n > ? ORDER BY n DESC LIMIT ? OFFSET ?", []any{1, 2, 1}, "[]", "[[1 a] [2 b] [5 e]]"},
		{"DELETE FROM t AS u WHERE u.v IN (SELECT v FROM t LIMIT 3) AND u.v <> 'limit 9' -- LIMIT 9\nLIMIT 2;", nil, "[]", "[[3 c] [4 d] [5 e]]"},
		{"DELETE FROM main.\"t\" WHERE v IS NOT DISTINCT FROM 'c' LIMIT 5", nil, "[]", "[[1 a] [2 b] [4 d] [5 e]]"},
		{"WITH x(m) AS (SELECT 3) DELETE FROM t WHERE n >= (SELECT m FROM x) LIMIT 1", nil, "[]", "[[1 a] [2 b] [4 d] [5 e]]"},
		{"UPDATE t SET v = ? || v WHERE n > ? RETURNING n ORDER BY n DESC LIMIT ?", []any{"x", 1, 2}, "[[4] [5]]", "[[1 a] [2 b] [3 c] [4 xd] [5 xe]]"},
		{"UPDATE OR IGNORE t SET n = 1 LIMIT 3", nil, "[]", "[[1 a] [2 b] [3 c] [4 d] [5 e]]"},
	} {
		s := open(t, sqlite.Options{})
		must(t, s, "CREATE TABLE t (n INTEGER PRIMARY KEY, v TEXT)")
		must(t, s, "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e')")
		if got := fmt.Sprint(must(t, s, tt.sql, tt.args...)); got != tt.rows {
			t.Errorf("%s returns %s, want %s", tt.sql, got, tt.rows)
		}
		if got := fmt.Sprint(must(t, s, "SELECT * FROM t")); got != tt.left {
			t.Errorf("%s leaves %s, want %s", tt.sql, got, tt.left)
		}
	}
}

// What cannot be limited keeps SQLite's own words, and changes nothing.
func TestLimitedWritesRefused(t *testing.T) {
	s := open(t, sqlite.Options{})
	must(t, s, "CREATE TABLE t (n INTEGER PRIMARY KEY, v TEXT)")
	must(t, s, "CREATE TABLE w (n INTEGER PRIMARY KEY, v TEXT) WITHOUT ROWID")
	must(t, s, "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
	for _, sql := range []string{
		"DELETE FROM w LIMIT 1", "UPDATE t SET v = w.v FROM w WHERE w.n = t.n LIMIT 1", "DELETE FROM t RETURNING ? LIMIT 1", "DELETE FROM t LIMIT 1 ORDER BY n",
		"DELETE FROM t ORDER BY n", "DELETE t LIMIT 1", "UPDATE t LIMIT 1", "DELETE FROM t WHERE LIMIT 1", "DELETE FROM t LIMIT", "DELETE FROM t) LIMIT 1",
		"DELETE FROM t WHERE n = 1) OR (1 LIMIT 1",
	} {
		args := make([]any, strings.Count(sql, "?"))
		if _, _, err := do(t.Context(), s, sql, args...); err == nil || !strings.Contains(err.Error(), "SQLITE_ERROR") {
			t.Errorf("%s: %v", sql, err)
		}
	}
	if got := fmt.Sprint(must(t, s, "SELECT * FROM t")); got != "[[1 a] [2 b]]" {
		t.Errorf("left are %s", got)
	}
}
