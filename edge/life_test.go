package edge_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"selvage/edge"
	"selvage/foundation/fault"
	"selvage/foundation/observe"
)

// talker is an origin that echoes over WebSocket and says who connected.
func talker(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"chat"}, InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer c.CloseNow()
	c.SetReadLimit(1 << 20)
	for {
		typ, msg, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if string(msg) == "bye" {
			c.Close(websocket.StatusGoingAway, "farewell")
			return
		}
		c.Write(r.Context(), typ, msg)
	}
}

func TestWebSocket(t *testing.T) {
	var events observe.Events
	o := edge.ServerOptions{Handler: edge.Compress(proxyTo(t, edge.OriginOptions{}, origin(t, talker))), Observe: observe.Observer{Events: &events}}
	f := start(t, o)
	log := events.Watch(10)
	defer log.Close()
	for _, scheme := range []string{"ws", "wss"} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		c, res, err := websocket.Dial(ctx, scheme+"://example.com/chat", &websocket.DialOptions{HTTPClient: f.client(t, false), Subprotocols: []string{"chat"}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.CloseNow()
		if c.Subprotocol() != "chat" || res.Header.Get("CF-Ray") == "" || res.Header.Get("Server") != "selvage" {
			t.Errorf("head of the tunnel: %v", res.Header)
		}
		c.SetReadLimit(1 << 20)
		for _, msg := range []string{"hello", strings.Repeat("x", 300_000)} {
			if err := c.Write(ctx, websocket.MessageText, []byte(msg)); err != nil {
				t.Fatal(err)
			}
			if _, got, err := c.Read(ctx); err != nil || string(got) != msg {
				t.Fatalf("echo of %d bytes: %d bytes, %v", len(msg), len(got), err)
			}
		}
		c.Write(ctx, websocket.MessageText, []byte("bye"))
		if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
			t.Errorf("at the end: %v", err)
		}
		if ev := <-log.C; attrs(ev)["status"] != "101" || attrs(ev)["bytes_out"] == "0" {
			t.Errorf("event %v", ev.Attrs)
		}
	}
}

func TestWebSocketRefusedByOriginLeavesTheConnectionUsable(t *testing.T) {
	refusal := origin(t, func(w http.ResponseWriter, r *http.Request) { http.Error(w, r.URL.Path, http.StatusForbidden) })
	f := start(t, edge.ServerOptions{Handler: proxyTo(t, edge.OriginOptions{}, refusal), Limits: brief})
	got := say(t, f.plain, "GET /one HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET /two HTTP/1.1\r\nHost: a.test\r\n\r\n")
	if strings.Count(got, "HTTP/1.1 403") != 2 || !strings.Contains(got, "/one") || !strings.Contains(got, "/two") {
		t.Errorf("answers %q", got)
	}
}

func TestSilentTunnelEnds(t *testing.T) {
	f := start(t, edge.ServerOptions{Limits: edge.Limits{TunnelIdle: 200 * time.Millisecond}, Handler: proxyTo(t, edge.OriginOptions{}, origin(t, talker))})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://example.com/", &websocket.DialOptions{HTTPClient: f.client(t, false)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if _, _, err := c.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("a silent tunnel goes on: %v", err)
	}
}

func attrs(ev observe.Event) map[string]string {
	m := map[string]string{}
	for _, a := range ev.Attrs {
		m[a.Key] = a.Value.String()
	}
	return m
}

func TestEveryRequestIsSeenOnce(t *testing.T) {
	events, registry := &observe.Events{}, prometheus.NewRegistry()
	h := proxyTo(t, edge.OriginOptions{Observe: observe.Observer{Metrics: registry}}, origin(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "0123456789")
	}))
	f := start(t, edge.ServerOptions{Handler: h, Observe: observe.Observer{Events: events, Metrics: registry}})
	log := events.Watch(10)
	defer log.Close()
	req, _ := http.NewRequest("POST", "https://example.com/a?b", strings.NewReader("abc"))
	req.Header.Set("User-Agent", "tester/1")
	res, err := f.client(t, true).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, res.Body)
	res.Body.Close()
	got := attrs(<-log.C)
	for key, want := range map[string]string{
		"method": "POST", "host": "example.com", "uri": "/a?b", "status": "200", "bytes_in": "3", "bytes_out": "10", "proto": "HTTP/2", "scheme": "https",
		"client": "127.0.0.1", "user_agent": "tester/1", "tls": "TLS 1.3", "sni": "example.com", "origin_status": "200", "origin_reused": "false",
	} {
		if got[key] != want {
			t.Errorf("event has %s = %q, want %q", key, got[key], want)
		}
	}
	if res.Header.Get("CF-Ray") != got["ray"]+"-LOCAL" {
		t.Errorf("ray %q of the event is not the response's %q", got["ray"], res.Header.Get("CF-Ray"))
	}
	for _, name := range []string{"selvage_edge_requests_total", "selvage_edge_request_seconds", "selvage_edge_connections", "selvage_origin_connections_opened_total", "selvage_origin_first_byte_seconds"} {
		if n, err := testutil.GatherAndCount(registry, name); err != nil || n == 0 {
			t.Errorf("metric %s: %d series, %v", name, n, err)
		}
	}
	select {
	case ev := <-log.C:
		t.Errorf("a second event: %v", ev.Attrs)
	default:
	}
}

