package cli_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const databaseID = "0f0e0d0c-0b0a-4908-8706-050403020100"

// d1Answers is a part of the API of D1.
var d1Answers = map[string]string{
	"GET /accounts/A/d1/database":                             `[{"uuid":"` + databaseID + `","name":"orders","created_at":"2026-01-31T12:00:00Z"}]`,
	"POST /accounts/A/d1/database":                            `{"uuid":"` + databaseID + `","name":"orders"}`,
	"GET /accounts/A/d1/database/orders":                      `{"uuid":"` + databaseID + `","name":"orders","num_tables":2,"file_size":12288,"running_in_region":"WEUR"}`,
	"POST /accounts/A/d1/database/orders/raw":                 `[{"results":{"columns":["id","name"],"rows":[[1,"a\nb"],[2,null]]},"success":true,"meta":{"duration":0.5,"changes":1,"rows_read":2,"rows_written":3}}]`,
	"DELETE /accounts/A/d1/database/" + databaseID:            `null`,
	"GET /accounts/A/d1/database/orders/time_travel/bookmark": `{"bookmark":"00000000-00000001-00000000-ab"}`,
	"POST /accounts/A/d1/database/orders/time_travel/restore": `{"bookmark":"b2","previous_bookmark":"b1","message":"ok"}`,
}

func TestD1(t *testing.T) {
	a := newAPI(t, d1Answers)
	for _, c := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"d1", "list"}, 0, []string{"NAME", "orders", databaseID}},
		{[]string{"d1", "create", "orders", "--location", "weur"}, 0, []string{"Made orders", `"database_id": "` + databaseID + `"`}},
		{[]string{"d1", "info", "orders"}, 0, []string{"tables   2", "WEUR"}},
		{[]string{"d1", "execute", "orders", "--command", "SELECT * FROM t"}, 0, []string{"id", "a b", "NULL", "2 rows", "1 row changed"}},
		{[]string{"d1", "execute", "orders", "--command", "SELECT ?", "--param", "x", "--json"}, 0, []string{`"rows_read": 2`}},
		{[]string{"d1", "time-travel", "info", "orders"}, 0, []string{"00000000-00000001-00000000-ab"}},
		{[]string{"d1", "time-travel", "restore", "orders", "--bookmark", "b2", "--yes"}, 0, []string{"at bookmark b2", "restore the bookmark b1"}},
		{[]string{"d1", "delete", "orders", "--yes"}, 0, []string{"Deleted orders"}},
		{[]string{"d1", "delete", "orders"}, 1, []string{"2 tables", "--yes"}},
		{[]string{"d1", "execute", "orders"}, 2, []string{"either --command SQL or --file PATH"}},
		{[]string{"d1", "time-travel", "restore", "orders", "--yes"}, 2, []string{"either --timestamp"}},
		{[]string{"d1", "export", "orders"}, 2, []string{"--output PATH"}},
		{[]string{"d1", "info", "nothing"}, 1, []string{"No such thing"}},
	} {
		code, out, errors := a.run(t.Context(), c.args...)
		for _, want := range c.want {
			if !strings.Contains(out+errors, want) {
				t.Errorf("%v printed no %q:\n%s%s", c.args, want, out, errors)
			}
		}
		if code != c.code {
			t.Errorf("%v ended with %d, want %d: %s", c.args, code, c.code, errors)
		}
	}
}

// TestD1Transfers exports into a file, and imports one.
func TestD1Transfers(t *testing.T) {
	var uploaded string
	files := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = w.Write([]byte("SELECT 1;"))
			return
		}
		body := make([]byte, r.ContentLength)
		_, _ = r.Body.Read(body)
		uploaded = string(body)
	}))
	defer files.Close()
	a := newAPI(t, map[string]string{
		"POST /accounts/A/d1/database/orders/export": `{"success":true,"status":"complete","at_bookmark":"b","messages":[],"result":{"filename":"x.sql","signed_url":"` + files.URL + `/x"}}`,
		"POST /accounts/A/d1/database/orders/import": `{"success":true,"status":"complete","at_bookmark":"b","messages":[],"filename":"x.sql","upload_url":"` + files.URL + `/y","result":{"final_bookmark":"b2","num_queries":7,"meta":{"duration":1,"rows_written":9,"size_after":4096}}}`,
	})
	file := filepath.Join(t.TempDir(), "x.sql")
	if code, _, errors := a.run(t.Context(), "d1", "export", "orders", "--output", file, "--no-data", "--table", "t"); code != 0 || !strings.Contains(errors, "Wrote 9") {
		t.Errorf("d1 export: %d %s", code, errors)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "SELECT 1;" {
		t.Errorf("the export is %q, %v", data, err)
	}
	if code, out, errors := a.run(t.Context(), "d1", "import", "orders", file); code != 0 || !strings.Contains(out, "Ran 7 statements") || uploaded != "SELECT 1;" {
		t.Errorf("d1 import: %d %s%s; uploaded %q", code, out, errors, uploaded)
	}
}
