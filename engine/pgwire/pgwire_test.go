package pgwire_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net"
	"testing"
	"time"

	"selvage/engine/pgwire"
)

// pipe is a connection to nobody that says what it is given.
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

// TestLogin has both sides of this package log in to each other.
func TestLogin(t *testing.T) {
	for _, c := range []struct {
		name, knows string
		plain, ok   bool
	}{{"scram", "pässword", false, true}, {"scram, wrong", "x", false, false}, {"plain", "pässword", true, true}, {"plain, wrong", "", true, false}} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			served := make(chan error, 1)
			go func() {
				conn, err := l.Accept()
				if err != nil {
					served <- err
					return
				}
				defer conn.Close()
				o, err := pgwire.Accept(conn, pgwire.NewReader(conn, pgwire.NewBuffers(512)))
				if err == nil && c.plain {
					err = o.Client.CheckPlain("pässword")
				} else if err == nil {
					err = o.Client.CheckScram(pgwire.NewVerifier("pässword"))
				}
				if err != nil {
					conn.Write((&pgwire.Failure{Severity: "FATAL", Code: "28P01", Message: "no"}).Append(nil))
				} else {
					err = o.Client.Welcome(maps.All(map[string]string{"a": "b"}), [8]byte{1, 2, 3})
				}
				served <- err
			}()
			login := pgwire.Login{User: "u", Password: c.knows, Database: "d", Buffers: pgwire.NewBuffers(512), Dial: func(ctx context.Context) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
			}}
			s, err := login.Connect(t.Context())
			if (err == nil) != c.ok {
				t.Fatalf("Connect() = %v", err)
			}
			if err := <-served; (err == nil) != c.ok || err != nil && !errors.Is(err, pgwire.ErrPassword) {
				t.Errorf("the server says %v", err)
			}
			var f *pgwire.Failure
			if err != nil && (!errors.As(err, &f) || f.Code != "28P01") {
				t.Errorf("Connect() = %v, want SQLSTATE 28P01", err)
			}
			if err == nil {
				if s.Parameters["a"] != "b" || s.Key != [8]byte{1, 2, 3} {
					t.Errorf("Connect() = %+v", s)
				}
				s.Conn.Close()
			}
		})
	}
}

func startup(body string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))
	return append(append(b, 0, 3, 0, 0), body...)
}

func FuzzAccept(f *testing.F) {
	f.Add(startup("user\x00me\x00database\x00d\x00\x00"))
	f.Add([]byte{0, 0, 0, 8, 4, 210, 22, 47})
	f.Add([]byte{0, 0, 0, 16, 4, 210, 22, 46, 1, 2, 3, 4, 5, 6, 7, 8})
	v := pgwire.NewVerifier("x")
	f.Fuzz(func(t *testing.T, data []byte) {
		c := pipe{Reader: bytes.NewReader(data)}
		o, err := pgwire.Accept(c, pgwire.NewReader(c, pgwire.NewBuffers(64)))
		if err == nil && o.Client != nil {
			if o.Client.CheckScram(v) == nil {
				t.Error("a client got in without the password")
			}
		}
	})
}

func FuzzConnect(f *testing.F) {
	f.Add([]byte("R\x00\x00\x00\x08\x00\x00\x00\x00S\x00\x00\x00\x08a\x00b\x00Z\x00\x00\x00\x05I"))
	f.Add([]byte("R\x00\x00\x00\x17\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00R\x00\x00\x00\x10\x00\x00\x00\x0br=,s=,i="))
	f.Add((&pgwire.Failure{Code: "28P01", Message: "m"}).Append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		l := pgwire.Login{User: "u", Buffers: pgwire.NewBuffers(64), Dial: func(context.Context) (net.Conn, error) { return pipe{Reader: bytes.NewReader(data)}, nil }}
		if s, err := l.Connect(context.Background()); err == nil {
			s.Conn.Close()
		}
	})
}
