package pgsql_test

import (
	"slices"
	"strings"
	"testing"

	"selvage/product/hyperdrive/pgsql"
)

func TestReads(t *testing.T) {
	for sql, want := range map[string]string{
		"SELECT 1": "",
		"select a, b.c as x, * from t as b where a = $1 and b.c in (1,2,3) order by a desc nulls last limit 5 offset 2;":                "r:t",
		"SELECT lower(a) || 'x' FROM s.t LEFT JOIN u ON t.id = u.id JOIN v USING (id), w":                                               "f:lower r:t r:u r:v r:w",
		"SELECT count(*) FILTER (WHERE a > 1), sum(x) OVER (PARTITION BY y ORDER BY z ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM t": "f:count f:sum r:t",
		"WITH x AS (SELECT * FROM t), y(a) AS MATERIALIZED (SELECT 1) SELECT * FROM x, y":                                               "r:t",
		"WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 10) SELECT * FROM n":                                "",
		"SELECT CASE WHEN a IS NOT NULL THEN b ELSE c END, CAST(d AS numeric(10,2)), e::text[] FROM t":                                  "r:t",
		"SELECT EXTRACT(year FROM a), substring(b FROM 1 FOR 2), trim(BOTH 'x' FROM c), position('a' IN d) FROM t":                      "f:extract f:substring f:btrim f:position r:t",
		"SELECT * FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.id = t.id) AND a = ANY($1::int[])":                                       "r:t r:u",
		"SELECT a->'b'->>'c', d @> '{}'::jsonb, ARRAY[1,2], (SELECT max(x) FROM u) FROM t":                                              "f:max r:t r:u",
		"SELECT * FROM generate_series(1, 10) AS g(i) CROSS JOIN LATERAL (SELECT 1) x":                                                  "f:generate_series",
		`SELECT "Odd ""name""" FROM "Table" -- a comment` + "\n/* and /* another */ */":                                                 "r:Table",
		"(SELECT 1) UNION ALL (SELECT 2) ORDER BY 1":                                                                                    "",
		"VALUES (1, 'a'), (2, 'b')": "",
		"TABLE t":                   "r:t",
		"SELECT DISTINCT ON (a) a, $$dollar 'quoted'$$, E'es\\'caped', interval '1 day', date '2020-01-01' FROM t":           "r:t",
		"SELECT a BETWEEN 1 AND 2 AND NOT b NOT LIKE 'x%' ESCAPE '!' FROM t GROUP BY ROLLUP (a, b), (c) HAVING count(*) > 1": "f:count r:t",
		"SELECT string_agg(a, ',' ORDER BY b) FROM t FETCH FIRST 5 ROWS ONLY":                                                "f:string_agg r:t",
	} {
		r, ok := pgsql.Reads(sql)
		if !ok {
			t.Errorf("%s: not understood", sql)
			continue
		}
		var got []string
		for _, f := range r.Functions {
			got = append(got, "f:"+f)
		}
		for _, n := range r.Relations {
			got = append(got, "r:"+n)
		}
		expected := strings.Fields(want)
		slices.Sort(got)
		slices.Sort(expected)
		if !slices.Equal(got, expected) {
			t.Errorf("%s: %v, want %v", sql, got, expected)
		}
	}
}

// TestNotRemembered is about what must never be cached, however it is written.
func TestNotRemembered(t *testing.T) {
	for _, sql := range []string{
		"INSERT INTO t VALUES (1) RETURNING a", "UPDATE t SET a = 1", "DELETE FROM t", "MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE",
		"WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", "WITH x AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM x",
		"SELECT * FROM t FOR UPDATE", "SELECT * FROM t FOR NO KEY UPDATE OF t", "SELECT * FROM t FOR SHARE SKIP LOCKED", "SELECT * INTO u FROM t",
		"SELECT CURRENT_DATE", "SELECT current_timestamp(3)", "SELECT LOCALTIME", "SELECT user", "SELECT CURRENT_USER", "SELECT session_user", "SELECT current_schema",
		"SELECT 'now'::timestamp", "SELECT timestamp 'today'", "SELECT date ' YESTERDAY '", "SELECT 'foo'::regclass", "SELECT $1::regproc",
		"SELECT * FROM pg_stat_activity", "SELECT * FROM pg_catalog.pg_class", "SELECT * FROM information_schema.tables",
		"SELECT * FROM t TABLESAMPLE SYSTEM (10)", "SELECT 1; SELECT 2", "SELECT 1; DELETE FROM t", "EXPLAIN SELECT 1", "SHOW search_path",
		"SELECT", "", ";", "SELECT 'open", "SELECT /* open", `SELECT "open`, "SELECT $x$ open", "SELECT (1", "SELECT 1)", "FETCH 1 FROM c", "COPY t TO STDOUT",
		"SELECT U&'\\0041'", "SELECT a OPERATOR(pg_catalog.+) b FROM t", "BEGIN", "SELECT " + strings.Repeat("(", 1000) + "1" + strings.Repeat(")", 1000),
		"SELECT * FROM XMLTABLE('x' PASSING y COLUMNS a int)", "CALL p()", "DO $$BEGIN END$$", "SELECT json_arrayagg(x RETURNING text) FROM t",
	} {
		if r, ok := pgsql.Reads(sql); ok {
			t.Errorf("%s may be remembered: %+v", sql, r)
		}
	}
}

