package postgres_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"selvage/engine/pgwire"
	"selvage/product/hyperdrive/memo"
	"selvage/product/hyperdrive/postgres"
)

// pipe is a connection to somebody who says what is given, whatever is said to it.
type pipe struct {
	io.Reader
	net.Conn
}

func (p pipe) Read(b []byte) (int, error)     { return p.Reader.Read(b) }
func (pipe) Write(b []byte) (int, error)      { return len(b), nil }
func (pipe) Close() error                     { return nil }
func (pipe) SetDeadline(time.Time) error      { return nil }
func (pipe) SetReadDeadline(time.Time) error  { return nil }
func (pipe) SetWriteDeadline(time.Time) error { return nil }

const (
	welcome = "R\x00\x00\x00\x08\x00\x00\x00\x00K\x00\x00\x00\x0c\x00\x00\x00\x01\x00\x00\x00\x02Z\x00\x00\x00\x05I"
	ready   = "Z\x00\x00\x00\x05I"
)

func message(kind byte, body string) string { return string(pgwire.Append(nil, kind, []byte(body))) }

// FuzzSession: whatever a client and a server say, a session ends, and nothing panics.
func FuzzSession(f *testing.F) {
	query := message('Q', "SELECT 1\x00")
	f.Add([]byte(query), []byte("C\x00\x00\x00\x0dSELECT 1\x00"+ready))
	f.Add([]byte(message('P', "a\x00SELECT $1\x00\x00\x00")+message('B', "\x00a\x00\x00\x00\x00\x00\x00\x00")+message('D', "P\x00")+message('E', "\x00\x00\x00\x00\x00")+message('S', "")), []byte("1\x00\x00\x00\x042\x00\x00\x00\x04"+ready))
	f.Add([]byte(message('Q', "COPY t FROM STDIN\x00")+message('d', "x")+message('c', "")), []byte("G\x00\x00\x00\x07\x00\x00\x00"+ready))
	f.Add([]byte(message('Q', "LISTEN x\x00")+message('Q', "SET a = 1\x00")+message('H', "")), []byte(message('E', "Mhyperdrive_refusal_0_\x00\x00")+ready))
	f.Add([]byte(message('C', "Sx\x00")+message('S', "")+message('X', "")), []byte("3\x00\x00\x00\x04"+ready))
	f.Add([]byte(message('B', "\x00nowhere\x00\x00\x00\x00\x00\x00\x00")+message('S', "")+message('F', "abc")), []byte("Z\x00\x00\x00\x05T"))
	f.Fuzz(func(t *testing.T, client, server []byte) {
		// Twice what it says, for the catalogue is read first; the tail ends what the server began.
		said := welcome + string(server) + ready + string(server) + ready
		u := postgres.NewUpstream(postgres.Options{
			Login: pgwire.Login{User: "u", Dial: func(context.Context) (net.Conn, error) { return pipe{Reader: bytes.NewReader([]byte(said))}, nil }},
			Wait:  time.Second, Limit: 2, Memo: memo.New(1 << 20), Sessions: postgres.NewSessions(), ID: "x",
		})
		u.SetPolicy(&memo.Policy{MaxAge: time.Minute})
		defer u.Close()
		c := pipe{Reader: bytes.NewReader(client)}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_ = u.Serve(ctx, postgres.Guest{Client: &pgwire.Client{Conn: c, In: pgwire.NewReader(c, pgwire.NewBuffers(64)), User: "u"}, Source: "test", Ending: t.Context()})
		if ctx.Err() != nil {
			t.Error("the session did not end")
		}
	})
}
