package hyperdrive_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"selvage/product/hyperdrive"
	"selvage/product/hyperdrive/pgtest"
)

// raw sends messages at once and returns what comes until so many ReadyForQuery, in short.
func raw(t *testing.T, c *pgx.Conn, ready int, messages ...pgproto3.FrontendMessage) string {
	t.Helper()
	f := c.PgConn().Frontend()
	c.PgConn().Conn().SetDeadline(time.Now().Add(20 * time.Second))
	for _, m := range messages {
		f.Send(m)
	}
	must(t, f.Flush())
	var got []string
	for ready > 0 {
		m, err := f.Receive()
		if err != nil {
			t.Fatalf("after %v: %v", got, err)
		}
		switch m := m.(type) {
		case *pgproto3.ParseComplete:
			got = append(got, "1")
		case *pgproto3.BindComplete:
			got = append(got, "2")
		case *pgproto3.CloseComplete:
			got = append(got, "3")
		case *pgproto3.DataRow:
			got = append(got, "D:"+string(m.Values[0]))
		case *pgproto3.CommandComplete:
			got = append(got, "C:"+string(m.CommandTag))
		case *pgproto3.CopyInResponse:
			got = append(got, "G")
		case *pgproto3.ErrorResponse:
			got = append(got, "E:"+m.Code)
		case *pgproto3.ParameterDescription:
			got = append(got, "t")
		case *pgproto3.RowDescription:
			got = append(got, "T")
		case *pgproto3.NoData:
			got = append(got, "n")
		case *pgproto3.ReadyForQuery:
			ready--
			got = append(got, "Z"+string(m.TxStatus))
		}
	}
	return strings.Join(got, " ")
}

