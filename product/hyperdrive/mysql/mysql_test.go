package mysql_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"selvage/engine/mywire"
	"selvage/engine/mywire/mytest"
	"selvage/product/hyperdrive/mysql"
)

// front is a pool in front of a real server.
type front struct {
	t    testing.TB
	up   *mysql.Upstream
	addr string
}

const limit = 3

func newFront(t testing.TB, s *mytest.Server) *front {
	t.Helper()
	_ = driver.SetLogger(log.New(io.Discard, "", 0))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{t: t, addr: l.Addr().String(), up: mysql.NewUpstream(mysql.Options{Limit: limit, Wait: 5 * time.Second, Login: mysql.Login{
		User: "app", Password: "secret", Database: "app",
		Dial: func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", s.Port))
		},
	}})}
	ctx, cancel := context.WithCancel(context.Background())
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer c.Close()
				_ = mysql.Serve(ctx, &mysql.Guest{Conn: c, Source: c.RemoteAddr().String(), Refused: func(string) {}, Ending: ctx,
					Password: func(l *mywire.Login) (string, error) { return "front", nil },
					Find:     func(*mywire.Login) (*mysql.Upstream, error) { return f.up, nil }})
			})
		}
	})
	open.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case now := <-tick.C:
				f.up.Sweep(now)
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		l.Close()
		open.Wait()
		f.up.Close()
	})
	return f
}

