package hyperdrive_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"selvage/product/hyperdrive"
	"selvage/product/hyperdrive/pgtest"
)

// TestRestart has clients write while PostgreSQL is restarted, in good order and not: each write that
// was acknowledged is there, no client hangs, and all go on afterwards.
func TestRestart(t *testing.T) {
	pg := pgtest.Start(t)
	direct, err := pgx.Connect(t.Context(), pg.URL())
	must(t, err)
	run(t, direct, "CREATE TABLE log (id bigint PRIMARY KEY)")
	direct.Close(t.Context())
	d := newDesk(t, hyperdrive.Options{})
	a := d.config("one", pg.Port, `"caching":{"disabled":true},"origin_connection_limit":5`)
	ctx, stop := context.WithCancel(t.Context())
	var acked sync.Map
	var ids, written, failed atomic.Int64
	var all sync.WaitGroup
	for range 12 {
		all.Go(func() {
			var c *pgx.Conn
			for ctx.Err() == nil {
				if c == nil || c.IsClosed() {
					dial, cancel := context.WithTimeout(context.Background(), 30*time.Second)
					var err error
					c, err = pgx.Connect(dial, a.dsn(""))
					cancel()
					if err != nil {
						t.Errorf("cannot connect to the pool: %v", err)
						return
					}
				}
				id := ids.Add(1)
				wait, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				err := func() error {
					tx, err := c.Begin(wait)
					if err != nil {
						return err
					}
					if _, err := tx.Exec(wait, "INSERT INTO log VALUES ($1)", id); err != nil {
						return errors.Join(err, tx.Rollback(wait))
					}
					return tx.Commit(wait)
				}()
				if wait.Err() != nil {
					t.Errorf("a client hung: %v", err)
				}
				cancel()
				if err == nil {
					acked.Store(id, true)
					written.Add(1)
				} else {
					failed.Add(1)
				}
			}
			c.Close(context.Background())
		})
	}
	progress := func() {
		t.Helper()
		from := written.Load()
		for i := 0; written.Load() < from+100; i++ {
			if i > 3000 {
				t.Fatalf("writes do not go on: %d after %d", written.Load(), from)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	for range 2 {
		progress()
		pg.Kill()
		pg.Up()
		progress()
		pg.Stop()
		pg.Up()
	}
	progress()
	stop()
	all.Wait()
	c := a.connect("")
	rows, err := c.Query(t.Context(), "SELECT id FROM log")
	must(t, err)
	there, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	must(t, err)
	kept := map[int64]bool{}
	for _, id := range there {
		kept[id] = true
	}
	// The server runs without fsync: a killed one keeps what its processes wrote, for the machine goes on.
	acked.Range(func(id, _ any) bool {
		if !kept[id.(int64)] {
			t.Errorf("write %d was acknowledged and is gone", id)
		}
		return true
	})
	t.Logf("%d writes acknowledged, %d failed", written.Load(), failed.Load())
}

// link is a network between Hyperdrive and its database that can be cut.
type link struct {
	l     net.Listener
	to    string
	mu    sync.Mutex // guards the fields below
	conns []net.Conn
	down  bool
}

func newLink(t *testing.T, to string) *link {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	k := &link{l: l, to: to}
	t.Cleanup(func() { l.Close(); k.cut() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", to)
			k.mu.Lock()
			if err != nil || k.down {
				c.Close()
				k.mu.Unlock()
				continue
			}
			k.conns = append(k.conns, c, s)
			k.mu.Unlock()
			go func() { io.Copy(c, s); c.Close() }()
			go func() { io.Copy(s, c); s.Close() }()
		}
	}()
	return k
}

func (k *link) port() int { return k.l.Addr().(*net.TCPAddr).Port }

func (k *link) cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.conns {
		c.Close()
	}
	k.conns, k.down = nil, true
}

func (k *link) mend() {
	k.mu.Lock()
	k.down = false
	k.mu.Unlock()
}

func TestCutNetwork(t *testing.T) {
	pg := pgtest.Start(t)
	k := newLink(t, pg.Addr())
	d := newDesk(t, hyperdrive.Options{Wait: 2 * time.Second})
	a := d.config("one", k.port(), `"caching":{"disabled":true}`)
	c, idle := a.connect(""), a.connect("default_query_exec_mode=simple_protocol")
	one(t, idle, "SELECT 'warm'")
	tx, err := c.Begin(t.Context())
	must(t, err)
	k.cut()
	if _, err := tx.Exec(t.Context(), "SELECT 1"); err == nil || !strings.Contains(err.Error(), "08006") {
		t.Errorf("in a transaction whose connection was cut: %v, want 08006", err)
	}
	if !c.IsClosed() {
		t.Error("the client of a lost transaction was not cut off: it may go on outside of it")
	}
	if got, err := ask(idle, "SELECT 'x'"); err == nil {
		t.Errorf("without network: %q", got)
	}
	k.mend()
	fresh := a.connect("")
	if got := one(t, fresh, "SELECT 'back'"); got != "back" {
		t.Errorf("after the cut: %q", got)
	}
}

func TestLimit(t *testing.T) {
	pg := pgtest.Start(t)
	d := newDesk(t, hyperdrive.Options{Wait: time.Second})
	a := d.config("one", pg.Port, `"caching":{"disabled":true},"origin_connection_limit":5`)
	var held []*pgx.Conn
	for range 5 {
		c := a.connect("")
		run(t, c, "BEGIN")
		held = append(held, c)
	}
	late := a.connect("")
	if _, err := ask(late, "SELECT 'x'"); err == nil || !strings.Contains(err.Error(), "53300") {
		t.Errorf("beyond the limit: %v, want 53300", err)
	}
	run(t, held[0], "COMMIT")
	if got := one(t, late, "SELECT 'x'"); got != "x" {
		t.Errorf("after a commit: %q", got)
	}
	if s := a.stats(); s.Connections != 5 || s.Timeouts != 1 {
		t.Errorf("stats = %+v, want 5 connections and a timeout", s)
	}
	// A client that leaves in the middle of a transaction leaves nothing of it.
	run(t, held[1], "CREATE TABLE half (a int)")
	held[1].Close(t.Context())
	if got := one(t, late, "SELECT count(*)::text FROM pg_class WHERE relname = 'half'"); got != "0" {
		t.Errorf("half a transaction was kept")
	}
}

func TestCancel(t *testing.T) {
	pg := pgtest.Start(t)
	d := newDesk(t, hyperdrive.Options{})
	a := d.config("one", pg.Port, `"caching":{"disabled":true}`)
	c, other := a.connect(""), a.connect("")
	done := make(chan error, 1)
	go func() {
		_, err := c.Exec(context.Background(), "SELECT pg_sleep(60)")
		done <- err
	}()
	for i := 0; one(t, other, "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' AND pid <> pg_backend_pid()") == "0"; i++ {
		if i > 2000 {
			t.Fatal("the query does not run")
		}
		time.Sleep(5 * time.Millisecond)
	}
	must(t, c.PgConn().CancelRequest(t.Context()))
	if err := <-done; err == nil || !strings.Contains(err.Error(), "57014") {
		t.Errorf("the cancelled query ended with %v", err)
	}
	for range 20 {
		one(t, other, "SELECT 'unharmed'")
		one(t, c, "SELECT 'unharmed'")
	}
	// A client that goes away takes its query along.
	go c.Exec(context.Background(), "SELECT pg_sleep(61)")
	query := "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE '%pg_sleep(61)%' AND state = 'active' AND pid <> pg_backend_pid()"
	for i := 0; one(t, other, query) == "0" && i < 2000; i++ {
		time.Sleep(5 * time.Millisecond)
	}
	c.PgConn().Conn().Close()
	for i := 0; one(t, other, query) != "0"; i++ {
		if i > 2000 {
			t.Fatal("the query of a client that left goes on")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestMuchAtOnce(t *testing.T) {
	pg := pgtest.Start(t)
	d := newDesk(t, hyperdrive.Options{})
	a := d.config("one", pg.Port, `"caching":{"disabled":true}`)
	c := a.connect("")
	run(t, c, "CREATE TABLE big (id int, body text)")
	rows := make([][]any, 20_000)
	for i := range rows {
		rows[i] = []any{i, strings.Repeat("x", 200)}
	}
	n, err := c.CopyFrom(t.Context(), pgx.Identifier{"big"}, []string{"id", "body"}, pgx.CopyFromRows(rows))
	if err != nil || n != 20_000 {
		t.Fatalf("COPY in: %d %v", n, err)
	}
	var out strings.Builder
	tag, err := c.PgConn().CopyTo(t.Context(), &out, "COPY big TO STDOUT")
	if err != nil || tag.RowsAffected() != 20_000 || out.Len() < 4_000_000 {
		t.Errorf("COPY out: %v %v, %d bytes", tag, err, out.Len())
	}
	if _, err := c.PgConn().CopyFrom(t.Context(), strings.NewReader("no number\tx\n"), "COPY big FROM STDIN"); err == nil {
		t.Error("COPY of nonsense was taken")
	}
	// Larger than any buffer, both ways.
	long := strings.Repeat("long ", 1_000_000)
	if got := one(t, c, "SELECT $1::text", long); got != long {
		t.Errorf("a value of 5 MB came back with %d bytes", len(got))
	}
	simple := a.connect("default_query_exec_mode=simple_protocol")
	if got := one(t, simple, "SELECT '"+long+"'"); got != long {
		t.Errorf("a query of 5 MB came back with %d bytes", len(got))
	}
	b := &pgx.Batch{}
	for i := range 3000 {
		b.Queue("SELECT $1::int, repeat('y', 1000)", i)
	}
	res := c.SendBatch(t.Context(), b)
	for i := range 3000 {
		var n int
		var s string
		if err := res.QueryRow().Scan(&n, &s); err != nil || n != i || len(s) != 1000 {
			t.Fatalf("batch at %d: %d %v", i, n, err)
		}
	}
	must(t, res.Close())
	if got := one(t, c, "SELECT 'after'"); got != "after" {
		t.Errorf("after all that: %q", got)
	}
	if s := a.stats(); s.Connections > 3 {
		t.Errorf("%d connections for two clients", s.Connections)
	}
}