func TestErrorPages(t *testing.T) {
	f := start(t, edge.ServerOptions{PoP: "AMS", Handler: func(_ context.Context, ex *edge.Exchange) error {
		switch ex.Request.Path {
		case "/fault":
			return fault.New(fault.TooMuch, "Too much.")
		case "/broken":
			return errors.Join(edge.ErrBroken, errors.New("secret"))
		}
		return &edge.Failure{Status: 522, Reason: "origin_connect_timeout", Detail: "The <origin> did not answer.", Cause: errors.New("secret")}
	}})
	get := func(path, accept string) (*http.Response, string) {
		req, _ := http.NewRequest("GET", "http://example.com"+path, nil)
		req.Header.Set("Accept", accept)
		res, err := f.client(t, false).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		if strings.Contains(string(body), "secret") || strings.Contains(string(body), "<origin>") && strings.Contains(res.Header.Get("Content-Type"), "html") {
			t.Errorf("%s: the page shows what it must not: %s", path, body)
		}
		if ray := res.Header.Get("CF-Ray"); !strings.HasSuffix(ray, "-AMS") || !strings.Contains(string(body), ray) {
			t.Errorf("%s: no ray %q in %q", path, ray, body)
		}
		return res, string(body)
	}
	res, body := get("/", "text/html,application/xhtml+xml,*/*;q=0.8")
	if res.StatusCode != 522 || !strings.HasPrefix(body, "<!doctype html>") || !strings.Contains(body, "Connection timed out") || !strings.Contains(body, "example.com") || len(body) > 4000 {
		t.Errorf("%d, page of %d bytes: %s", res.StatusCode, len(body), body)
	}
	res, body = get("/", "application/json")
	var page struct {
		Status int
		Reason string
		Ray    string `json:"ray_id"`
	}
	if err := json.Unmarshal([]byte(body), &page); err != nil || page.Status != 522 || page.Reason != "origin_connect_timeout" || res.Header.Get("Content-Type") != "application/json" {
		t.Errorf("json page %q, %v", body, err)
	}
	if _, body = get("/", "*/*"); !strings.HasPrefix(body, "error 522: Connection timed out") {
		t.Errorf("text page %q", body)
	}
	if res, _ = get("/fault", ""); res.StatusCode != 413 {
		t.Errorf("fault: %d", res.StatusCode)
	}
	if res, _ = get("/broken", ""); res.StatusCode != 500 {
		t.Errorf("broken phase: %d", res.StatusCode)
	}
}

func TestShutdownFinishesWhatIsUnderWay(t *testing.T) {
	arrived, proceed := make(chan struct{}, 3), make(chan struct{})
	f := behind(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-proceed
		io.WriteString(w, "done")
	})
	type answer struct {
		res *http.Response
		err error
	}
	answers := make(chan answer, 3)
	for i, url := range []string{"http://example.com", "https://example.com", "https://example.com"} {
		c := f.client(t, i == 2)
		go func() {
			res, err := c.Get(url)
			if err == nil {
				_, err = io.ReadAll(res.Body)
				res.Body.Close()
			}
			answers <- answer{res, err}
		}()
		<-arrived
	}
	idle, err := net.Dial("tcp", f.plain)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	io.WriteString(idle, "GET http://x/ HTTP/1.0\r\n") // half a request
	ended := make(chan error, 1)
	go func() { ended <- f.server.Shutdown(context.Background()) }()
	waitRefused(t, f.plain)
	close(proceed)
	for range 3 {
		a := <-answers
		if a.err != nil {
			t.Errorf("a request under way: %v", a.err)
		} else if a.res.ProtoMajor == 1 && !a.res.Close {
			t.Errorf("no Connection: close on %v", a.res.Header)
		}
	}
	io.WriteString(idle, "Host: x\r\n\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(idle), nil); err != nil {
		t.Errorf("a request that began before: %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}

func waitRefused(t *testing.T, addr string) {
	t.Helper()
	for range 200 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		c.Close()
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("connections are still accepted")
}

func TestShutdownCutsWhatDoesNotEnd(t *testing.T) {
	f := behind(t, talker)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://example.com/", &websocket.DialOptions{HTTPClient: f.client(t, false)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	short, stop := context.WithTimeout(ctx, 200*time.Millisecond)
	defer stop()
	if err := f.server.Shutdown(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown with an open tunnel = %v", err)
	}
	if _, _, err := c.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the tunnel goes on: %v", err)
	}
}
