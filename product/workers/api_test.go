package workers_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/control/api"
	"selvage/control/store"
	"selvage/engine/blob"
	"selvage/engine/seal"
	"selvage/engine/state"
	"selvage/foundation/clock"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/product/workers"
	"selvage/product/workers/assets"
	"selvage/spec"
)

// desk is the API of Workers behind control/api, on a real store.
type desk struct {
	*api.API
	t       testing.TB
	workers *workers.Workers
	state   *store.Store
	blobs   *blob.Store
	owner   api.Owner
	log     *bytes.Buffer
}

// newDesk returns a desk whose other products bring the given binding types.
func newDesk(t testing.TB, bindings map[string]product.BindingType) *desk {
	t.Helper()
	d := &desk{t: t, log: &bytes.Buffer{}}
	dir := t.TempDir()
	db, err := state.Open(filepath.Join(dir, "state"), state.Options{})
	must(t, err)
	t.Cleanup(func() { db.Close() })
	d.state, err = store.Open(t.Context(), db, store.Options{})
	must(t, err)
	d.blobs, err = blob.Open(filepath.Join(dir, "blobs"))
	must(t, err)
	key, err := seal.Open(filepath.Join(dir, "seal.key"))
	must(t, err)
	files, err := assets.Open(assets.Options{Dir: filepath.Join(dir, "assets"), Blobs: d.blobs})
	must(t, err)
	d.owner, err = api.Bootstrap(t.Context(), d.state, clock.Clock{}, true)
	must(t, err)
	watch := observe.Observer{Log: slog.New(slog.NewTextHandler(d.log, nil)), Metrics: prometheus.NewRegistry(), Events: &observe.Events{}}
	d.workers = workers.New(options(t, dir, workers.Options{State: d.state, Blobs: d.blobs, Seal: key, Assets: files, Bindings: bindings, Observe: watch}))
	d.state.OnCommit(apply(d.workers))
	d.API, err = api.New(api.Options{State: d.state, Routes: d.workers.Routes(), Audit: d.state, Observe: watch})
	must(t, err)
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
	Status  int
	Header  http.Header
	Body    string
	Success bool            `json:"success"`
	Result  json.RawMessage `json:"result"`
	Errors  []struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"errors"`
	Messages []product.Message `json:"messages"`
	Info     *product.PageInfo `json:"result_info"`
}

func (g got) code() int {
	if len(g.Errors) == 0 {
		return 0
	}
	return g.Errors[0].Code
}

// at returns what stands at a path such as "resources.script.etag" in the result, printed.
func (g got) at(t testing.TB, path string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(g.Result, &v); err != nil || !g.Success {
		t.Fatalf("status %d: no result: %s", g.Status, g.Body)
	}
	for name := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[name]
		case []any:
			i := 0
			fmt.Sscan(name, &i)
			if i >= len(x) {
				return ""
			}
			v = x[i]
		default:
			return ""
		}
	}
	switch x := v.(type) {
	case nil:
		return ""
	case string:
		return x
	}
	text, _ := json.Marshal(v)
	return string(text)
}

// call sends a request below the account's workers, as wrangler.
func (d *desk) call(method, path, contentType string, body io.Reader) got {
	d.t.Helper()
	r := httptest.NewRequest(method, "/client/v4/accounts/"+d.owner.AccountID+"/workers/"+path, body)
	r.Header.Set("Authorization", "Bearer "+d.owner.Secret)
	r.Header.Set("User-Agent", "wrangler/4.164.0")
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	rec := httptest.NewRecorder()
	d.ServeHTTP(rec, r)
	g := got{Status: rec.Code, Header: rec.Header(), Body: rec.Body.String()}
	if rec.Header().Get("Content-Type") == "application/json" {
		must(d.t, json.Unmarshal(rec.Body.Bytes(), &g))
	}
	return g
}

func (d *desk) do(method, path, body string) got {
	d.t.Helper()
	return d.call(method, path, "application/json", strings.NewReader(body))
}

// ok is do for what has to succeed.
func (d *desk) ok(method, path, body string) got {
	d.t.Helper()
	g := d.do(method, path, body)
	if !g.Success {
		d.t.Fatalf("%s %s: %s", method, path, g.Body)
	}
	return g
}

// file is a part of an upload.
type file struct{ name, media, content string }

func esm(name, content string) file { return file{name, "application/javascript+module", content} }

// form makes the body of an upload as undici, which wrangler is built on, sends it.
func form(metadata string, files ...file) (contentType string, body []byte) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	w.SetBoundary("----formdata-undici-0123456789")
	if metadata != "" {
		p, _ := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="metadata"`}})
		io.WriteString(p, metadata)
	}
	for _, f := range files {
		f.name = strings.ReplaceAll(f.name, `"`, "%22")
		p, _ := w.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="` + f.name + `"; filename="` + f.name + `"`}, "Content-Type": {f.media}})
		io.WriteString(p, f.content)
	}
	w.Close()
	return w.FormDataContentType(), b.Bytes()
}

// upload sends a form; path may have a query.
func (d *desk) upload(method, path, metadata string, files ...file) got {
	d.t.Helper()
	ct, body := form(metadata, files...)
	return d.call(method, path, ct, bytes.NewReader(body))
}

const (
	hello = "export default { fetch() { return new Response('hello') } }\n"
	meta  = `{"main_module":"index.js","compatibility_date":"2026-11-01","compatibility_flags":[]}`
)

// deploy uploads a script that has to be accepted.
func (d *desk) deploy(name, metadata string, files ...file) got {
	d.t.Helper()
	g := d.upload("PUT", "scripts/"+name+"?excludeScript=true&bindings_inherit=strict", metadata, files...)
	if !g.Success || len(g.Messages) > 0 {
		d.t.Fatalf("deploy %s: %s", name, g.Body)
	}
	return g
}

// hello deploys a script without anything.
func (d *desk) hello(name string) got {
	d.t.Helper()
	return d.deploy(name, meta, esm("index.js", hello))
}

// refusal checks that an answer is an error with a code that says something.
func refusal(t testing.TB, g got, code int, says string) {
	t.Helper()
	if g.Success || g.code() != code || !strings.Contains(g.Body, says) {
		t.Errorf("got status %d, want code %d that says %q: %s", g.Status, code, says, g.Body)
	}
}

// with returns metadata with one more field.
func with(fields string) string { return strings.TrimSuffix(meta, "}") + "," + fields + "}" }

func (d *desk) account() *spec.AccountWorkers { return d.state.Snapshot().WorkersOf(d.owner.AccountID) }
