package d1_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/control/api"
	"selvage/control/store"
	"selvage/engine/sqlite"
	"selvage/engine/state"
	"selvage/foundation/clock"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/product/d1"
	"selvage/product/producttest"
	"selvage/spec"
)

// desk is D1 behind control/api, on real stores, with two accounts.
type desk struct {
	*api.API
	t     testing.TB
	d1    *d1.D1
	state *store.Store
	owner api.Owner
	other string // an account that the owner may use, too
	log   bytes.Buffer
	dir   string
	data  *state.Shared
}

func newDesk(t testing.TB) *desk { return newDeskWith(t, sqlite.Limits{}) }

func newDeskWith(t testing.TB, limits sqlite.Limits) *desk {
	t.Helper()
	d := &desk{t: t, dir: t.TempDir()}
	db, err := state.Open(filepath.Join(d.dir, "state"), state.Options{})
	must(t, err)
	t.Cleanup(func() { db.Close() })
	d.state, err = store.Open(t.Context(), db, store.Options{})
	must(t, err)
	d.owner, err = api.Bootstrap(t.Context(), d.state, clock.Clock{}, true)
	must(t, err)
	d.data = state.NewShared(filepath.Join(d.dir, "data"), state.Options{})
	must(t, d.data.Open())
	t.Cleanup(func() { d.data.Close("over") })
	d.start(limits)
	d.other = d.do("POST", "/accounts", `{"name":"other"}`).at("id")
	return d
}

