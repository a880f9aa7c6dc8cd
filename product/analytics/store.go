package analytics

import (
	"strconv"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// dateTime is how times are kept, shown and compared: UTC, as ClickHouse's DateTime looks.
const dateTime = "2006-01-02 15:04:05"

// quote writes a name as an identifier.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func sqliteOwn(name string) bool { return strings.EqualFold(name[:7], "sqlite_") }

// createTable is the SQL that makes a dataset's table. Nothing is sampled here, so
// _sample_interval, by which queries weigh points, is 1.
func createTable(dataset string) string {
	var b strings.Builder
	b.WriteString("CREATE TABLE IF NOT EXISTS " + quote(dataset) + " (dataset TEXT, timestamp TEXT, index1 TEXT, _sample_interval INTEGER DEFAULT 1")
	for i := range columns {
		b.WriteString(", " + blobNames[i] + " TEXT")
	}
	for i := range columns {
		b.WriteString(", " + doubleNames[i] + " REAL")
	}
	b.WriteString(");\nCREATE INDEX IF NOT EXISTS " + quote(dataset+" by timestamp") + " ON " + quote(dataset) + " (timestamp);")
	return b.String()
}

func insertInto(dataset string) string {
	return "INSERT INTO " + quote(dataset) + " (dataset, timestamp, index1, " + strings.Join(blobNames[:], ", ") + ", " + strings.Join(doubleNames[:], ", ") +
		") VALUES (?, ?, ?" + strings.Repeat(", ?", 2*columns) + ")"
}

// tablesOf returns the names of the datasets that have points.
func tablesOf(c *sqlite.Conn) (names []string, err error) {
	err = sqlitex.ExecuteTransient(c, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name", &sqlitex.ExecOptions{
		ResultFunc: func(s *sqlite.Stmt) error {
			if name := s.ColumnText(0); len(name) < 7 || !sqliteOwn(name) {
				names = append(names, name)
			}
			return nil
		},
	})
	return names, err
}
