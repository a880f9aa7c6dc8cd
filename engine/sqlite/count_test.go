package sqlite_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"selvage/engine/sqlite"
)

// counted is what workerd (miniflare 4.20260426's D1, SQLite with Cloudflare's counters patched in) said of a statement.
type counted struct {
	SQL     string `json:"sql"`
	Error   string `json:"error"`
	Read    int64  `json:"read"`
	Written int64  `json:"written"`
	Changes int64  `json:"changes"`
	Last    int64  `json:"last"`
	Size    int64  `json:"size"`
	Changed bool   `json:"changed"`
}

// The counts are workerd's: changes and last_row_id always (FTS5 counts its own tables differently in each version of
// SQLite), rows read and written for as many statements as said here; -v tells the others. changed_db is true for a new
// view, too, which workerd does not notice.
func TestCountsAreWorkerds(t *testing.T) {
	text, err := os.ReadFile("testdata/counts.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []counted
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	s := open(t, sqlite.Options{})
	reads, writes := 0, 0
	for _, c := range all {
		_, a, err := do(t.Context(), s, c.SQL)
		if (err != nil) != (c.Error != "") {
			t.Errorf("%s: %v, workerd says %q", c.SQL, err, c.Error)
			continue
		}
		if err != nil {
			continue
		}
		m := a.Metas[0]
		if (m.Changes != c.Changes && !strings.Contains(c.SQL, "words")) || m.LastRowID != c.Last || (c.Changed && !m.ChangedDB) {
			t.Errorf("%s: changes %d, last row %d, changed %v; workerd says %d, %d, %v", c.SQL, m.Changes, m.LastRowID, m.ChangedDB, c.Changes, c.Last, c.Changed)
		}
		if m.RowsRead == c.Read {
			reads++
		} else {
			t.Logf("%s: read %d, workerd says %d", c.SQL, m.RowsRead, c.Read)
		}
		if m.RowsWritten == c.Written {
			writes++
		} else {
			t.Logf("%s: wrote %d, workerd says %d", c.SQL, m.RowsWritten, c.Written)
		}
	}
	if reads < 77 || writes < 88 {
		t.Error("fewer counts are workerd's than there were")
	}
	t.Logf("of %d statements the same: rows read of %d, rows written of %d", len(all), reads, writes)
}
