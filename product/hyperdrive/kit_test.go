package hyperdrive_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"selvage/control/api"
	"selvage/control/store"
	"selvage/engine/seal"
	"selvage/engine/state"
	"selvage/foundation/clock"
	"selvage/foundation/observe"
	"selvage/product/hyperdrive"
	"selvage/product/hyperdrive/pgtest"
	"selvage/spec"
)

// desk is Hyperdrive behind control/api, on a real store, with its private port.
type desk struct {
	*api.API
	t     testing.TB
	hd    *hyperdrive.Hyperdrive
	state *store.Store
	owner api.Owner
	addr  string
	log   *bytes.Buffer
	o     hyperdrive.Options
	end   func()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newDesk(t testing.TB, o hyperdrive.Options) *desk {
	t.Helper()
	d := &desk{t: t, log: &bytes.Buffer{}}
	dir := t.TempDir()
	db, err := state.Open(filepath.Join(dir, "state"), state.Options{})
	must(t, err)
	t.Cleanup(func() { db.Close() })
	d.state, err = store.Open(t.Context(), db, store.Options{})
	must(t, err)
	o.State = d.state
	o.Seal, err = seal.Open(filepath.Join(dir, "seal.key"))
	must(t, err)
	d.owner, err = api.Bootstrap(t.Context(), d.state, clock.Clock{}, true)
	must(t, err)
	o.Observe = observe.Observer{Log: slog.New(slog.NewTextHandler(d.log, nil)), Metrics: prometheus.NewRegistry(), Events: &observe.Events{}}
	d.o = o
	d.hd, err = hyperdrive.New(o)
	must(t, err)
	d.state.OnCommit(func(ctx context.Context, s *spec.Snapshot) error {
		c, err := d.hd.Prepare(ctx, s)
		if err == nil {
			c.Commit()
		}
		return err
	})
	d.API, err = api.New(api.Options{State: d.state, Routes: d.hd.Routes(), Audit: d.state, Observe: o.Observe})
	must(t, err)
	d.start()
	return d
}

func (d *desk) start() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(d.t, err)
	d.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { d.hd.Run(ctx) })
	work.Go(func() { d.hd.ServePostgres(ctx, l) })
	d.end = sync.OnceFunc(func() { cancel(); work.Wait() })
	d.t.Cleanup(d.end)
}

// another is a second Hyperdrive over the same store, as of a process that takes over. Its port is another
// one, too.
func (d *desk) another(t testing.TB) *hyperdrive.Hyperdrive {
	t.Helper()
	d.o.Observe.Metrics = prometheus.NewRegistry()
	hd, err := hyperdrive.New(d.o)
	must(t, err)
	c, err := hd.Prepare(t.Context(), d.state.Snapshot())
	must(t, err)
	c.Commit()
	next := &desk{t: t, hd: hd}
	next.start()
	return hd
}

// got is an answer of the API.
type got struct {
	Status  int
	Body    string
	Success bool            `json:"success"`
	Result  json.RawMessage `json:"result"`
	Errors  []struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"errors"`
}

func (d *desk) call(method, path, body string) got {
	d.t.Helper()
	r := httptest.NewRequest(method, "/client/v4"+strings.ReplaceAll(path, "A/", "/accounts/"+d.owner.AccountID+"/"), strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+d.owner.Secret)
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	g := got{Status: w.Code, Body: w.Body.String()}
	if err := json.Unmarshal(w.Body.Bytes(), &g); err != nil {
		d.t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return g
}

func (d *desk) ok(method, path, body string, result any) {
	d.t.Helper()
	g := d.call(method, path, body)
	if !g.Success {
		d.t.Fatalf("%s %s: %d %s", method, path, g.Status, g.Body)
	}
	if result != nil {
		must(d.t, json.Unmarshal(g.Result, result))
	}
}

// config makes a configuration for a server; more are further fields.
func (d *desk) config(name string, port int, more string) *account {
	d.t.Helper()
	if more != "" {
		more = "," + more
	}
	body := fmt.Sprintf(`{"name":%q,"origin":{"scheme":"postgres","host":"127.0.0.1","port":%d,"database":"postgres","user":"owner","password":%q}%s}`, name, port, pgtest.Password, more)
	a := &account{d: d}
	d.ok("POST", "A/hyperdrive/configs", body, a)
	var access struct{ User, Password, Database string }
	d.ok("GET", "A/selvage/hyperdrive/configs/"+a.ID+"/credentials", "", &access)
	a.password = access.Password
	return a
}

// account is a configuration that a test uses.
type account struct {
	d        *desk
	ID       string `json:"id"`
	password string
}

func (a *account) dsn(more string) string {
	host, port, _ := net.SplitHostPort(a.d.addr)
	return fmt.Sprintf("host=%s port=%s user=%s password=%s dbname=postgres sslmode=disable %s", host, port, a.ID, a.password, more)
}

func (a *account) connect(more string) *pgx.Conn {
	a.d.t.Helper()
	c, err := pgx.Connect(a.d.t.Context(), a.dsn(more))
	must(a.d.t, err)
	a.d.t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// one asks for one value, as text.
func one(t testing.TB, c *pgx.Conn, sql string, args ...any) string {
	t.Helper()
	s, err := ask(c, sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return s
}

func ask(c *pgx.Conn, sql string, args ...any) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var s string
	err := c.QueryRow(ctx, sql, args...).Scan(&s)
	return s, err
}

func run(t testing.TB, c *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := c.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
