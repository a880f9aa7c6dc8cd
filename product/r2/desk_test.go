package r2_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/control/api"
	"selvage/control/store"
	"selvage/edge"
	"selvage/engine/seal"
	"selvage/engine/state"
	"selvage/foundation/clock"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/product/producttest"
	"selvage/product/r2"
	"selvage/spec"
)

// desk is the API of R2 behind control/api, on real stores, with two accounts.
type desk struct {
	*api.API
	t     testing.TB
	r2    *r2.R2
	state *store.Store
	owner api.Owner
	other string // an account that the owner may use, too
	skew  atomic.Int64
	told  chan string // messages for queues, with the queue's ID before them
	deaf  atomic.Bool // queues take nothing
	log   bytes.Buffer
}

func newDesk(t testing.TB) *desk {
	t.Helper()
	dir := t.TempDir()
	d := &desk{t: t, told: make(chan string, 100)}
	db, err := state.Open(filepath.Join(dir, "state"), state.Options{})
	must(t, err)
	t.Cleanup(func() { db.Close() })
	d.state, err = store.Open(t.Context(), db, store.Options{})
	must(t, err)
	d.owner, err = api.Bootstrap(t.Context(), d.state, clock.Clock{}, true)
	must(t, err)
	data := state.NewShared(filepath.Join(dir, "data"), state.Options{})
	must(t, data.Open())
	t.Cleanup(func() { data.Close("over") })
	key, err := seal.Open(filepath.Join(dir, "seal.key"))
	must(t, err)
	watch := observe.Observer{Log: slog.New(slog.NewTextHandler(&d.log, nil)), Metrics: prometheus.NewRegistry()}
	d.r2, err = r2.New(r2.Options{
		State: d.state, DB: data, Dir: filepath.Join(dir, "r2"), Seal: key, Observe: watch, Notify: d.notify,
		Clock: clock.Fixed(func() time.Time { return time.Now().Add(time.Duration(d.skew.Load())) }),
	})
	must(t, err)
	d.API, err = api.New(api.Options{State: d.state, Routes: d.r2.Routes(), Quotas: d.r2.Quotas(), Audit: d.state, Observe: watch})
	must(t, err)
	d.other = d.do("POST", "/accounts", `{"name":"other"}`).at("id")
	return d
}

func (d *desk) notify(_ context.Context, _, queueID string, body []byte) error {
	if d.deaf.Load() {
		return fmt.Errorf("deaf")
	}
	d.told <- queueID + " " + string(body)
	return nil
}

// settle brings what the API changed into effect, as rollout does.
func (d *desk) settle() {
	d.t.Helper()
	c, err := d.r2.Prepare(d.t.Context(), d.state.Snapshot())
	must(d.t, err)
	c.Commit()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// got is an answer, taken apart.
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
	Info struct {
		Cursor    string   `json:"cursor"`
		Truncated bool     `json:"is_truncated"`
		Delimited []string `json:"delimited"`
	} `json:"result_info"`
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
		g.t.Fatalf("status %d: %s", g.Status, g.Body)
	}
	return fmt.Sprint(fields[name])
}

// do sends a request to the API, with further header fields.
func (d *desk) do(method, path, body string, fields ...string) got {
	d.t.Helper()
	r := httptest.NewRequest(method, "/client/v4"+path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+d.owner.Secret)
	for i := 0; i+1 < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	rec := httptest.NewRecorder()
	d.ServeHTTP(rec, r)
	g := got{t: d.t, Status: rec.Code, Header: rec.Header(), Body: rec.Body.String()}
	if rec.Header().Get("Content-Type") == "application/json" && strings.HasPrefix(g.Body, `{"result"`) {
		must(d.t, json.Unmarshal(rec.Body.Bytes(), &g))
	}
	return g
}

// ok is do for what has to succeed.
func (d *desk) ok(method, path, body string, fields ...string) got {
	d.t.Helper()
	g := d.do(method, path, body, fields...)
	if g.Status/100 != 2 {
		d.t.Fatalf("%s %s: %d %.1000s\n%s", method, path, g.Status, g.Body, &d.log)
	}
	return g
}

// make makes a bucket of an account and returns its path.
func (d *desk) make(account, name string) string {
	d.t.Helper()
	d.ok("POST", "/accounts/"+account+"/r2/buckets", `{"name":"`+name+`"}`)
	d.settle()
	return "/accounts/" + account + "/r2/buckets/" + name
}

// bind returns a client of a script's binding to a bucket.
func (d *desk) bind(account, bucket string) *http.Client {
	return producttest.Bind(d.t, d.r2, product.BindingUser{AccountID: account, Script: "s"},
		&spec.WorkerBinding{Type: "r2_bucket", Name: "B", Extra: json.RawMessage(`{"bucket_name":"` + bucket + `"}`)})
}

// ask sends what the runtime's client sends.
func (d *desk) ask(c *http.Client, call, body string) got {
	d.t.Helper()
	method := "PUT"
	for _, read := range []string{"head", "get", "list"} {
		if strings.Contains(call, `"method":"`+read+`"`) {
			method = "GET"
		}
	}
	r, err := http.NewRequest(method, "http://fake-host/", strings.NewReader(call+body))
	must(d.t, err)
	if method == "GET" {
		r.Body, r.ContentLength = nil, 0
		r.Header.Set("CF-R2-Request", call)
	} else {
		r.Header.Set("CF-R2-Metadata-Size", fmt.Sprint(len(call)))
	}
	res, err := c.Do(r)
	must(d.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(d.t, err)
	return got{t: d.t, Status: res.StatusCode, Header: res.Header, Body: string(text)}
}

// visit sends a request to a bucket's public name, past proxy and cache.
func (d *desk) visit(method, host, path string, fields ...string) *edge.Exchange {
	d.t.Helper()
	ex := &edge.Exchange{Request: edge.Request{Method: method, Scheme: "https", Host: host, Path: path, Header: edge.NewHeader(fields...)}}
	for _, z := range d.state.Snapshot().Zones {
		if spec.InZone(host, z.Zone.Name) && (ex.Zone == nil || len(z.Zone.Name) > len(ex.Zone.Zone.Name)) {
			ex.Zone = z
		}
	}
	err := d.r2.Phase().Handle(d.t.Context(), ex, func(_ context.Context, ex *edge.Exchange) error {
		ex.Respond(http.StatusTeapot, edge.Header{}, []byte("passed on"))
		return nil
	})
	must(d.t, err)
	return ex
}

// read returns what an exchange answers.
func read(t testing.TB, ex *edge.Exchange) string {
	t.Helper()
	if ex.Response.Body == nil {
		return ""
	}
	defer ex.Response.Close()
	text, err := io.ReadAll(ex.Response.Body)
	must(t, err)
	return string(text)
}
