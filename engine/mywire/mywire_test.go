package mywire_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"

	"selvage/engine/mywire"
	"selvage/engine/mywire/mytest"
)

// relay stands between clients, which log in as user with the password "front", and the server: each
// client has a connection of its own.
type relay struct {
	t      testing.TB
	socket string
	caps   uint32 // beside those that both sides have in any case
	addr   string
	open   sync.WaitGroup
}

func startRelay(t testing.TB, socket string, caps uint32) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{t: t, socket: socket, caps: caps, addr: l.Addr().String()}
	r.open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.open.Go(func() {
				defer c.Close()
				if err := r.serve(c); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.ECONNRESET) {
					t.Logf("relay: %v", err)
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.open.Wait()
	})
	return r
}

func (r *relay) serve(conn net.Conn) error {
	client := mywire.NewConn(conn, 16<<10)
	l, err := client.Accept(mywire.Welcome{Version: "10.11.0-test", Thread: 7, Caps: r.caps, Status: mywire.StatusAutocommit, Password: func(l *mywire.Login) (string, error) {
		if l.User != "user" {
			return "", &mywire.Error{Code: 1045, State: "28000", Message: "no such user"}
		}
		return "front", nil
	}})
	if err != nil {
		return err
	}
	up, err := net.Dial("unix", r.socket)
	if err != nil {
		return err
	}
	defer up.Close()
	// Answers have the form that the client understands.
	server := mywire.NewConn(up, 16<<10)
	g, _, err := server.Connect(context.Background(), mywire.Credentials{User: "app", Password: "secret", Database: "app", Caps: l.Caps & r.caps})
	if err != nil {
		return err
	}
	if err := client.LetIn(mywire.StatusAutocommit); err != nil {
		return err
	}
	talk := &talk{client: client, server: server, caps: g.Caps, ids: map[uint32]uint32{}}
	for {
		if err := talk.command(); err != nil {
			return err
		}
	}
}

// talk is one client's way to the server. Clients know statements by other IDs than the server.
type talk struct {
	client, server *mywire.Conn
	caps           uint32
	ids            map[uint32]uint32
	next           uint32
}

func (k *talk) command() error {
	p, err := k.client.ReadPayload(64 << 20)
	if err != nil {
		return err
	}
	kind := p[0]
	switch kind {
	case mywire.ComStmtExecute, mywire.ComStmtClose, mywire.ComStmtReset, mywire.ComStmtLongData:
		id, err := mywire.StatementID(p)
		if err != nil {
			return err
		}
		mywire.PutStatementID(p, k.ids[id])
	}
	k.server.Begin()
	if err := k.server.Send(p); err != nil {
		return err
	}
	switch kind {
	case mywire.ComQuit:
		return io.EOF
	case mywire.ComStmtClose, mywire.ComStmtLongData:
		return nil
	case mywire.ComStmtPrepare:
		k.next += 1000
		s, _, err := k.server.PassPrepared(k.client, k.next, k.caps)
		if err != nil {
			return err
		}
		k.ids[k.next] = s.ID
	default:
		if _, err := k.server.Pass(k.client, k.caps); err != nil {
			return err
		}
	}
	return k.client.Flush()
}

// These are the capabilities that decide on the form of answers.
const (
	plain  = mywire.CapMultiStatements | mywire.CapMultiResults | mywire.CapPSMultiResults | mywire.CapLongFlag
	modern = plain | mywire.CapDeprecateEOF | mywire.CapSessionTrack
)

func TestDriverThroughRelay(t *testing.T) {
	_ = mysql.SetLogger(log.New(io.Discard, "", 0))
	socket := mytest.Start(t).Socket
	for name, caps := range map[string]uint32{"plain": plain, "modern": modern} {
		t.Run(name, func(t *testing.T) {
			r := startRelay(t, socket, caps)
			db := open(t, "user:front@tcp("+r.addr+")/app?multiStatements=true&maxAllowedPacket=67108864")
			exercise(t, db)
		})
	}
	t.Run("native password", func(t *testing.T) {
		r := startRelay(t, socket, modern)
		out, err := exec.Command("mariadb", "--no-defaults", "-h127.0.0.1", "-P"+r.addr[strings.LastIndexByte(r.addr, ':')+1:], "-uuser", "-pfront", "--skip-ssl", "-N", "-e", "SELECT 6 * 7").CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "42" {
			t.Errorf("mariadb's own client: %v\n%s", err, out)
		}
	})
	t.Run("refused", func(t *testing.T) {
		r := startRelay(t, socket, modern)
		for _, who := range []string{"user:wrong", "user:", "other:front"} {
			db := open(t, who+"@tcp("+r.addr+")/app")
			var e *mysql.MySQLError
			if err := db.Ping(); !errors.As(err, &e) || e.Number != 1045 {
				t.Errorf("%s: %v, want ERROR 1045", who, err)
			}
		}
	})
}

func open(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(4)
	t.Cleanup(func() { db.Close() })
	return db
}