// open returns a pool of clients; conns is how many there may be.
func (f *front) open(conns int, options string) *sql.DB {
	f.t.Helper()
	db, err := sql.Open("mysql", "u:front@tcp("+f.addr+")/app?timeout=10s&"+options)
	if err != nil {
		f.t.Fatal(err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	f.t.Cleanup(func() { db.Close() })
	return db
}

// one returns a single client.
func (f *front) one(options string) *sql.Conn {
	f.t.Helper()
	c, err := f.open(1, options).Conn(context.Background())
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	return c
}

func must(t testing.TB, c interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, q string, args ...any) {
	t.Helper()
	if _, err := c.ExecContext(context.Background(), q, args...); err != nil {
		t.Fatalf("%.100s: %v", q, err)
	}
}

func ask(t testing.TB, c interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}, q string, args ...any) string {
	t.Helper()
	var s sql.NullString
	if err := c.QueryRowContext(context.Background(), q, args...).Scan(&s); err != nil {
		t.Fatalf("%.100s: %v", q, err)
	}
	if !s.Valid {
		return "NULL"
	}
	return s.String
}

func refused(t testing.TB, c *sql.Conn, q string, code uint16) {
	t.Helper()
	_, err := c.ExecContext(context.Background(), q)
	var e *driver.MySQLError
	if !errors.As(err, &e) || e.Number != code {
		t.Errorf("%s: %v, want ERROR %d", q, err, code)
	}
}

func TestPool(t *testing.T) {
	server := mytest.Start(t)
	f := newFront(t, server)

	t.Run("many clients", func(t *testing.T) {
		db := f.open(30, "")
		must(t, db, "CREATE TABLE counted (id INT PRIMARY KEY, n INT)")
		must(t, db, "INSERT INTO counted VALUES (1, 0)")
		var work sync.WaitGroup
		var failed atomic.Int64
		for i := range 30 {
			work.Go(func() {
				for j := range 20 {
					tx, err := db.Begin()
					if err == nil {
						_, err = tx.Exec("UPDATE counted SET n = n + ? WHERE id = ?", 1, 1) // prepared
					}
					if err == nil {
						err = tx.Commit()
					}
					if err != nil {
						failed.Add(1)
						t.Errorf("client %d, %d: %v", i, j, err)
					}
				}
			})
		}
		work.Wait()
		if n := ask(t, db, "SELECT n FROM counted"); n != "600" || failed.Load() > 0 {
			t.Errorf("the count is %s, %d failed, want 600", n, failed.Load())
		}
		if n := f.up.Stats().Pool.Open; n > limit {
			t.Errorf("%d connections to the server, the limit is %d", n, limit)
		}
	})
	t.Run("large values", func(t *testing.T) {
		db := f.open(2, "maxAllowedPacket=16777215")
		must(t, db, "CREATE TABLE large (id INT PRIMARY KEY AUTO_INCREMENT, data LONGBLOB)")
		big := bytes.Repeat([]byte("0123456789abcdef"), 15<<20/16)
		must(t, db, "INSERT INTO large (data) VALUES (?)", big)
		var got []byte
		if err := db.QueryRow("SELECT CONCAT(data, data) FROM large WHERE id = ?", 1).Scan(&got); err != nil || len(got) != 30<<20 {
			t.Errorf("30 MB came back as %d bytes, %v", len(got), err)
		}
	})
	t.Run("what a session sets", func(t *testing.T) {
		a, b := f.one(""), f.one("")
		must(t, a, "SET SESSION time_zone = '+03:00', sql_mode = 'ANSI_QUOTES'")
		must(t, a, "SET @secret = 42")
		for range 20 {
			if zone := ask(t, a, "SELECT @@time_zone"); zone != "+03:00" {
				t.Fatalf("the client that set it has time zone %s", zone)
			}
			if zone := ask(t, b, "SELECT @@time_zone"); zone == "+03:00" {
				t.Fatal("another client has the time zone too")
			}
			if leaked := ask(t, b, "SELECT @secret"); leaked != "NULL" {
				t.Fatalf("another client sees a user variable: %s", leaked)
			}
		}
		must(t, a, "USE other")
		if db := ask(t, b, "SELECT DATABASE()"); db != "app" {
			t.Errorf("USE of another client changed the database to %s", db)
		}
		if db := ask(t, a, "SELECT DATABASE()"); db != "other" {
			t.Errorf("after USE the database is %s", db)
		}
		refused(t, a, "USE nowhere", 1044)
		for _, q := range []string{"CREATE TEMPORARY TABLE x (a INT)", "SELECT GET_LOCK('x', 1)", "LOCK TABLES counted WRITE", "PREPARE s FROM 'SELECT 1'", "/*!40000 LOCK */ TABLES counted READ"} {
			refused(t, a, q, 1235)
		}
		refused(t, a, "SELECT 1; SELECT 2", 1064)
		must(t, f.one("multiStatements=true"), "DO 0; DO 1")
		refused(t, a, "SELECT 1; SELECT 2", 1064)
	})
	t.Run("transactions", func(t *testing.T) {
		a, b := f.one(""), f.one("")
		must(t, a, "USE app")
		must(t, a, "CREATE TABLE txs (id INT PRIMARY KEY)")
		must(t, a, "SET autocommit = 0")
		must(t, a, "INSERT INTO txs VALUES (1)")
		if n := ask(t, b, "SELECT COUNT(*) FROM txs"); n != "0" {
			t.Errorf("another client sees %s rows of a transaction that is open", n)
		}
		must(t, a, "ROLLBACK")
		if n := ask(t, a, "SELECT COUNT(*) FROM txs"); n != "0" {
			t.Errorf("%s rows are left after the rollback", n)
		}
		must(t, a, "COMMIT")
		must(t, a, "SET autocommit = 1")
		must(t, a, "SET TRANSACTION READ ONLY")
		must(t, a, "START TRANSACTION")
		refused(t, a, "INSERT INTO txs VALUES (2)", 1792)
		must(t, a, "ROLLBACK")
		for range 10 {
			must(t, b, "REPLACE INTO txs VALUES (3)") // READ ONLY reached nobody else
		}
		tx, err := b.BeginTx(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec("INSERT INTO txs VALUES (3)"); err == nil {
			t.Error("a duplicate was taken")
		}
		if _, err := tx.Exec("INSERT INTO txs VALUES (4)"); err != nil {
			t.Errorf("after an error the transaction goes on: %v", err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		if n := ask(t, a, "SELECT COUNT(*) FROM txs"); n != "1" {
			t.Errorf("%s rows, want 1", n)
		}
	})
	t.Run("found rows", func(t *testing.T) {
		affected := func(c *sql.Conn) int64 {
			r, err := c.ExecContext(context.Background(), "UPDATE txs SET id = 3 WHERE id = 3")
			if err != nil {
				t.Fatal(err)
			}
			n, _ := r.RowsAffected()
			return n
		}
		changed, found := f.one(""), f.one("clientFoundRows=true")
		for range 5 {
			if c, n := affected(changed), affected(found); c != 0 || n != 1 {
				t.Fatalf("%d rows changed and %d found, want 0 and 1", c, n)
			}
		}
	})
	t.Run("cancel", func(t *testing.T) {
		raw, err := net.Dial("tcp", f.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		c := mywire.NewConn(raw, 4<<10)
		g, _, err := c.Connect(context.Background(), mywire.Credentials{User: "u", Password: "front", Database: "app"})
		if err != nil {
			t.Fatal(err)
		}
		c.Begin()
		if err := c.Send(append([]byte{mywire.ComQuery}, "SELECT SLEEP(20)"...)); err != nil {
			t.Fatal(err)
		}
		b := f.one("")
		began := time.Now()
		done := make(chan error, 1)
		go func() { done <- c.Await() }()
		for killed := false; !killed; {
			must(t, b, fmt.Sprintf("KILL QUERY %d", g.Thread)) // it may not have begun
			select {
			case err := <-done:
				if killed = true; err != nil {
					t.Fatal(err)
				}
			case <-time.After(50 * time.Millisecond):
			}
		}
		if time.Since(began) > 10*time.Second {
			t.Error("cancelling took as long as the query")
		}
		refused(t, b, "KILL QUERY 4000000", 1094)
	})
	t.Run("the server is restarted", func(t *testing.T) {
		db := f.open(10, "")
		stop := make(chan struct{})
		var work sync.WaitGroup
		var good atomic.Int64
		for range 10 {
			work.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if _, err := db.Exec("REPLACE INTO txs VALUES (?)", 9); err == nil {
						good.Add(1)
					}
				}
			})
		}
		server.Stop()
		time.Sleep(200 * time.Millisecond)
		server.Run()
		before := good.Load()
		for began := time.Now(); good.Load() < before+100; time.Sleep(20 * time.Millisecond) {
			if time.Since(began) > 30*time.Second {
				t.Error("after the restart nothing works")
				break
			}
		}
		close(stop)
		work.Wait()
	})
}

func TestUnreachable(t *testing.T) {
	up := mysql.NewUpstream(mysql.Options{Limit: 1, Wait: 300 * time.Millisecond, Login: mysql.Login{Dial: func(context.Context) (net.Conn, error) { return nil, errors.New("no route") }}})
	defer up.Close()
	if err := up.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "no route") {
		t.Errorf("check = %v", err)
	}
}
