package edge_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"selvage/edge"
)

// brief are limits under which a connection is soon closed when nothing more comes.
var brief = edge.Limits{KeepAlive: 100 * time.Millisecond}

// say sends bytes to a plain listener and returns everything that comes back until the other side
// closes. It does not close its own half: that would be a client that has gone.
func say(t *testing.T, addr, bytes string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, bytes); err != nil {
		return ""
	}
	out, _ := io.ReadAll(c)
	return string(out)
}

// echo is a handler that shows how the request was understood.
func echo(_ context.Context, ex *edge.Exchange) error {
	q := &ex.Request
	var body []byte
	if q.Body != nil {
		var err error
		if body, err = io.ReadAll(q.Body); err != nil {
			return &edge.Failure{Status: 400, Reason: "body", Detail: err.Error()}
		}
	}
	seen := fmt.Sprintf("%s %s%s %s len=%d body=%q te=%q cl=%q up=%q", q.Method, q.Host, q.URI(), q.Proto, q.Length, body,
		q.Header.Get("Transfer-Encoding"), q.Header.Get("Content-Length"), q.Upgrade)
	ex.Respond(200, edge.NewHeader("X-Folded", q.Header.Get("X-Folded")), []byte(seen))
	return nil
}

func TestWhatIsRefusedAndWhatIsUnderstood(t *testing.T) {
	f := start(t, edge.ServerOptions{Handler: echo, Limits: brief})
	const host = "Host: a.test\r\n"
	for _, tt := range []struct{ name, send, want string }{
		// Understood, in exactly one way.
		{"fragment", "GET /x?y#z HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"not a percent-encoding", "GET /%zz HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"raw query", "GET /a%2fb/../c//d|e?x=%zz&y=<> HTTP/1.1\r\n" + host + "\r\n", "GET a.test/a%2fb/../c//d|e?x=%zz&y=<> HTTP/1.1"},
		{"dots stay", "GET /a%2fb/../c//d?q HTTP/1.1\r\n" + host + "\r\n", `GET a.test/a%2fb/../c//d?q HTTP/1.1`},
		{"two slashes", "GET //evil.test/x HTTP/1.1\r\n" + host + "\r\n", `GET a.test//evil.test/x `},
		{"port and case", "GET / HTTP/1.1\r\nHost: A.Test:8080\r\n\r\n", "GET a.test/ "},
		{"trailing dot", "GET / HTTP/1.1\r\nHost: a.test.\r\n\r\n", "GET a.test/ "},
		{"absolute form", "GET http://b.test/p?q HTTP/1.1\r\nHost: a.test\r\n\r\n", "GET b.test/p?q "},
		{"absolute form without path", "GET http://b.test?q HTTP/1.1\r\nHost: a.test\r\n\r\n", "GET b.test/?q "},
		{"options star", "OPTIONS * HTTP/1.1\r\n" + host + "\r\n", "OPTIONS a.test* "},
		{"http 1.2 is answered as 1.1", "GET / HTTP/1.2\r\n" + host + "\r\n", "GET a.test/ HTTP/1.1"},
		{"http 1.0", "GET / HTTP/1.0\r\n" + host + "\r\n", "GET a.test/ HTTP/1.0"},
		{"chunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", `len=-1 body="abc"`},
		{"same length twice", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", `len=3 body="abc"`},
		{"websocket", "GET / HTTP/1.1\r\n" + host + "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n", `up="websocket"`},
		{"h2c upgrade is not passed on", "GET / HTTP/1.1\r\n" + host + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n", `up=""`},
		{"upgrade with a body", "GET / HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc", `body="abc" te="" cl="" up=""`},
		{"folded field is joined", "GET / HTTP/1.1\r\n" + host + "X-Folded: a\r\n b\r\n\r\n", "X-Folded: a b\r\n"},

		// Both lengths: the transfer coding counts (RFC 9112, 6.3), and the origin sees one framing.
		{"length and chunked", "POST / HTTP/1.1\r\n" + host + "Content-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", `len=-1 body="abc" te="" cl=""`},

		// Refused.
		{"no host", "GET / HTTP/1.1\r\n\r\n", "400"},
		{"two hosts", "GET / HTTP/1.1\r\n" + host + "Host: b.test\r\n\r\n", "400"},
		{"empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "400"},
		{"host with space", "GET / HTTP/1.1\r\nHost: a.test b.test\r\n\r\n", "400"},
		{"host with comma", "GET / HTTP/1.1\r\nHost: a.test,b.test\r\n\r\n", "400"},
		{"host with slash", "GET / HTTP/1.1\r\nHost: a.test/b\r\n\r\n", "400"},
		{"host with user", "GET / HTTP/1.1\r\nHost: user@a.test\r\n\r\n", "400"},
		{"host with percent", "GET / HTTP/1.1\r\nHost: a%2etest\r\n\r\n", "400"},
		{"host not utf-8", "GET / HTTP/1.1\r\nHost: \xff\xfe.test\r\n\r\n", "400"},
		{"host in utf-8", "GET / HTTP/1.1\r\nHost: bücher.test\r\n\r\n", "400"},
		{"host with bad port", "GET / HTTP/1.1\r\nHost: a.test:99999\r\n\r\n", "400"},
		{"host with two ports", "GET / HTTP/1.1\r\nHost: a.test:80:80\r\n\r\n", "400"},
		{"absolute form with user", "GET http://u:p@a.test/ HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"absolute form of another scheme", "GET ftp://a.test/ HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"connect", "CONNECT a.test:443 HTTP/1.1\r\n" + host + "\r\n", "405"},
		{"trace", "TRACE / HTTP/1.1\r\n" + host + "\r\n", "405"},
		{"star with get", "GET * HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"different lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "400"},
		{"list of lengths", "POST / HTTP/1.1\r\n" + host + "Content-Length: 3, 3\r\n\r\nabc", "400"},
		{"signed length", "POST / HTTP/1.1\r\n" + host + "Content-Length: +3\r\n\r\nabc", "400"},
		{"hex length", "POST / HTTP/1.1\r\n" + host + "Content-Length: 0x3\r\n\r\nabc", "400"},
		{"chunked twice", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "501"},
		{"unknown coding", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "501"},
		{"identity coding", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc", "501"},
		{"gzip and chunked", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"},
		{"coding with tab", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", "400"},
		{"bad chunk size", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", "400"},
		{"chunk size too large", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n", "400"},
		{"chunk longer than said", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", "400"},
		{"chunk ends in lf", "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", "400"},
		{"space before colon", "GET / HTTP/1.1\r\n" + host + "X-A : b\r\n\r\n", "400"},
		{"space in length's name", "POST / HTTP/1.1\r\n" + host + "Content-Length : 3\r\n\r\nabc", "400"},
		{"field begins with space", "GET / HTTP/1.1\r\n X: y\r\n" + host + "\r\n", "400"},
		{"nul in value", "GET / HTTP/1.1\r\n" + host + "X-A: a\x00b\r\n\r\n", "400"},
		{"cr in value", "GET / HTTP/1.1\r\n" + host + "X-A: a\rHost: b\r\n\r\n", "400"},
		{"space in target", "GET /a b HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"nul in target", "GET /a\x00b HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"bad method", "G(T / HTTP/1.1\r\n" + host + "\r\n", "400"},
		{"http 2.0 in text", "GET / HTTP/2.0\r\n" + host + "\r\n", "505"},
		{"garbage", "\x16\x03\x01\x02\x00\x01\x00 and more of it\r\n\r\n", "400"},
		{"big head", "GET / HTTP/1.1\r\n" + host + "X-A: " + strings.Repeat("a", 33<<10) + "\r\n\r\n", "431"},
		{"many fields", "GET / HTTP/1.1\r\n" + host + strings.Repeat("X-A: b\r\n", 5000) + "\r\n", "431"},
		{"big target", "GET /" + strings.Repeat("a", 40<<10) + " HTTP/1.1\r\n" + host + "\r\n", "431"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := say(t, f.plain, tt.send)
			want := tt.want
			if len(want) == 3 {
				want = "HTTP/1.1 " + want + " "
			}
			if !strings.Contains(got, want) {
				t.Errorf("answer %.300q, want %q in it", got, want)
			}
			if n := strings.Count(got, "HTTP/1.1 "); len(tt.want) == 3 && n != 1 {
				t.Errorf("%d answers to one request: %.500q", n, got)
			}
		})
	}
}

// TestNothingIsReadAfterARefusal sends a request right behind one that cannot be trusted.
func TestNothingIsReadAfterARefusal(t *testing.T) {
	f := start(t, edge.ServerOptions{Handler: echo, Limits: brief})
	const second = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"
	for _, first := range []string{
		"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: x\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
		// One that goes by the length sees another end of this request than we do.
		"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		// HTTP/1.0 has no chunked bodies: what follows the head is not ours to read.
		"POST / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		if got := say(t, f.plain, first+second); strings.Contains(got, "smuggled") {
			t.Errorf("after %q the rest was taken for a request: %q", first, got)
		}
	}
}

func TestMalformedChunksAreABadRequest(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	t.Cleanup(origin.Close)
	f := start(t, edge.ServerOptions{Handler: proxyTo(t, edge.OriginOptions{}, targetOf(t, origin.URL)), Limits: brief})
	got := say(t, f.plain, "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 400 ") {
		t.Errorf("answer %.200q, want 400", got)
	}
}

func TestSlowClientsAreLetGo(t *testing.T) {
	f := start(t, edge.ServerOptions{
		Limits: edge.Limits{HeaderTime: 200 * time.Millisecond, BodyIdle: 200 * time.Millisecond, WriteIdle: 300 * time.Millisecond, KeepAlive: 200 * time.Millisecond},
		Handler: func(_ context.Context, ex *edge.Exchange) error {
			if ex.Request.Body != nil {
				if _, err := io.ReadAll(ex.Request.Body); err != nil {
					return &edge.Failure{Status: 408, Reason: "slow", Detail: err.Error()}
				}
			}
			ex.Response = edge.Response{Status: 200, Length: -1, Body: io.NopCloser(endless{})}
			return nil
		},
	})
	for name, send := range map[string]string{
		"says nothing":       "",
		"half a head":        "GET / HTTP/1.1\r\nHost: a.te",
		"half a body":        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nabc",
		"never reads":        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
		"half a chunk":       "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
		"idle in keep-alive": "GET /%zz HTTP/1.1\r\nHost: a.test\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("tcp", f.plain)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			io.WriteString(c, send)
			c.SetReadDeadline(time.Now().Add(10 * time.Second))
			if name == "never reads" {
				waitClosed(t, c)
				return
			}
			if _, err := io.Copy(io.Discard, c); err != nil {
				t.Errorf("the connection was not closed: %v", err)
			}
		})
	}
}

// waitClosed waits until writing fails, without ever reading.
func waitClosed(t *testing.T, c net.Conn) {
	t.Helper()
	for range 500 {
		if _, err := c.Write([]byte("x")); err != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("a client that never reads is still served")
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestSlowStreamReaderIsLetGo(t *testing.T) {
	ended := make(chan struct{})
	f := start(t, edge.ServerOptions{
		Limits: edge.Limits{WriteIdle: 200 * time.Millisecond},
		Handler: func(_ context.Context, ex *edge.Exchange) error {
			ex.Response = edge.Response{Status: 200, Length: -1, Body: &closing{endless{}, ended}}
			return nil
		},
	})
	res, err := f.client(t, true).Get("https://example.com/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	select { // not a byte is read: the stream's window fills
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the stream was not ended")
	}
}

type closing struct {
	io.Reader
	closed chan struct{}
}

func (c *closing) Close() error { close(c.closed); return nil }

func TestTooManyConnections(t *testing.T) {
	f := start(t, edge.ServerOptions{Handler: echo, Limits: edge.Limits{Connections: 2, KeepAlive: 5 * time.Second}})
	var held []net.Conn
	for range 2 {
		c, err := net.Dial("tcp", f.plain)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	if got := say(t, f.plain, "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"); got != "" {
		t.Errorf("the third connection got %q", got)
	}
	held[0].Close()
	for range 100 {
		if strings.Contains(say(t, f.plain, "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"), "200 OK") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("no room after a connection was closed")
}

// TestH2Authority sends what a well-behaved client would not.
func TestH2Authority(t *testing.T) {
	f := start(t, edge.ServerOptions{Handler: echo})
	for _, tt := range []struct {
		name   string
		fields []hpack.HeaderField
		want   string
	}{
		{"fine", pseudo("GET", "https", "a.test", "/"), "200"},
		{"scheme differs from the connection's", pseudo("GET", "http", "a.test", "/"), "200"},
		{"same host twice", append(pseudo("GET", "https", "a.test", "/"), hpack.HeaderField{Name: "host", Value: "a.test"}), "200"},
		{"host differs", append(pseudo("GET", "https", "a.test", "/"), hpack.HeaderField{Name: "host", Value: "b.test"}), "400"},
		{"user in authority", pseudo("GET", "https", "u@a.test", "/"), "reset or 400"},
		{"authority not utf-8", pseudo("GET", "https", "\xff.test", "/"), "400"},
		{"authority with slash", pseudo("GET", "https", "a.test/x", "/"), "400"},
		{"target is not a path", pseudo("GET", "https", "a.test", "x"), "reset"},
		{"target is a url", pseudo("GET", "https", "a.test", "https://b.test/"), "reset or 400"},
		{"target with a space", pseudo("GET", "https", "a.test", "/a HTTP/1.1"), "reset or 400"},
		{"query with a tab", pseudo("GET", "https", "a.test", "/?a\tb"), "reset or 400"},
		{"method with a space", pseudo("GET /b", "https", "a.test", "/"), "reset or 400"},
		{"connection field", append(pseudo("GET", "https", "a.test", "/"), hpack.HeaderField{Name: "connection", Value: "x"}), "reset or 400"},
		{"transfer-encoding", append(pseudo("POST", "https", "a.test", "/"), hpack.HeaderField{Name: "transfer-encoding", Value: "chunked"}), "reset or 400"},
		{"upper case", append(pseudo("GET", "https", "a.test", "/"), hpack.HeaderField{Name: "X-A", Value: "b"}), "reset"},
		{"newline in value", append(pseudo("GET", "https", "a.test", "/"), hpack.HeaderField{Name: "x-a", Value: "b\r\nhost: c"}), "reset"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := askH2(t, f, tt.fields); !strings.Contains(tt.want, got) {
				t.Errorf("answer %s, want %s", got, tt.want)
			}
		})
	}
}

func pseudo(method, scheme, authority, path string) []hpack.HeaderField {
	return []hpack.HeaderField{{Name: ":method", Value: method}, {Name: ":scheme", Value: scheme}, {Name: ":authority", Value: authority}, {Name: ":path", Value: path}}
}

// askH2 sends one header block and returns the status, or "reset".
func askH2(t *testing.T, f *front, fields []hpack.HeaderField) string {
	t.Helper()
	c, err := tls.Dial("tcp", f.secure, &tls.Config{RootCAs: f.roots, ServerName: "example.com", NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, http2.ClientPreface)
	fr := http2.NewFramer(c, c)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	fr.WriteSettings()
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	for _, h := range fields {
		enc.WriteField(h)
	}
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()), EndStream: true, EndHeaders: true})
	for {
		frame, err := fr.ReadFrame()
		if err != nil {
			return "reset"
		}
		switch frame := frame.(type) {
		case *http2.MetaHeadersFrame:
			return frame.PseudoValue("status")
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return "reset"
		}
	}
}

func FuzzParseAuthority(f *testing.F) {
	for _, s := range []string{"a.test", "A.b:80", "[::1]:443", "[::ffff:1.2.3.4]", "x..y", "a.test.", "\xff", "u@h", "1.2.3.4", ":", "[", "a:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, port, ok := edge.ParseAuthority(s)
		if !ok {
			return
		}
		if host == "" || host != strings.ToLower(host) || strings.ContainsAny(host, "/@%?# \\\r\n\x00[]") || len(port) > 5 {
			t.Errorf("ParseAuthority(%q) = %q, %q", s, host, port)
		}
		again := host
		if strings.Contains(host, ":") {
			again = "[" + host + "]"
		}
		if h, p, ok := edge.ParseAuthority(again); !ok || h != host || p != "" {
			t.Errorf("ParseAuthority(%q) = %q, which gives %q, %v", s, host, h, ok)
		}
	})
}

// FuzzTarget sends a target through the edge to an origin: what is not refused arrives as it was.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{"/", "/a%2fb/../c//d|e?x=%zz&y=<>", "//evil.test/x", "/?", "/a?b?c", "/%", "*", "/\xff", "/a;b=c", "/:80", "/a\\b", "/\"x\"", "///", "/http://a.test/"} {
		f.Add(s)
	}
	lines := make(chan string, 10)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(c).ReadString('\n')
			lines <- line
			io.WriteString(c, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
			c.Close()
		}
	}()
	front := start(f, edge.ServerOptions{Handler: proxyTo(f, edge.OriginOptions{}, targetOf(f, "http://"+ln.Addr().String())), Limits: brief})
	f.Fuzz(func(t *testing.T, target string) {
		if strings.ContainsAny(target, "\r\n") {
			return
		}
		got := say(t, front.plain, "GET "+target+" HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 204") {
			return
		}
		line := <-lines
		if strings.HasPrefix(target, "//") || !strings.HasPrefix(target, "/") {
			return // may be encoded anew, or was a URL
		}
		if want := "GET " + target + " HTTP/1.1\r\n"; strings.TrimSuffix(line, "? HTTP/1.1\r\n") != strings.TrimSuffix(want, "? HTTP/1.1\r\n") && line != strings.Replace(want, "? ", " ", 1) {
			t.Errorf("the origin got %q, want %q", line, want)
		}
	})
}
