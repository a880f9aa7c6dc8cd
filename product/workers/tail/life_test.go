package tail_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"selvage/foundation/clock"
	"selvage/product/workers/tail"
)

type change struct {
	script  string
	watched bool
}

func (s *site) changes() chan change {
	c := make(chan change, 100)
	s.hub.OnChange(func(a, script string, watched bool) {
		if a != account {
			s.t.Errorf("account %s", a)
		}
		c <- change{script, watched}
	})
	return c
}

func expect(t *testing.T, c chan change, want change) {
	t.Helper()
	select {
	case got := <-c:
		if got != want {
			t.Errorf("told %v, want %v", got, want)
		}
	case <-time.After(15 * time.Second):
		t.Fatalf("was not told %v", want)
	}
}

func TestSessions(t *testing.T) {
	s := newSite(t, tail.Options{
		Exists:    func(_, script string) bool { return script != "none" },
		Consumers: func(_, script string) []string { return map[string][]string{"consumed": {"c"}}[script] },
	})
	changes := s.changes()
	if text := s.call("POST", "none/tails", "{}", nil); !strings.Contains(text, "not found: This Worker does not exist") {
		t.Errorf("a tail of nothing: %s", text)
	}
	s.open("consumed", "") // watched before and after: nothing to tell
	var all []opened
	for range 10 {
		all = append(all, s.open("api", ""))
	}
	expect(t, changes, change{"api", true})
	if !s.hub.Watched(account, "api") || s.hub.Watched("f"+account[1:], "api") {
		t.Error("the script is watched, that of another account is not")
	}
	if text := s.call("POST", "api/tails", "", nil); !strings.Contains(text, "limit is 10") {
		t.Errorf("the 11th tail: %s", text)
	}
	var list []opened
	s.call("GET", "api/tails", "", &list)
	if len(list) != 10 || list[0].ID != all[0].ID || list[0].URL != all[0].URL {
		t.Errorf("list %v", list)
	}
	if text := s.call("DELETE", "other/tails/"+all[0].ID, "", nil); !strings.HasPrefix(text, "not found") {
		t.Errorf("ended through another script: %s", text)
	}
	w := s.watch(all[0])
	for _, o := range all {
		if text := s.call("DELETE", "api/tails/"+o.ID, "", nil); text != "" {
			t.Error(text)
		}
	}
	if code, reason := w.closed(); code != websocket.StatusNormalClosure || reason != "the tail was ended" {
		t.Errorf("closed with %d %s", code, reason)
	}
	expect(t, changes, change{"api", false})
	if text := s.call("DELETE", "api/tails/"+all[0].ID, "", nil); !strings.HasPrefix(text, "not found") {
		t.Errorf("ended twice: %s", text)
	}
	for i := range 99 {
		s.open(fmt.Sprint("many", i/10), "")
	}
	if text := s.call("POST", "more/tails", "", nil); !strings.Contains(text, "limit is 100") {
		t.Errorf("the 101st tail: %s", text)
	}
}

func TestWhoMayWatch(t *testing.T) {
	s := newSite(t, tail.Options{})
	o := s.open("api", "")
	for name, tt := range map[string]struct {
		url, protocol, want string
	}{
		"wrong secret":   {o.URL[:len(o.URL)-1] + "x", "trace-v1", "400"},
		"no secret":      {strings.Split(o.URL, "?")[0], "trace-v1", "400"},
		"other protocol": {o.URL, "chat", "400"},
	} {
		_, res, err := websocket.Dial(t.Context(), tt.url, &websocket.DialOptions{Subprotocols: []string{tt.protocol}})
		if err == nil || res == nil || !strings.HasPrefix(res.Status, tt.want) {
			t.Errorf("%s: %v %v", name, res, err)
		}
	}
	res, err := http.Get("http" + strings.TrimPrefix(o.URL, "ws"))
	if err != nil {
		t.Fatal(err)
	}
	if res.Body.Close(); res.StatusCode != 400 {
		t.Errorf("without a WebSocket: %s", res.Status)
	}
	// Who comes later is who watches.
	first := s.watch(o)
	s.accept("api", "", item("ok", "GET", "http://a/", nil, ""))
	first.next() // so that it is connected
	second := s.watch(o)
	if code, _ := first.closed(); code != websocket.StatusPolicyViolation {
		t.Errorf("the first was closed with %d", code)
	}
	s.accept("api", "", item("ok", "GET", "http://a/", nil, ""))
	second.next()
}

// hands is a clock that is set by hand.
type hands struct {
	mu  sync.Mutex
	now time.Time
}

