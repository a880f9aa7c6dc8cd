package kv_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/control/api"
	"selvage/control/store"
	"selvage/engine/state"
	"selvage/foundation/clock"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/product/kv"
	"selvage/product/producttest"
	"selvage/spec"
)

// desk is the API of KV behind control/api, on real stores, with two accounts.
type desk struct {
	*api.API
	t     testing.TB
	kv    *kv.KV
	state *store.Store
	owner api.Owner
	other string // an account that the owner may use, too
	now   atomic.Int64
	log   bytes.Buffer
	dir   string
}

func newDesk(t testing.TB) *desk {
	t.Helper()
	d := &desk{t: t, dir: t.TempDir()}
	d.now.Store(time.Now().Unix())
	db, err := state.Open(filepath.Join(d.dir, "state"), state.Options{})
	must(t, err)
	t.Cleanup(func() { db.Close() })
	d.state, err = store.Open(t.Context(), db, store.Options{})
	must(t, err)
	d.owner, err = api.Bootstrap(t.Context(), d.state, clock.Clock{}, true)
	must(t, err)
	data := state.NewShared(filepath.Join(d.dir, "data"), state.Options{})
	must(t, data.Open())
	t.Cleanup(func() { data.Close("over") })
	watch := observe.Observer{Log: slog.New(slog.NewTextHandler(&d.log, nil)), Metrics: prometheus.NewRegistry()}
	d.kv, err = kv.New(kv.Options{State: d.state, DB: data, Dir: filepath.Join(d.dir, "kv"), Observe: watch,
		Clock: clock.Fixed(func() time.Time { return time.Unix(d.now.Load(), 0) })})
	must(t, err)
	d.API, err = api.New(api.Options{State: d.state, Routes: d.kv.Routes(), Quotas: d.kv.Quotas(), Audit: d.state, Observe: watch})
	must(t, err)
	d.other = d.call("POST", "/accounts", "application/json", strings.NewReader(`{"name":"other"}`)).at("id")
	return d
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
		g.t.Fatalf("status %d: %s", g.Status, g.Body)
	}
	return fmt.Sprint(fields[name])
}

// call sends a request to the API.
func (d *desk) call(method, path, contentType string, body io.Reader) got {
	d.t.Helper()
	r := httptest.NewRequest(method, "/client/v4"+path, body)
	r.Header.Set("Authorization", "Bearer "+d.owner.Secret)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	rec := httptest.NewRecorder()
	d.ServeHTTP(rec, r)
	g := got{t: d.t, Status: rec.Code, Header: rec.Header(), Body: rec.Body.String()}
	if rec.Header().Get("Content-Type") == "application/json" {
		must(d.t, json.Unmarshal(rec.Body.Bytes(), &g))
	}
	return g
}

func spaces(account string) string { return "/accounts/" + account + "/storage/kv/namespaces" }

// make makes a namespace of an account and returns its path.
func (d *desk) make(account, title string) (path, id string) {
	d.t.Helper()
	id = d.call("POST", spaces(account), "application/json", strings.NewReader(`{"title":"`+title+`"}`)).at("id")
	return spaces(account) + "/" + id, id
}

// do sends a request with a body.
func (d *desk) do(method, path, body string) got {
	d.t.Helper()
	return d.call(method, path, "", strings.NewReader(body))
}

// ok is do for what has to succeed.
func (d *desk) ok(method, path, body string) got {
	d.t.Helper()
	g := d.do(method, path, body)
	if g.Status != 200 {
		d.t.Fatalf("%s %s: %d %.1000s", method, path, g.Status, g.Body)
	}
	return g
}

func value(space, key string) string { return space + "/values/" + url.PathEscape(key) }

// form sends a value and metadata as a form, in that order.
func (d *desk) form(path string, parts ...string) got {
	d.t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(parts); i += 2 {
		must(d.t, w.WriteField(parts[i], parts[i+1]))
	}
	w.Close()
	return d.call("PUT", path, w.FormDataContentType(), &b)
}

// bind returns a client of a namespace's binding.
func (d *desk) bind(account, id string) *http.Client {
	return producttest.Bind(d.t, d.kv, product.BindingUser{AccountID: account, Script: "s"}, &spec.WorkerBinding{Type: "kv_namespace", Name: "KV", NamespaceID: id})
}

// ask sends a request to a binding as the runtime does.
func (d *desk) ask(c *http.Client, method, target, body string, fields ...string) got {
	d.t.Helper()
	var r io.Reader
	if method == "PUT" || method == "POST" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, "http://fake-host"+target, r)
	must(d.t, err)
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	res, err := c.Do(req)
	must(d.t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(d.t, err)
	return got{t: d.t, Status: res.StatusCode, Header: res.Header, Body: string(text), Errors: []struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}{{res.StatusCode, strings.TrimPrefix(res.Status, fmt.Sprint(res.StatusCode, " "))}}}
}
