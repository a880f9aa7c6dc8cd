package node_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"selvage/product/hyperdrive/pgtest"
)

// TestHyperdriveTakeover replaces the process twice while clients of a database are idle, in a
// transaction, asking, connecting, or in a Worker. None of them may notice.
func TestHyperdriveTakeover(t *testing.T) {
	t.Parallel()
	pg := pgtest.Start(t)
	p := up(t, t.TempDir(), "--workers-allow", "127.0.0.1/32")
	var made, access struct{ ID, User, Password string }
	body := fmt.Sprintf(`{"name":"one","caching":{"disabled":true},"origin_connection_limit":10,"origin":{"scheme":"postgres","host":"127.0.0.1","port":%d,"database":"postgres","user":"owner","password":%q}}`, pg.Port, pgtest.Password)
	if err := p.call("POST", "/accounts/"+p.AccountID+"/hyperdrive/configs", body, &made); err != nil {
		t.Fatal(err)
	}
	if err := p.call("GET", "/accounts/"+p.AccountID+"/selvage/hyperdrive/configs/"+made.ID+"/credentials", "", &access); err != nil {
		t.Fatal(err)
	}
	s := p.deploy("db", script{source: speaksPostgres, meta: `"bindings":[{"type":"hyperdrive","name":"DB","id":"` + made.ID + `"}]`})
	dsn := strings.Replace(p.HyperdrivePostgres, "://", "://"+made.ID+":"+access.Password+"@", 1) + "/postgres?sslmode=disable"
	connect := func() *pgx.Conn {
		c, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close(context.Background()) })
		return c
	}
	one := func(c *pgx.Conn, sql, want string, args ...any) {
		t.Helper()
		var got string
		if err := c.QueryRow(t.Context(), sql, args...).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", sql, got, err, want)
		}
	}
	run := func(c *pgx.Conn, sql string) {
		t.Helper()
		if _, err := c.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	idle, busy := connect(), connect()
	run(idle, "CREATE TABLE t (a int)")
	run(idle, "SET my.x = 'kept'")
	if _, err := idle.Prepare(t.Context(), "twice", "SELECT (2 * $1::int)::text"); err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var loops sync.WaitGroup
	var rounds [3]atomic.Int64
	for i, f := range []func() error{
		func() error { _, err := busy.Exec(t.Context(), "SELECT 1"); return err },
		func() error {
			c, err := pgx.Connect(t.Context(), dsn)
			if err == nil {
				_, err = c.Exec(t.Context(), "SELECT 1")
				c.Close(context.Background())
			}
			return err
		},
		func() error {
			got, err := s.do("GET", "/?sql=BEGIN&sql=SELECT+1&sql=COMMIT", nil)
			if err == nil && got.status != 200 {
				err = errors.New(got.body)
			}
			return err
		},
	} {
		loops.Go(func() {
			for ; ctx.Err() == nil; rounds[i].Add(1) {
				if err := f(); err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
			}
		})
	}
	for turn := range 2 {
		tx := connect()
		run(tx, "BEGIN")
		run(tx, "INSERT INTO t VALUES (1)")
		old := p
		if turn == 0 {
			p = launch(t, p.dir, "--takeover")
		} else {
			syscall.Kill(p.PID, syscall.SIGHUP)
		}
		p.awaitReady(old.PID)
		one(idle, "SHOW my.x", "kept")
		one(idle, "twice", "42", 21)
		run(tx, "INSERT INTO t VALUES (2)")
		run(tx, "COMMIT")
		one(tx, "SELECT count(*)::text FROM t", fmt.Sprint(2*turn+2))
		for i := range rounds {
			for before := rounds[i].Load(); rounds[i].Load() < before+20 && !t.Failed(); {
				time.Sleep(5 * time.Millisecond)
			}
		}
		if turn == 0 {
			if err := old.wait(); err != nil {
				t.Errorf("the node that was taken over ended with %v:\n%s", err, old.log)
			}
		}
	}
	stop()
	loops.Wait()

	// The key for cancel requests came along.
	failed := make(chan error, 1)
	go func() { _, err := idle.Exec(context.Background(), "SELECT pg_sleep(300)"); failed <- err }()
	for cancelled := false; !cancelled; {
		select {
		case err := <-failed:
			var said *pgconn.PgError
			if cancelled = true; !errors.As(err, &said) || said.Code != "57014" {
				t.Errorf("a query that was cancelled ends with %v", err)
			}
		default:
			if err := idle.PgConn().CancelRequest(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}