// start makes the product, as a process does.
func (d *desk) start(limits sqlite.Limits) {
	d.t.Helper()
	watch := observe.Observer{Log: slog.New(slog.NewTextHandler(&d.log, nil)), Metrics: prometheus.NewRegistry()}
	var err error
	d.d1, err = d1.New(d1.Options{State: d.state, DB: d.data, Dir: filepath.Join(d.dir, "d1"), Observe: watch, Limits: limits})
	must(d.t, err)
	d.t.Cleanup(d.d1.Release)
	d.API, err = api.New(api.Options{State: d.state, Routes: d.d1.Routes(), Quotas: d.d1.Quotas(), Graphs: d.d1.Graphs(), Audit: d.state, Observe: watch})
	must(d.t, err)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// got is an answer of the API, taken apart.
type got struct {
	t       testing.TB
	Status  int
	Header  http.Header
	Body    string
	Success bool            `json:"success"`
	Result  json.RawMessage `json:"result"`
	Errors  []struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"errors"`
	Info *product.PageInfo `json:"result_info"`
}

func (g got) code() int {
	if len(g.Errors) == 0 {
		return 0
	}
	return g.Errors[0].Code
}

// at returns a field of the result.
func (g got) at(name string) string {
	g.t.Helper()
	var fields map[string]any
	if err := json.Unmarshal(g.Result, &fields); err != nil || !g.Success {
		g.t.Fatalf("status %d: %.2000s", g.Status, g.Body)
	}
	return fmt.Sprint(fields[name])
}

// into reads the result.
func (g got) into(v any) {
	g.t.Helper()
	if err := json.Unmarshal(g.Result, v); err != nil || !g.Success {
		g.t.Fatalf("status %d: %.2000s: %v", g.Status, g.Body, err)
	}
}

// call sends a request to the API.
func (d *desk) call(method, path string, body io.Reader, fields ...string) got {
	d.t.Helper()
	r := httptest.NewRequest(method, "/client/v4"+path, body)
	r.Header.Set("Authorization", "Bearer "+d.owner.Secret)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	rec := httptest.NewRecorder()
	d.ServeHTTP(rec, r)
	g := got{t: d.t, Status: rec.Code, Header: rec.Header(), Body: rec.Body.String()}
	if rec.Header().Get("Content-Type") == "application/json" {
		if err := json.Unmarshal(rec.Body.Bytes(), &g); err != nil {
			d.t.Fatalf("%s %s: %v: %.2000s", method, path, err, g.Body)
		}
	}
	return g
}

func (d *desk) do(method, path, body string) got {
	d.t.Helper()
	return d.call(method, path, strings.NewReader(body))
}

// ok is do for what has to succeed.
func (d *desk) ok(method, path, body string) got {
	d.t.Helper()
	g := d.do(method, path, body)
	if g.Status >= 300 || !g.Success {
		d.t.Fatalf("%s %s %.300s: %d %.2000s\n%s", method, path, body, g.Status, g.Body, d.log.String())
	}
	return g
}

func root(account string) string { return "/accounts/" + account + "/d1/database" }

// make makes a database of an account and returns its path and ID.
func (d *desk) make(account, name string) (path, id string) {
	d.t.Helper()
	id = d.ok("POST", root(account), `{"name":"`+name+`"}`).at("uuid")
	return root(account) + "/" + id, id
}

// sql runs statements by REST and returns their results as JSON, without meta.
func (d *desk) sql(path, sql string, params ...any) string {
	d.t.Helper()
	asked := map[string]any{"sql": sql}
	if len(params) > 0 {
		asked["params"] = params
	}
	body, err := json.Marshal(asked)
	must(d.t, err)
	var all []result
	d.ok("POST", path+"/query", string(body)).into(&all)
	return shown(all)
}

// result is what one query gave.
type result struct {
	Success bool            `json:"success"`
	Error   string          `json:"error"`
	Results json.RawMessage `json:"results"`
	Meta    struct {
		ServedBy  string `json:"served_by"`
		Region    string `json:"served_by_region"`
		Duration  float64
		Changes   int64
		LastRowID int64 `json:"last_row_id"`
		ChangedDB bool  `json:"changed_db"`
		SizeAfter int64 `json:"size_after"`
		RowsRead  int64 `json:"rows_read"`
		Written   int64 `json:"rows_written"`
	} `json:"meta"`
}

func shown(all []result) string {
	var parts []string
	for _, r := range all {
		parts = append(parts, string(r.Results))
	}
	return strings.Join(parts, " ")
}

// bound is a client of a database's binding.
type bound struct {
	t testing.TB
	c *http.Client
}

func (d *desk) bind(account, id string) bound {
	return bound{d.t, producttest.Bind(d.t, d.d1, product.BindingUser{AccountID: account, Script: "s"}, &spec.WorkerBinding{Type: "d1", Name: "DB", Extra: json.RawMessage(`{"id":"` + id + `"}`)})}
}

// send asks as the runtime does, and returns the bookmark and the body.
func (b bound) send(target, body string, fields ...string) (bookmark, text string) {
	b.t.Helper()
	req, err := http.NewRequest("POST", "http://d1"+target, strings.NewReader(body))
	must(b.t, err)
	req.Header.Set("content-type", "application/json")
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	res, err := b.c.Do(req)
	must(b.t, err)
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	must(b.t, err)
	if res.StatusCode != 200 {
		b.t.Fatalf("%s %.200s = %d %.500s", target, body, res.StatusCode, data)
	}
	return res.Header.Get("x-cf-d1-session-commit-token"), string(data)
}

// ask runs one statement and returns its results, or the error.
func (b bound) ask(sql string, params ...any) string {
	b.t.Helper()
	body, err := json.Marshal(map[string]any{"sql": sql, "params": params})
	must(b.t, err)
	_, text := b.send("/query?resultsFormat=ROWS_AND_COLUMNS", string(body))
	return results(b.t, text)
}

func results(t testing.TB, text string) string {
	t.Helper()
	var all []result
	if strings.HasPrefix(text, "[") {
		must(t, json.Unmarshal([]byte(text), &all))
		return shown(all)
	}
	var one result
	must(t, json.Unmarshal([]byte(text), &one))
	if one.Success {
		t.Errorf("a success that is no list: %s", text)
	}
	return one.Error
}
