package clients

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cloudflare/cloudflare-go/v6"
	"github.com/cloudflare/cloudflare-go/v6/d1"
)

// TestD1CloudflareGo walks through a database's life with Cloudflare's Go SDK.
func TestD1CloudflareGo(t *testing.T) {
	n := startNode(t)
	c, ctx, account := sdk(n), t.Context(), cloudflare.F(n.AccountID)
	made, err := c.D1.Database.New(ctx, d1.DatabaseNewParams{AccountID: account, Name: cloudflare.F("sdk"), PrimaryLocationHint: cloudflare.F(d1.DatabaseNewParamsPrimaryLocationHintEnam)})
	if err != nil || made.Name != "sdk" || made.Version != "production" {
		t.Fatalf("New() = %+v, %v", made, err)
	}
	if _, err := c.D1.Database.New(ctx, d1.DatabaseNewParams{AccountID: account, Name: cloudflare.F("sdk")}); err == nil || !strings.Contains(err.Error(), "7502") {
		t.Errorf("New() of a name that is taken = %v", err)
	}
	query := func(sql string) *d1.QueryResult {
		t.Helper()
		got, err := c.D1.Database.Query(ctx, made.UUID, d1.DatabaseQueryParams{AccountID: account, Body: d1.DatabaseQueryParamsBodyD1SingleQuery{Sql: cloudflare.F(sql)}})
		if err != nil || len(got.Result) == 0 || !got.Result[0].Success {
			t.Fatalf("Query(%s) = %+v, %v", sql, got, err)
		}
		return &got.Result[len(got.Result)-1]
	}
	query("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
	if r := query("INSERT INTO t(v) VALUES ('a'), ('b')"); r.Meta.Changes != 2 || r.Meta.LastRowID != 2 || !r.Meta.ChangedDB || r.Meta.ServedByRegion != d1.QueryResultMetaServedByRegionEnam {
		t.Errorf("meta of an insert = %+v", r.Meta)
	}
	if r := query("SELECT * FROM t"); fmt.Sprint(r.Results) != "[map[id:1 v:a] map[id:2 v:b]]" {
		t.Errorf("rows = %v", r.Results)
	}
	raw, err := c.D1.Database.Raw(ctx, made.UUID, d1.DatabaseRawParams{AccountID: account, Body: d1.DatabaseRawParamsBodyD1SingleQuery{
		Sql: cloudflare.F("SELECT id, v FROM t WHERE v = ?"), Params: cloudflare.F([]string{"b"}),
	}})
	if err != nil || fmt.Sprint(raw.Result[0].Results.Columns, raw.Result[0].Results.Rows) != "[id v] [[2 b]]" {
		t.Errorf("Raw() = %+v, %v", raw, err)
	}
	mark, err := c.D1.Database.TimeTravel.GetBookmark(ctx, made.UUID, d1.DatabaseTimeTravelGetBookmarkParams{AccountID: account})
	if err != nil || len(mark.Bookmark) != 59 {
		t.Errorf("GetBookmark() = %+v, %v", mark, err)
	}
	query("DELETE FROM t")
	if _, err := c.D1.Database.TimeTravel.Restore(ctx, made.UUID, d1.DatabaseTimeTravelRestoreParams{AccountID: account, Bookmark: cloudflare.F(mark.Bookmark)}); err != nil {
		t.Error(err)
	}
	if r := query("SELECT count(*) AS n FROM t"); fmt.Sprint(r.Results) != "[map[n:2]]" {
		t.Errorf("rows after the restore = %v", r.Results)
	}
	pager, count := c.D1.Database.ListAutoPaging(ctx, d1.DatabaseListParams{AccountID: account, PerPage: cloudflare.F(1.0)}), 0
	for pager.Next() {
		count++
	}
	if err := pager.Err(); err != nil || count != 1 {
		t.Errorf("ListAutoPaging() gave %d databases, %v", count, err)
	}
	if _, err := c.D1.Database.Delete(ctx, made.UUID, d1.DatabaseDeleteParams{AccountID: account}); err != nil {
		t.Error(err)
	}
	if _, err := c.D1.Database.Get(ctx, made.UUID, d1.DatabaseGetParams{AccountID: account}); err == nil || !strings.Contains(err.Error(), "7404") {
		t.Errorf("Get() of a deleted database = %v", err)
	}
}

// TestD1CloudflareGoOwn runs the tests that come with the SDK. They name an account and a database that
// are nobody's, so each of their requests gets the node's account and a database made for it.
func TestD1CloudflareGoOwn(t *testing.T) {
	n := startNode(t)
	made := 0
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.Replace(r.URL.RequestURI(), "023e105f4ecef8ad9ca31a8372d0c353", n.AccountID, 1)
		if strings.Contains(path, "xxxxxxxx-xxxx") {
			made++
			id := n.call(t, "POST", "/accounts/"+n.AccountID+"/d1/database", map[string]any{"name": fmt.Sprint("own-", made)})["uuid"].(string)
			n.try(t, "POST", "/accounts/"+n.AccountID+"/d1/database/"+id+"/query", map[string]any{"sql": "CREATE TABLE myTable(field)"})
			path = strings.Replace(path, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", id, 1)
			if strings.Contains(path, "bookmark=") { // theirs is of another database
				mark := n.call(t, "GET", "/accounts/"+n.AccountID+"/d1/database/"+id+"/time_travel/bookmark", nil)["bookmark"].(string)
				path = path[:strings.Index(path, "?")] + "?bookmark=" + mark
			}
		}
		body, _ := io.ReadAll(r.Body)
		req, err := http.NewRequest(r.Method, n.API+path, bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return
		}
		req.Header.Set("Authorization", "Bearer "+n.Token)
		req.Header.Set("Content-Type", r.Header.Get("Content-Type"))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer res.Body.Close()
		w.Header().Set("Content-Type", res.Header.Get("Content-Type"))
		w.WriteHeader(res.StatusCode)
		io.Copy(w, res.Body)
	}))
	defer front.Close()
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "github.com/cloudflare/cloudflare-go/v6/d1")
	cmd.Env = append(os.Environ(), "TEST_API_BASE_URL="+front.URL)
	out, err := cmd.CombinedOutput()
	if passed := strings.Count(string(out), "--- PASS"); err != nil || passed < 12 {
		t.Errorf("%d tests of the SDK pass, %v:\n%s", passed, err, out)
	}
}