func TestMessages(t *testing.T) {
	pg := pgtest.Start(t)
	d := newDesk(t, hyperdrive.Options{})
	a := d.config("one", pg.Port, `"caching":{"disabled":true},"origin_connection_limit":5`)
	setup := a.connect("default_query_exec_mode=simple_protocol")
	run(t, setup, "CREATE TABLE t (a int)")
	query := func(sql string) *pgproto3.Query { return &pgproto3.Query{String: sql} }
	data := func(s string) *pgproto3.CopyData { return &pgproto3.CopyData{Data: []byte(s)} }
	sync, done, execute := &pgproto3.Sync{}, &pgproto3.CopyDone{}, &pgproto3.Execute{}
	all := func(m ...pgproto3.FrontendMessage) []pgproto3.FrontendMessage { return m }
	for _, c := range []struct {
		name     string
		messages []pgproto3.FrontendMessage
		want     string
	}{
		{"two queries", all(query("SELECT 1"), query("SELECT 2")), "T D:1 C:SELECT 1 ZI T D:2 C:SELECT 1 ZI"},
		{"COPY at once", all(query("COPY t FROM STDIN"), data("1\n"), data("2\n"), done), "G C:COPY 2 ZI"},
		{"COPY that fails, data come late", all(query("COPY t FROM STDIN"), data("x\n"), data("1\n"), done, query("SELECT 3")), "G E:22P02 ZI T D:3 C:SELECT 1 ZI"},
		{"COPY given up", all(query("COPY t FROM STDIN"), data("1\n"), &pgproto3.CopyFail{Message: "no"}), "G E:57014 ZI"},
		{"COPY by extended query", all(&pgproto3.Parse{Query: "COPY t FROM STDIN"}, &pgproto3.Bind{}, execute, sync, data("5\n"), done, sync), "1 2 G C:COPY 1 ZI"},
		{"COPY by extended query that fails", all(&pgproto3.Parse{Query: "COPY t FROM STDIN"}, &pgproto3.Bind{}, execute, sync, data("x\n"), done, sync), "1 2 G E:22P02 ZI"},
		{"after that", all(query("SELECT count(*) FROM t")), "T D:3 C:SELECT 1 ZI"},
		{"named", all(&pgproto3.Parse{Name: "s", Query: "SELECT $1::int"}, &pgproto3.Describe{ObjectType: 'S', Name: "s"}, sync), "1 t T ZI"},
		{"used twice", all(&pgproto3.Bind{PreparedStatement: "s", Parameters: [][]byte{[]byte("7")}}, execute, &pgproto3.Bind{PreparedStatement: "s", Parameters: [][]byte{[]byte("8")}}, execute, sync), "2 D:7 C:SELECT 1 2 D:8 C:SELECT 1 ZI"},
		{"all deallocated by extended query", all(&pgproto3.Parse{Query: "DEALLOCATE ALL"}, &pgproto3.Bind{}, execute, sync), "1 2 C:DEALLOCATE ALL ZI"},
		{"used after that", all(&pgproto3.Parse{Name: "u", Query: "SELECT 9"}, &pgproto3.Bind{PreparedStatement: "u"}, execute, sync), "1 2 D:9 C:SELECT 1 ZI"},
		{"the same for another name", all(&pgproto3.Parse{Name: "v", Query: "SELECT 9"}, &pgproto3.Bind{PreparedStatement: "v"}, execute, sync), "1 2 D:9 C:SELECT 1 ZI"},
		{"deallocated by name", all(query(`DEALLOCATE "v"`), &pgproto3.Bind{PreparedStatement: "v"}, sync), "C:DEALLOCATE ALL ZI E:26000 ZI"},
		{"closed", all(&pgproto3.Close{ObjectType: 'S', Name: "u"}, sync, &pgproto3.Bind{PreparedStatement: "u"}, sync), "3 ZI E:26000 ZI"},
		{"an error in a pipeline", all(&pgproto3.Parse{Name: "w", Query: "SELECT 1/0"}, &pgproto3.Bind{PreparedStatement: "w"}, execute, &pgproto3.Parse{Name: "x", Query: "SELECT 10"}, &pgproto3.Bind{PreparedStatement: "x"}, execute, sync,
			&pgproto3.Bind{PreparedStatement: "w"}, sync, &pgproto3.Parse{Name: "x", Query: "SELECT 10"}, &pgproto3.Bind{PreparedStatement: "x"}, execute, sync), "1 E:22012 ZI E:22012 ZI 1 2 D:10 C:SELECT 1 ZI"},
		{"only Sync", all(sync, sync), "ZI ZI"},
		{"unnamed over two batches", all(&pgproto3.Parse{Query: "SELECT 11"}, sync, &pgproto3.Bind{}, execute, sync), "1 ZI 2 D:11 C:SELECT 1 ZI"},
		{"a transaction in pieces", all(query("BEGIN"), &pgproto3.Parse{Query: "SELECT 12"}, &pgproto3.Bind{}, execute, sync, query("ROLLBACK")), "C:BEGIN ZT 1 2 D:12 C:SELECT 1 ZT C:ROLLBACK ZI"},
		{"a refusal in a pipeline", all(&pgproto3.Parse{Query: "LISTEN x"}, &pgproto3.Bind{}, execute, sync, query("SELECT 13")), "E:0A000 ZI T D:13 C:SELECT 1 ZI"},
		{"nothing", all(query("")), "ZI"},
	} {
		if got := raw(t, setup, strings.Count(c.want, "Z"), c.messages...); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
	}
	if s := a.stats(); s.Connections > 2 || s.Connections != s.Idle {
		t.Errorf("connections are not given back: %+v", s)
	}
}