// exercise has a driver do what applications do.
func exercise(t *testing.T, db *sql.DB) {
	must := func(q string, args ...any) {
		t.Helper()
		if _, err := db.Exec(q, args...); err != nil {
			t.Fatalf("%.100s: %v", q, err)
		}
	}
	must("DROP TABLE IF EXISTS things")
	must("CREATE TABLE things (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(100), data LONGBLOB)")
	big := bytes.Repeat([]byte("sixteen megabyte"), 20<<20/16)
	must("INSERT INTO things (name, data) VALUES (?, ?)", "big", big)
	var got []byte
	if err := db.QueryRow("SELECT data FROM things WHERE name = ?", "big").Scan(&got); err != nil || !bytes.Equal(got, big) {
		t.Fatalf("20 MB came back as %d bytes, %v", len(got), err)
	}
	if err := db.QueryRow("SELECT data FROM things").Scan(&got); err != nil || !bytes.Equal(got, big) {
		t.Fatalf("20 MB as text came back as %d bytes, %v", len(got), err)
	}
	for i := range 3000 {
		if i == 0 {
			continue
		}
		if i%100 == 0 {
			must(fmt.Sprintf("INSERT INTO things (name) VALUES %s", strings.TrimSuffix(strings.Repeat("('many'),", 100), ",")))
		}
	}
	rows, err := db.Query("SELECT id, name FROM things WHERE name = ? ORDER BY id", "many")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for rows.Next() {
		n++
	}
	if rows.Close(); n != 2900 || rows.Err() != nil {
		t.Errorf("%d rows, %v, want 2900", n, rows.Err())
	}
	var e *mysql.MySQLError
	if _, err := db.Exec("SELECT nothing FROM nowhere"); !errors.As(err, &e) || e.Number != 1146 {
		t.Errorf("an error of the server came as %v", err)
	}
	if _, err := db.Prepare("SELEC 1"); !errors.As(err, &e) || e.Number != 1064 {
		t.Errorf("an error of a prepare came as %v", err)
	}
	results, err := db.Query("SELECT 1; SELECT 2, 3; DO 0; SELECT 4")
	if err != nil {
		t.Fatal(err)
	}
	sets := 1
	for results.NextResultSet() {
		sets++
	}
	if results.Close(); sets < 3 {
		t.Errorf("%d result sets", sets)
	}
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("DELETE FROM things"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	statement, err := db.Prepare("SELECT COUNT(*), ? FROM things")
	if err != nil {
		t.Fatal(err)
	}
	defer statement.Close()
	for i := range 10 {
		var count, echo int
		if err := statement.QueryRow(i).Scan(&count, &echo); err != nil || count != 2901 || echo != i {
			t.Fatalf("count %d, echo %d, %v", count, echo, err)
		}
	}
}

func TestErrorsAreNoPanics(t *testing.T) {
	for _, p := range [][]byte{nil, {0}, {0xff}, {10}, bytes.Repeat([]byte{0xfe}, 40), append([]byte{10, 'x', 0}, make([]byte, 20)...)} {
		if _, err := mywire.ParseGreeting(p); err == nil {
			t.Errorf("the greeting %x was taken", p)
		}
		if _, err := mywire.ParseLogin(p); err == nil {
			t.Errorf("the login %x was taken", p)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("\x0a8.0.1\x00\x01\x00\x00\x00aaaaaaaa\x00\xff\xff\x2d\x02\x00\xff\xff\x15aaaaaaaaaaaaaaaaaaaaaaa\x00caching_sha2_password\x00"), 3)
	f.Add((&mywire.Login{Caps: 1<<9 | 1<<15 | 1<<19 | 1<<3, User: "u", Proof: make([]byte, 20), Database: "d", Plugin: "p"}).Append(nil), 1)
	f.Add((&mywire.OK{AffectedRows: 1 << 40, LastInsertID: 70000, Status: 2}).Append(nil), 0)
	f.Add(append([]byte{mywire.ComStmtExecute, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 0}, 7, 0, 0, 0), 1)
	f.Fuzz(func(t *testing.T, p []byte, params int) {
		if g, err := mywire.ParseGreeting(p); err == nil {
			if _, err := mywire.ParseGreeting(g.Append(nil)); err != nil {
				t.Errorf("a greeting that was read, written and read again: %v", err)
			}
		}
		if l, err := mywire.ParseLogin(p); err == nil {
			l.Caps |= mywire.CapSecureConnection
			if len(l.Proof) > 250 {
				l.Caps |= mywire.CapLongAuth
			}
			if _, err := mywire.ParseLogin(l.Append(nil)); err != nil {
				t.Errorf("a login that was read, written and read again: %v", err)
			}
		}
		_, _ = mywire.ParseOK(p)
		_, _ = mywire.ParseError(p)
		if params < 0 || params > 1<<16 {
			return
		}
		if e, err := mywire.ParseExecute(bytes.Clone(p), params); err == nil {
			types := e.Types()
			if types == nil {
				types = make([]byte, 2*params)
			}
			whole, err := e.ForServer(7, types)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := mywire.ParseExecute(whole, params); err != nil || again.ID != 7 || params > 0 && again.Types() == nil {
				t.Errorf("an execution for another server: %v", err)
			}
		}
	})
}
