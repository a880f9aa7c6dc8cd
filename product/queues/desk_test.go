package queues_test

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
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/control/api"
	"selvage/control/store"
	"selvage/engine/isolate"
	"selvage/engine/state"
	"selvage/foundation/clock"
	"selvage/foundation/fault"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/product/producttest"
	"selvage/product/queues"
	"selvage/spec"
)

// desk is the API of Queues behind control/api, on real stores, with two accounts. A function stands for
// the Workers.
type desk struct {
	*api.API
	t      testing.TB
	queues *queues.Queues
	state  *store.Store
	owner  api.Owner
	other  string // an account that the owner may use, too

	mu      sync.Mutex // guards the fields below
	log     bytes.Buffer
	deliver queues.Deliver
}

func newDesk(t testing.TB) *desk {
	t.Helper()
	d, dir := &desk{t: t}, t.TempDir()
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
	watch := observe.Observer{Log: slog.New(slog.NewTextHandler(d, nil)), Metrics: prometheus.NewRegistry()}
	d.queues, err = queues.New(queues.Options{State: d.state, DB: data, Deliver: d.consume, Observe: watch, BatchTimeout: 200 * time.Millisecond})
	must(t, err)
	d.API, err = api.New(api.Options{State: d.state, Routes: d.queues.Routes(), Quotas: d.queues.Quotas(), Audit: d.state, Observe: watch})
	must(t, err)
	d.other = d.ok("POST", "/accounts", `{"name":"other"}`).at("id")
	return d
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Write takes the log.
func (d *desk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.log.Write(p)
}

// consume stands for the Workers.
func (d *desk) consume(ctx context.Context, account, script string, batch isolate.QueueBatch) (isolate.Outcome, error) {
	d.mu.Lock()
	f := d.deliver
	d.mu.Unlock()
	if f == nil {
		return isolate.Outcome{}, fault.New(fault.NotFound, "not deployed")
	}
	return f(ctx, account, script, batch)
}

func (d *desk) workers(f queues.Deliver) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deliver = f
}

// run runs the product until the test ends.
func (d *desk) run() {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { d.queues.Run(ctx) })
	d.t.Cleanup(func() { cancel(); done.Wait() })
}

// rollout has the product take in what the API has changed.
func (d *desk) rollout() {
	d.t.Helper()
	c, err := d.queues.Prepare(context.Background(), d.state.Snapshot())
	must(d.t, err)
	c.Commit()
}

// got is an answer, taken apart.
type got struct {
	t       testing.TB
	Status  int
	Body    string
	Success bool            `json:"success"`
	Result  json.RawMessage `json:"result"`
	Errors  []struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"errors"`
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
func (d *desk) call(method, path, body string) got {
	d.t.Helper()
	req := httptest.NewRequest(method, "/client/v4"+path, strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+d.owner.Secret)
	rec := httptest.NewRecorder()
	d.ServeHTTP(rec, req)
	g := got{t: d.t, Status: rec.Code, Body: rec.Body.String()}
	if err := json.Unmarshal(rec.Body.Bytes(), &g); err != nil {
		d.t.Fatalf("%s %s answers %d %.200s", method, path, rec.Code, rec.Body)
	}
	d.rollout()
	return g
}

func (d *desk) ok(method, path, body string) got {
	d.t.Helper()
	g := d.call(method, path, body)
	if !g.Success {
		d.t.Fatalf("%s %s: %d %s", method, path, g.Status, g.Body)
	}
	return g
}

// in returns a path below the queues of the owner's account.
func (d *desk) in(rest string) string { return "/accounts/" + d.owner.AccountID + "/queues" + rest }

// make makes a queue and returns its ID.
func (d *desk) make(name string) string {
	d.t.Helper()
	return d.ok("POST", d.in(""), fmt.Sprintf(`{"queue_name":%q}`, name)).at("queue_id")
}

// script makes a Worker, without code, that a consumer may name.
func (d *desk) script(name string, handlers ...string) {
	d.t.Helper()
	v := &spec.WorkerVersion{ID: spec.NewID(), AccountID: d.owner.AccountID, Script: name, Number: 1, Main: "index.js", Modules: []spec.WorkerModule{{Name: "index.js", Type: "esm", Digest: strings.Repeat("0", 64)}}}
	v.Handlers = handlers
	w := &spec.Worker{ID: spec.NewID(), AccountID: d.owner.AccountID, Name: name, Latest: v.ID}
	w.Deployment.Versions = []spec.VersionShare{{VersionID: v.ID, Percentage: 100}}
	must(d.t, d.state.Update(d.t.Context(), spec.Actor{}, func(tx product.Tx) error {
		if err := tx.Put(v); err != nil {
			return err
		}
		return tx.Put(w)
	}))
	d.rollout()
}

// bound returns a client as the runtime's for env.NAME of a queue.
func (d *desk) bound(account, queue string) *http.Client {
	return producttest.Bind(d.t, d.queues, product.BindingUser{AccountID: account, Script: "s"}, &spec.WorkerBinding{Name: "Q", Type: "queue", Extra: json.RawMessage(fmt.Sprintf(`{"queue_name":%q}`, queue))})
}

// post sends to a bound queue and returns status, error code and body.
func post(t testing.TB, c *http.Client, path, body string, fields ...string) (int, string, string) {
	t.Helper()
	req, err := http.NewRequest("POST", "http://fake-host"+path, strings.NewReader(body))
	must(t, err)
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	res, err := c.Do(req)
	must(t, err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(t, err)
	return res.StatusCode, res.Header.Get("CF-Queues-Error-Code"), string(text)
}

// within waits for something that happens in the background.
func within(t testing.TB, what string, check func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !check(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

func (d *desk) backlog(id string) string {
	d.t.Helper()
	return d.ok("GET", d.in("/"+id+"/metrics"), "").at("backlog_count")
}