func TestClassify(t *testing.T) {
	for sql, check := range map[string]func(c pgsql.Class) bool{
		"SET search_path = a, b": func(c pgsql.Class) bool {
			return len(c.Sets) == 1 && c.Sets[0] == pgsql.Setting{"search_path", "SET search_path = a, b"}
		},
		"set session Time Zone 'UTC'; select 1": func(c pgsql.Class) bool {
			return len(c.Sets) == 1 && c.Sets[0].Name == "timezone" && c.Sets[0].SQL == "set session Time Zone 'UTC'"
		},
		"SET my.var TO 'x;y'; RESET my.var":          func(c pgsql.Class) bool { return len(c.Sets) == 2 && c.Sets[0].Name == "my.var" && c.Sets[1].SQL == "" },
		"SET x TO DEFAULT":                           func(c pgsql.Class) bool { return len(c.Sets) == 1 && c.Sets[0].SQL == "" },
		"SET ROLE other":                             func(c pgsql.Class) bool { return len(c.Sets) == 1 && c.Sets[0].Name == "role" },
		"SET LOCAL x = 1":                            func(c pgsql.Class) bool { return len(c.Sets) == 0 && c.Refused == "" },
		"RESET ALL":                                  func(c pgsql.Class) bool { return c.ResetAll },
		"/* x */ LISTEN y":                           func(c pgsql.Class) bool { return c.Refused != "" },
		"SELECT 1; LISTEN y":                         func(c pgsql.Class) bool { return c.Refused != "" },
		"NOTIFY x":                                   func(c pgsql.Class) bool { return c.Refused == "" },
		"SELECT 'LISTEN y'":                          func(c pgsql.Class) bool { return c.Refused == "" && c.Select },
		"SELECT pg_try_advisory_lock(1)":             func(c pgsql.Class) bool { return c.Refused != "" },
		"SELECT pg_advisory_xact_lock(1)":            func(c pgsql.Class) bool { return c.Refused == "" },
		"SELECT set_config('a', 'b', false)":         func(c pgsql.Class) bool { return c.Dirty },
		"CREATE TEMP TABLE x (a int)":                func(c pgsql.Class) bool { return c.Refused != "" },
		"CREATE TEMP TABLE x (a int) ON COMMIT DROP": func(c pgsql.Class) bool { return c.Refused == "" },
		"CREATE TABLE temp (a int)":                  func(c pgsql.Class) bool { return c.Refused == "" },
		"PREPARE TRANSACTION 'x'":                    func(c pgsql.Class) bool { return c.Refused == "" },
		"PREPARE x AS SELECT 1":                      func(c pgsql.Class) bool { return c.Refused != "" },
		"DEALLOCATE ALL":                             func(c pgsql.Class) bool { return c.Forgets },
		`DEALLOCATE "S_1"`:                           func(c pgsql.Class) bool { return c.Drops == "S_1" },
		"DISCARD ALL":                                func(c pgsql.Class) bool { return c.Forgets && c.ResetAll },
		"BEGIN; INSERT INTO t VALUES (1); COMMIT":    func(c pgsql.Class) bool { return !c.Dirty && c.Refused == "" && !c.Select },
	} {
		if c := pgsql.Classify(sql); !check(c) {
			t.Errorf("Classify(%q) = %+v", sql, c)
		}
	}
}

// FuzzSQL: no text panics, and what may be remembered is no statement that writes.
func FuzzSQL(f *testing.F) {
	for _, s := range []string{"SELECT 1", "SET a = b; RESET ALL", "WITH x AS (SELECT 1) TABLE x", "SELECT $$a$$, E'\\''", "SELECT * FROM t WHERE a IN (SELECT 1)", "DEALLOCATE", "CREATE TEMP", "SET", "DECLARE"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		pgsql.Classify(sql)
		if _, ok := pgsql.Reads(sql); ok && !pgsql.Classify(sql).Select {
			t.Errorf("%q may be remembered and is no query", sql)
		}
	})
}
