package wire_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"selvage/engine/isolate/wire"
)

// serve lets f speak on each connection to a socket, and returns a client of it.
func serve(t testing.TB, f func(c net.Conn, r *bufio.Reader)) *wire.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "wire")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	client := &wire.Client{Path: path, CFHeader: "x-cf", Mark: "x-mark"}
	t.Cleanup(func() {
		client.Close()
		l.Close()
		os.RemoveAll(dir)
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c, bufio.NewReader(c))
			}()
		}
	}()
	return client
}

// head reads one head.
func head(r *bufio.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		b.WriteString(line)
		if err != nil || line == "\r\n" {
			return b.String(), err
		}
	}
}

// always answers each request without a body with the same bytes; last says that it then closes.
func always(t testing.TB, answer string, last bool) *wire.Client {
	return serve(t, func(c net.Conn, r *bufio.Reader) {
		for {
			if _, err := head(r); err != nil {
				return
			}
			io.WriteString(c, answer)
			if last {
				return
			}
		}
	})
}

func get(method string) *wire.Request {
	return &wire.Request{Method: method, Scheme: "http", Host: "h", Target: "/"}
}

func TestResponses(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, c := range []struct {
		name, method, answer string
		last                 bool
		status               int
		body, fault          string
		length               int64
	}{
		{"counted", "GET", ok + "Content-Length: 2\r\n\r\nhi", false, 200, "hi", "", 2},
		{"chunked", "GET", ok + "Transfer-Encoding: chunked\r\n\r\n1;x=y\r\nh\r\n01\r\ni\r\n0\r\nTrailer: gone\r\n\r\n", false, 200, "hi", "", -1},
		{"until the end", "GET", ok + "\r\nhi", true, 200, "hi", "", -1},
		{"no reason", "GET", "HTTP/1.1 204\r\n\r\n", false, 204, "", "", -1},
		{"head", "HEAD", ok + "Content-Length: 99\r\n\r\n", false, 200, "", "", 99},
		{"not modified", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false, 304, "", "", 5},
		{"interim", "GET", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok + "Content-Length: 0\r\n\r\n", false, 200, "", "", 0},
		{"same length twice", "GET", ok + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi", false, 200, "hi", "", 2},
		{"long head", "GET", ok + "X: " + strings.Repeat("y", 100<<10) + "\r\nContent-Length: 0\r\n\r\n", false, 200, "", "", 0},
		{"cut", "GET", ok + "Content-Length: 3\r\n\r\nhi", true, 200, "hi", "unexpected EOF", 3},
		{"cut chunk", "GET", ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhi", true, 200, "hi", "unexpected EOF", -1},
		{"no last chunk", "GET", ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", true, 200, "hi", "unexpected EOF", -1},
		{"nothing", "GET", "", true, 0, "", "unexpected EOF", 0},
		{"half a head", "GET", ok + "X: ", true, 0, "", "unexpected EOF", 0},
		{"bad size", "GET", ok + "Transfer-Encoding: chunked\r\n\r\n-1\r\n", false, 200, "", "chunk size", -1},
		{"bad end", "GET", ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nhixx\r\n", false, 200, "hi", "line end", -1},
		{"two lengths", "GET", ok + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi", false, 0, "", "Content-Length", 0},
		{"both", "GET", ok + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nhi", false, 0, "", "both", 0},
		{"plus", "GET", ok + "Content-Length: +2\r\n\r\nhi", false, 0, "", "Content-Length", 0},
		{"gzip", "GET", ok + "Transfer-Encoding: gzip\r\n\r\n", false, 0, "", "Transfer-Encoding", 0},
		{"bare line feed", "GET", ok + "X: a\nY: b\r\n\r\n", false, 0, "", "field line", 0},
		{"folded", "GET", ok + "X: a\r\n b\r\n\r\n", false, 0, "", "field line", 0},
		{"status", "GET", "HTTP/1.1 20 OK\r\n\r\n", false, 0, "", "status line", 0},
		{"not HTTP", "GET", "SSH-2.0-OpenSSH_9.9\r\n\r\n", false, 0, "", "status line", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := always(t, c.answer, c.last)
			resp, err := client.Do(t.Context(), get(c.method))
			if c.status == 0 {
				if err == nil || !strings.Contains(err.Error(), c.fault) {
					t.Errorf("Do() = %v, want %q", err, c.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.Status != c.status || string(body) != c.body || resp.Length != c.length {
				t.Errorf("got %d %q length %d, want %d %q %d", resp.Status, body, resp.Length, c.status, c.body, c.length)
			}
			if c.fault == "" && err != nil || c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault)) {
				t.Errorf("read error %v, want %q", err, c.fault)
			}
		})
	}
}

func TestRequestHead(t *testing.T) {
	client := serve(t, func(c net.Conn, r *bufio.Reader) {
		h, _ := head(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n"+h)
	})
	r := &wire.Request{Method: "POST", Scheme: "https", Host: "EX.com:443", Target: "/a b\"?q=ü", Upgrade: "websocket", CF: []byte(`{"c":"é😀"}`),
		Header: func(yield func(string, string) bool) {
			for _, f := range [][2]string{{"Cookie", "a=1"}, {"X-CF", "forged"}, {"Host", "forged"}, {"cookie", "b=2"}, {"Transfer-Encoding", "chunked"}, {"A", "b"}, {"Expect", "100-continue"}} {
				if !yield(f[0], f[1]) {
					return
				}
			}
		}}
	resp, err := client.Do(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, _ := io.ReadAll(resp.Body)
	want := "POST https://ex.com/a%20b%22?q=%C3%BC HTTP/1.1\r\nhost: ex.com\r\nA: b\r\ncookie: a=1; b=2\r\n" +
		`x-cf: {"c":"\u00e9\ud83d\ude00"}` + "\r\nconnection: Upgrade\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n"
	if string(got) != want {
		t.Errorf("sent\n%s\nwant\n%s", got, want)
	}
	for _, bad := range []*wire.Request{
		{Method: "G T", Host: "h"}, {Method: "GET", Host: "h/x"}, {Method: "GET", Host: "a b"}, {Method: "GET"},
		{Method: "GET", Host: "h", Header: func(yield func(string, string) bool) { yield("a", "b\r\nc: d") }},
		{Method: "GET", Host: "h", Header: func(yield func(string, string) bool) { yield("a b", "c") }},
		{Method: "GET", Host: "h", CF: []byte("{\r\n}")},
	} {
		bad.Scheme = "http"
		if _, err := client.Do(t.Context(), bad); err == nil {
			t.Errorf("Do(%+v) was not refused", bad)
		}
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	conns := make(chan struct{}, 100)
	client := serve(t, func(c net.Conn, r *bufio.Reader) {
		conns <- struct{}{}
		for {
			if _, err := head(r); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
		}
	})
	for range 10 {
		resp, err := client.Do(t.Context(), get("GET"))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	if n := len(conns); n != 1 {
		t.Errorf("10 requests took %d connections, want 1", n)
	}
	// One that is not read to its end takes its connection along.
	resp, err := client.Do(t.Context(), get("GET"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp, err = client.Do(t.Context(), get("GET")); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if n := len(conns); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

func TestUnreadRequestIsToldApart(t *testing.T) {
	gone := make(chan struct{})
	for name, c := range map[string]struct {
		serve  func(c net.Conn, r *bufio.Reader)
		unread bool
	}{
		"not read": {func(c net.Conn, r *bufio.Reader) { <-gone }, true},
		"read":     {func(c net.Conn, r *bufio.Reader) { head(r) }, false},
	} {
		client := serve(t, c.serve)
		time.AfterFunc(50*time.Millisecond, func() {
			select {
			case gone <- struct{}{}:
			default:
			}
		})
		_, err := client.Do(t.Context(), get("GET"))
		var lost *wire.LostError
		if !errors.As(err, &lost) || lost.Unread != c.unread || lost.Answered {
			t.Errorf("%s: %+v, want unread %v", name, err, c.unread)
		}
	}
}

func TestEndOfContextEndsTheExchange(t *testing.T) {
	hold := make(chan struct{})
	defer close(hold)
	client := serve(t, func(c net.Conn, r *bufio.Reader) {
		head(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
		<-hold
	})
	ctx, cancel := context.WithCancel(t.Context())
	resp, err := client.Do(ctx, get("GET"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, context.Canceled) {
		t.Errorf("read error %v, want %v", err, context.Canceled)
	}
}

func TestBodies(t *testing.T) {
	client := serve(t, func(c net.Conn, r *bufio.Reader) {
		h, _ := head(r)
		var body string
		if strings.Contains(h, "chunked") {
			for {
				line, err := r.ReadString('\n')
				body += line
				if err != nil || line == "0\r\n" {
					break
				}
			}
		} else {
			b := make([]byte, 5)
			io.ReadFull(r, b)
			body = string(b)
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"+body)
	})
	for _, c := range []struct {
		body   io.Reader
		length int64
		want   string
	}{
		{strings.NewReader("hello"), 5, "hello"},
		{strings.NewReader("hello, and more than was said"), 5, "hello"},
		{iotest.HalfReader(strings.NewReader(strings.Repeat("x", 17))), -1, "11\r\n" + strings.Repeat("x", 17) + "\r\n0\r\n"},
		{strings.NewReader("no"), 5, "unexpected EOF"},
		{iotest.ErrReader(errors.New("client gone")), 5, "client gone"},
	} {
		r := get("POST")
		r.Body, r.Length = c.body, c.length
		resp, err := client.Do(t.Context(), r)
		if err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("Do() = %v, want %q", err, c.want)
			}
			continue
		}
		got, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(got) != c.want {
			t.Errorf("sent %q, want %q", got, c.want)
		}
	}
}

func FuzzResponse(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n0\r\n\r\n")
	f.Add("HTTP/1.1 101 x\r\n\r\n")
	answers := make(chan string, 1)
	client := serve(f, func(c net.Conn, r *bufio.Reader) {
		head(r)
		io.WriteString(c, <-answers)
	})
	f.Fuzz(func(t *testing.T, answer string) {
		answers <- answer
		r := get("GET")
		r.Fresh = true
		resp, err := client.Do(t.Context(), r)
		if err != nil {
			return
		}
		if resp.Tunnel != nil {
			resp.Tunnel.Close()
			return
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	})
}

func BenchmarkDo(b *testing.B) {
	client := serve(b, func(c net.Conn, r *bufio.Reader) {
		buf := make([]byte, 4096)
		answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\nx-mark: 1\r\n\r\nhello")
		for {
			if _, err := r.Read(buf); err != nil {
				return
			}
			c.Write(answer)
		}
	})
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		resp, err := client.Do(b.Context(), get("GET"))
		if err != nil {
			b.Fatal(err)
		}
		for err == nil {
			_, err = resp.Body.Read(buf)
		}
		resp.Body.Close()
	}
}