func (h *hands) Now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *hands) add(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

func TestSessionsExpire(t *testing.T) {
	h := &hands{now: time.Now()}
	s := newSite(t, tail.Options{Clock: clock.Fixed(h.Now)})
	changes := s.changes()
	s.open("lonely", "")
	expect(t, changes, change{"lonely", true})
	o := s.open("api", "")
	expect(t, changes, change{"api", true})
	w := s.watch(o)
	s.accept("api", "", item("ok", "GET", "http://a/", nil, ""))
	w.next() // so that it is connected
	h.add(2 * time.Minute)
	expect(t, changes, change{"lonely", false}) // nobody came; who is connected stays
	h.add(6 * time.Hour)
	if code, reason := w.closed(); code != websocket.StatusNormalClosure || reason != "the session has expired" {
		t.Errorf("closed with %d %s", code, reason)
	}
	expect(t, changes, change{"api", false})
}

func TestClose(t *testing.T) {
	s := newSite(t, tail.Options{})
	w := s.watch(s.open("api", ""))
	s.accept("api", "", item("ok", "GET", "http://a/", nil, ""))
	w.next()
	ended := make(chan websocket.StatusCode)
	go func() {
		code, _ := w.closed()
		ended <- code
	}()
	s.hub.Close()
	if code := <-ended; code != websocket.StatusGoingAway {
		t.Errorf("closed with %d", code)
	}
	if text := s.call("POST", "api/tails", "", nil); !strings.HasPrefix(text, "unavailable") {
		t.Errorf("a tail of a closed hub: %s", text)
	}
	s.accept("api", "", item("ok", "GET", "http://a/", nil, ""))
}

func TestCloseDoesNotWaitForADeafPeer(t *testing.T) {
	s := newSite(t, tail.Options{})
	o := s.open("api", "")
	rawDial(t, o) // and does not read
	text := strings.Repeat("x", 1<<20)
	for range 40 { // more than sockets hold
		s.accept("api", "", item("ok", "GET", "http://a/", nil, `{"message":["`+text+`"],"level":"log","timestamp":1}`))
	}
	began := time.Now()
	s.hub.Close()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("closed after %v", took)
	}
}

func TestFloodIsDroppedAndTold(t *testing.T) {
	h := &hands{now: time.Now()}
	s := newSite(t, tail.Options{Clock: clock.Fixed(h.Now)})
	o := s.open("api", "")
	// Nobody reads yet: a thousand messages wait, the others are dropped.
	for range 30 {
		items := make([]string, 50)
		for i := range items {
			items[i] = item("ok", "GET", "http://a/", nil, "")
		}
		s.accept("api", "", items...)
	}
	s.accept("api", "", `{"lost":7}`)
	last := s.watch(s.open("api", `{"query":"last"}`))
	s.accept("api", "", item("ok", "GET", "http://a/", nil, `{"message":["last"],"level":"log","timestamp":1}`))
	for last.next().Outcome != "ok" { // it may be told of the seven
	}
	w := s.watch(o)
	m := w.next()
	if m.Event["type"] != "overload" || !strings.Contains(m.Event["message"].(string), "508 so far") || m.Outcome != "unknown" {
		t.Errorf("first message %s", m.raw)
	}
	for i := range 1000 {
		if m := w.next(); m.Outcome != "ok" {
			t.Fatalf("message %d: %s", i, m.raw)
		}
	}
	h.add(time.Minute)
	s.accept("api", "", item("ok", "GET", "http://a/", nil, ""))
	for m = w.next(); m.Event["type"] == nil; m = w.next() {
	}
	if m.Event["type"] != "overload-stop" || !strings.Contains(m.Event["message"].(string), "508 were lost") {
		t.Errorf("last message %s", m.raw)
	}
}

func TestService(t *testing.T) {
	s := newSite(t, tail.Options{})
	w := s.watch(s.open("api", ""))
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tail.Service(s.hub, account, "api", "ver")(ctx, l)
	}()
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }}}
	post := func(method, body string) int {
		req, _ := http.NewRequest(method, "http://node/traces", strings.NewReader(body))
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	if got := post("POST", "["+item("ok", "GET", "http://a/", nil, "")+"]"); got != 204 {
		t.Errorf("status %d", got)
	}
	if m := w.next(); m.ScriptVersion.ID != "ver" {
		t.Errorf("message %s", m.raw)
	}
	if got := post("POST", `[{"scriptName":"api","lost":3}]`); got != 204 {
		t.Errorf("status %d", got)
	}
	if m := w.next(); !strings.Contains(m.raw, "3 so far") {
		t.Errorf("message %s", m.raw)
	}
	for _, bad := range []struct{ method, body string }{{"POST", "{}"}, {"POST", `[{"a":"` + strings.Repeat("x", 3<<20)}, {"GET", ""}} {
		if got := post(bad.method, bad.body); got/100 != 4 {
			t.Errorf("%s %.10s: status %d", bad.method, bad.body, got)
		}
	}
	client.CloseIdleConnections()
	cancel()
	<-done
	if _, err := net.Dial("unix", path); err == nil {
		t.Error("the listener is open")
	}
}

func BenchmarkAccept(b *testing.B) {
	trace := item("ok", "GET", "https://example.com/a/b?c=d", map[string]string{"user-agent": "curl/8", "accept": "*/*", "host": "example.com", "cf-connecting-ip": "192.0.2.1"},
		`{"message":["hello",{"a":1}],"level":"log","timestamp":1795717260081}`)
	for _, watched := range []bool{false, true} {
		b.Run(fmt.Sprintf("watched=%v", watched), func(b *testing.B) {
			taken := make(chan int, 1000)
			s := newSite(b, tail.Options{
				Consumers: func(_, script string) []string {
					if watched {
						return []string{"c"}
					}
					return nil
				},
				Deliver: func(_ context.Context, _, _ string, items json.RawMessage) error {
					taken <- len(items)
					return nil
				},
			})
			batch := json.RawMessage("[" + strings.TrimSuffix(strings.Repeat(trace+",", 20), ",") + "]")
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			for b.Loop() {
				if err := s.hub.Accept(account, "api", "v", batch); err != nil {
					b.Fatal(err)
				}
				if watched {
					<-taken
				}
			}
			b.ReportMetric(float64(b.N)*20/b.Elapsed().Seconds(), "traces/s")
		})
	}
}