// TestSchemaChange: a prepared statement whose result changed its type fails once for each client that
// has it, not for ever.
func TestSchemaChange(t *testing.T) {
	pg := pgtest.Start(t)
	d := newDesk(t, hyperdrive.Options{})
	a := d.config("one", pg.Port, `"caching":{"disabled":true},"origin_connection_limit":5`)
	c, other := a.connect(""), a.connect("")
	run(t, c, "CREATE TABLE t (a int)")
	run(t, c, "INSERT INTO t VALUES (1)")
	read := func(c *pgx.Conn) error {
		rows, err := c.Query(t.Context(), "SELECT * FROM t")
		if err != nil {
			return err
		}
		rows.Close()
		return rows.Err()
	}
	for _, c := range []*pgx.Conn{c, other, c} {
		must(t, read(c))
	}
	run(t, c, "ALTER TABLE t ADD b text")
	for _, c := range []*pgx.Conn{c, other} {
		failed := 0
		for read(c) != nil {
			if failed++; failed > 3 {
				t.Fatal("a stale statement fails for ever")
			}
		}
	}
}

// TestRubbish: what is no protocol ends the connection and harms nobody.
func TestRubbish(t *testing.T) {
	pg := pgtest.Start(t)
	d := newDesk(t, hyperdrive.Options{})
	a := d.config("one", pg.Port, "")
	well := a.connect("")
	for _, sent := range []string{"", "GET / HTTP/1.1\r\n\r\n", "\x00\x00\x00\x08\x04\xd2\x16\x2f", "\x00\x00\x00\x09\x00\x03\x00\x00\x00", "\xff\xff\xff\xff\x00\x03\x00\x00", strings.Repeat("\x00", 100)} {
		c, err := net.Dial("tcp", d.addr)
		must(t, err)
		fmt.Fprint(c, sent)
		c.(*net.TCPConn).CloseWrite()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		for buf := make([]byte, 1000); err == nil; _, err = c.Read(buf) {
		}
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			t.Errorf("%q is not hung up on", sent)
		}
		c.Close()
	}
	for _, sent := range []string{"Q\x00\x00\x00\x00", "?\x00\x00\x00\x04", "Q\x7f\xff\xff\xff", "P\x00\x00\x00\x05x", "B\x00\x00\x00\x04", "D\x00\x00\x00\x04", "Q\x00\x00\x00\x05x"} {
		c := a.connect("")
		c.PgConn().Conn().SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprint(c.PgConn().Conn(), sent)
		if m, err := c.PgConn().Frontend().Receive(); err == nil {
			if e, ok := m.(*pgproto3.ErrorResponse); !ok || e.Code != "08P01" {
				t.Errorf("%q is answered by %#v", sent, m)
			}
		}
	}
	if got := one(t, well, "SELECT 'well'"); got != "well" {
		t.Errorf("a neighbour gets %q", got)
	}
}

// TestRefusedQuery: a database that lets a user in and answers nothing has a code of its own.
func TestRefusedQuery(t *testing.T) {
	d := newDesk(t, hyperdrive.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- refuseQuery(l) }()
	origin := fmt.Sprintf(`{"scheme":"postgres","host":"127.0.0.1","port":%d,"database":"d","user":"u","password":"p"}`, l.Addr().(*net.TCPAddr).Port)
	g := d.call("POST", "A/hyperdrive/configs", `{"name":"x","origin":`+origin+`}`)
	l.Close()
	if err := <-done; err != nil {
		t.Errorf("the database: %v", err)
	}
	if g.Success || g.Status != 400 || g.Errors[0].Code != 2016 || !strings.Contains(g.Body, "not today") {
		t.Errorf("= %d %s, want code 2016", g.Status, g.Body)
	}
}

// refuseQuery is a database for one client: it asks for no password and refuses the first query.
func refuseQuery(l net.Listener) error {
	c, err := l.Accept()
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	b := pgproto3.NewBackend(c, c)
	for {
		m, err := b.ReceiveStartupMessage()
		if err != nil {
			return err
		}
		if _, ok := m.(*pgproto3.StartupMessage); ok {
			break
		}
		if _, err := c.Write([]byte("N")); err != nil { // no TLS
			return err
		}
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	if err := b.Flush(); err != nil {
		return err
	}
	if _, err := b.Receive(); err != nil {
		return err
	}
	b.Send(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "42501", Message: "not today"})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	return b.Flush()
}
