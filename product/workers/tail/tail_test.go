package tail_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/workers/tail"
	"selvage/spec"
)

const account = "0123456789abcdef0123456789abcdef"

// site is a Hub behind an HTTP server that does what control/api does with routes.
type site struct {
	t   testing.TB
	hub *tail.Hub
	url string
}

func newSite(t testing.TB, o tail.Options) *site {
	t.Helper()
	s := &site{t: t, hub: tail.New(o)}
	mux := http.NewServeMux()
	for _, r := range s.hub.Routes() {
		mux.HandleFunc(r.Method+" /client/v4"+r.Path, func(w http.ResponseWriter, req *http.Request) { serve(t, r, w, req) })
	}
	srv := httptest.NewServer(mux)
	s.url = srv.URL
	t.Cleanup(srv.Close)
	t.Cleanup(s.hub.Close)
	return s
}

func serve(t testing.TB, r product.Route, w http.ResponseWriter, req *http.Request) {
	c := &product.Call{Header: req.Header, Query: req.URL.Query(), Body: req.Body, Origin: "http://" + req.Host, Params: map[string]string{},
		Account: &spec.Account{ID: account}}
	c.Actor.IP, _ = netipOf(req.RemoteAddr)
	for _, name := range []string{"script_name", "tail_id"} {
		c.Params[name] = req.PathValue(name)
	}
	reply, err := r.Handle(req.Context(), c)
	if err != nil {
		w.WriteHeader(400)
		fmt.Fprintf(w, "%s: %v", fault.KindOf(err), err)
		return
	}
	if reply.Upgrade == nil {
		_ = json.NewEncoder(w).Encode(map[string]any{"success": true, "errors": []int{}, "messages": []int{}, "result": reply.Result})
		return
	}
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	fmt.Fprintf(buf, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n")
	_ = reply.Header.Write(buf)
	fmt.Fprintf(buf, "\r\n")
	_ = buf.Flush()
	reply.Upgrade(req.Context(), conn, buf.Reader)
}

// call returns the answer's text if it is an error, and decodes the result into out otherwise.
func (s *site) call(method, path, body string, out any) string {
	s.t.Helper()
	req, _ := http.NewRequest(method, s.url+"/client/v4/accounts/"+account+"/workers/scripts/"+path, strings.NewReader(body))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	data, _ := io.ReadAll(res.Body)
	if res.StatusCode != 200 {
		return string(data)
	}
	if out != nil {
		if err := json.Unmarshal(data, &struct{ Result any }{out}); err != nil {
			s.t.Fatalf("%s: %v", data, err)
		}
	}
	return ""
}

type opened struct {
	ID, URL string
	Expires time.Time `json:"expires_at"`
}

func (s *site) open(script, filters string) opened {
	s.t.Helper()
	var o opened
	if text := s.call("POST", script+"/tails", `{"filters":[`+filters+`]}`, &o); text != "" {
		s.t.Fatal(text)
	}
	return o
}

type watcher struct {
	t testing.TB
	c *websocket.Conn
}

func (s *site) watch(o opened) *watcher {
	s.t.Helper()
	c, _, err := websocket.Dial(s.t.Context(), o.URL, &websocket.DialOptions{Subprotocols: []string{"trace-v1"}})
	if err != nil {
		s.t.Fatal(err)
	}
	c.SetReadLimit(8 << 20)
	s.t.Cleanup(func() { _ = c.CloseNow() })
	return &watcher{s.t, c}
}

type msg struct {
	Outcome       string
	ScriptName    string
	ScriptVersion struct{ ID, Tag, Message string }
	Entrypoint    string
	Exceptions    []struct{ Name, Message, Stack string }
	Logs          []struct {
		Message []any
		Level   string
	}
	Event map[string]any
	raw   string
}

func (w *watcher) next() msg {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	kind, data, err := w.c.Read(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	m := msg{raw: string(data)}
	if err := json.Unmarshal(data, &m); err != nil || kind != websocket.MessageText {
		w.t.Fatalf("%v %s: %v", kind, data, err)
	}
	return m
}

// closed reads until the connection ends and returns the code.
func (w *watcher) closed() (websocket.StatusCode, string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		if _, _, err := w.c.Read(ctx); err != nil {
			var end websocket.CloseError
			if !asClose(err, &end) {
				w.t.Fatal(err)
			}
			return end.Code, end.Reason
		}
	}
}

// item is a trace as workerd 1.20261117 gives it.
func item(outcome, method, url string, headers map[string]string, logs string) string {
	h, _ := json.Marshal(headers)
	return fmt.Sprintf(`{"wallTime":0,"cpuTime":0,"truncated":false,"executionModel":"stateless","outcome":%q,"scriptName":null,"diagnosticsChannelEvents":[],"exceptions":[],"logs":[%s],"eventTimestamp":1795717260081,"event":{"request":{"url":%q,"method":%q,"headers":%s,"cf":{"colo":"DEV"}},"response":{"status":200}}}`,
		outcome, logs, url, method, h)
}

func (s *site) accept(script, version string, items ...string) {
	s.t.Helper()
	if err := s.hub.Accept(account, script, version, json.RawMessage("["+strings.Join(items, ",")+"]")); err != nil {
		s.t.Fatal(err)
	}
}

func TestMessages(t *testing.T) {
	s := newSite(t, tail.Options{Version: func(_, id string) (string, string) { return "v1", "of " + id }})
	o := s.open("api", "")
	if time.Until(o.Expires) < 5*time.Hour || !strings.HasPrefix(o.URL, "ws://127.0.0.1:") {
		t.Errorf("opened %+v", o)
	}
	w := s.watch(o)
	s.accept("other", "v", item("ok", "GET", "http://no/", nil, ""))
	s.accept("api", "ver", item("ok", "GET", "http://a/?x=<>", map[string]string{"host": "a"}, `{"message":["hi",{"a":1}],"level":"log","timestamp":1}`))
	m := w.next()
	if m.Outcome != "ok" || m.ScriptName != "api" || m.ScriptVersion.ID != "ver" || m.ScriptVersion.Tag != "v1" || m.ScriptVersion.Message != "of ver" || m.Logs[0].Message[0] != "hi" {
		t.Errorf("message %s", m.raw)
	}
	for _, part := range []string{`"cf":{"colo":"DEV"}`, `"response":{"status":200}`, `"eventTimestamp":1795717260081`, `"exceptions":[]`, `"url":"http://a/?x=<>"`} {
		if !strings.Contains(m.raw, part) {
			t.Errorf("%s is not in %s", part, m.raw)
		}
	}
	// What else there is passes through; what is broken is left out.
	s.accept("api", "", `{"outcome":"ok","event":{"cron":"* * * * *","scheduledTime":1}}`, `7`, `{"outcome":7}`, `{"outcome":"ok","entrypoint":"E","event":{"rpcMethod":"add"}}`, `{"outcome":"exceededCpu"}`)
	if m := w.next(); m.Event["cron"] != "* * * * *" || !strings.Contains(m.raw, `"logs":[]`) || strings.Contains(m.raw, "scriptVersion") {
		t.Errorf("message %s", m.raw)
	}
	if m := w.next(); m.Event["rpcMethod"] != "add" || m.Entrypoint != "E" {
		t.Errorf("message %s", m.raw)
	}
	if m := w.next(); m.Outcome != "exceededCpu" || m.Event != nil {
		t.Errorf("message %s", m.raw)
	}
	if err := s.hub.Accept(account, "api", "", json.RawMessage(`{"a":1}`)); fault.KindOf(err) != fault.Invalid {
		t.Errorf("Accept(object) = %v", err)
	}
	if err := s.hub.Accept(account, "api", "", bytes.Repeat([]byte(" "), 5<<20)); fault.KindOf(err) != fault.TooMuch {
		t.Errorf("Accept(5 MiB) = %v", err)
	}
}

func TestFilters(t *testing.T) {
	s := newSite(t, tail.Options{})
	log := func(text string) string { return `{"message":["` + text + `",{"n":42}],"level":"log","timestamp":1}` }
	items := []string{
		item("ok", "GET", "http://a/1", map[string]string{"x-one": "alpha beta", "cf-connecting-ip": "192.0.2.7"}, log("find me")),
		item("exception", "POST", "http://a/2", map[string]string{"cf-connecting-ip": "127.0.0.1"}, ""),
		item("exceededCpu", "PUT", "http://a/3", map[string]string{"x-one": ""}, log("nothing")),
		`{"outcome":"canceled","exceptions":[{"name":"TypeError","message":"me too","timestamp":1}],"event":{"cron":"* * * * *","scheduledTime":1}}`,
	}
	for filters, want := range map[string]string{
		``:                                 "/1 /2 /3 cron",
		`{"outcome":["ok","exceededCpu"]}`: "/1 /3",
		`{"method":["get","PUT"]}`:         "/1 /3",
		`{"header":{"key":"X-One"}}`:       "/1 /3",
		`{"header":{"key":"x-one","query":"beta"}}`:            "/1",
		`{"client_ip":["192.0.2.7"]}`:                          "/1",
		`{"client_ip":["self","::1"]}`:                         "/2",
		`{"query":"me"}`:                                       "/1 cron",
		`{"query":"42"}`:                                       "/1 /3",
		`{"query":"TypeError"}`:                                "cron",
		`{"scriptVersion":"v1"}`:                               "/1 /2 /3 cron",
		`{"scriptVersion":"v2"}`:                               "",
		`{"sampling_rate":1}`:                                  "/1 /2 /3 cron",
		`{"sampling_rate":0.0000000001}`:                       "",
		`{"method":["GET","PUT"]},{"outcome":["exceededCpu"]}`: "/3",
	} {
		o := s.open("api", filters)
		w := s.watch(o)
		s.accept("api", "v1", items...)
		var got []string
		// The end comes after everything before it.
		if text := s.drained("api", w, &got); text != "" {
			t.Fatal(text)
		}
		if g := strings.Join(got, " "); g != want {
			t.Errorf("%s let %q through, want %q", filters, g, want)
		}
		s.call("DELETE", "api/tails/"+o.ID, "", nil)
	}
	for filters, want := range map[string]string{
		`{"sampling_rate":2}`:    "filters[0].sampling_rate",
		`{},{"method":["GET"]}`:  "filters[0]: A filter is",
		`{"client_ip":["home"]}`: `filters[0].client_ip: "home"`,
		`{"colour":"red"}`:       "filters[0].colour",
		`{"header":{}}`:          "filters[0].header.key",
		`{"method":"GET"}`:       "filters[0].method",
		strings.TrimSuffix(strings.Repeat(`{"query":"a"},`, 51), ","): "limit is 50",
	} {
		if text := s.call("POST", "api/tails", `{"filters":[`+filters+`]}`, nil); !strings.Contains(text, want) {
			t.Errorf("%.50s is refused with %q, want %q", filters, text, want)
		}
	}
}

// drained collects what a watcher gets, by path or cron, up to a marker that a second watcher gets too.
func (s *site) drained(script string, w *watcher, got *[]string) string {
	all := s.open(script, "")
	marker := s.watch(all)
	defer s.call("DELETE", script+"/tails/"+all.ID, "", nil)
	s.accept(script, "v1", item("ok", "GET", "http://a/end", nil, ""))
	for m := marker.next(); ; m = marker.next() {
		if strings.Contains(m.raw, "http://a/end") {
			break
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	for {
		_, data, err := w.c.Read(ctx)
		if err != nil {
			return ""
		}
		var m msg
		if err := json.Unmarshal(data, &m); err != nil {
			return err.Error()
		}
		if m.Event["cron"] != nil {
			*got = append(*got, "cron")
			continue
		}
		url := m.Event["request"].(map[string]any)["url"].(string)
		if url == "http://a/end" {
			continue
		}
		*got = append(*got, strings.TrimPrefix(url, "http://a"))
	}
}

func TestStacksLeadToTheSources(t *testing.T) {
	loads := 0
	s := newSite(t, tail.Options{SourceMap: func(_ context.Context, a, v, module string) ([]byte, error) {
		loads++
		if a != account || v != "ver" || module != "dist/w.js" {
			return nil, nil
		}
		// Line 3 of the module is line 11 of the source, six columns on.
		return []byte(`{"version":3,"sources":["../src/app.ts"],"mappings":";;AAUM"}`), nil
	}})
	w := s.watch(s.open("api", ""))
	const stack = `    at Object.fetch (dist/w.js:3:9)\n    at async dist/w.js:3:1\n    at new Foo (file:///dist/w.js:3:30)\n    at Array.map (<anonymous>)\n    at x (other.js:3:1)\n    at y (dist/w.js:2:1)\nat (:`
	s.accept("api", "ver", `{"outcome":"exception","exceptions":[{"name":"Error","message":"m","timestamp":1,"stack":"`+stack+`"}],"logs":[{"message":["hello","Error: logged"],"errorInfo":[null,{"name":"Error","message":"logged","stack":"    at f (dist/w.js:3:1)"}],"level":"error","timestamp":1}]}`)
	m := w.next()
	want := "    at Object.fetch (src/app.ts:11:7)\n    at async src/app.ts:11:7\n    at new Foo (src/app.ts:11:7)\n    at Array.map (<anonymous>)\n    at x (other.js:3:1)\n    at y (dist/w.js:2:1)\nat (:"
	if got := m.Exceptions[0].Stack; got != want {
		t.Errorf("stack\n%s\nwant\n%s", got, want)
	}
	if got := m.Logs[0].Message[1]; got != "Error: logged\n    at f (src/app.ts:11:7)" || strings.Contains(m.raw, "errorInfo") {
		t.Errorf("log %q in %s", got, m.raw)
	}
	s.accept("api", "ver", `{"outcome":"exception","exceptions":[{"name":"Error","message":"m","timestamp":1,"stack":"    at f (dist/w.js:3:9)"}]}`)
	w.next()
	if loads != 2 {
		t.Errorf("maps were read %d times, want 2: one that is there, one that is not", loads)
	}
}

func TestConsumers(t *testing.T) {
	type delivery struct {
		to    string
		items []msg
	}
	got := make(chan delivery, 10)
	s := newSite(t, tail.Options{
		Consumers: func(_, script string) []string {
			return map[string][]string{"api": {"watch", "broken"}, "watch": {"watch"}}[script]
		},
		Deliver: func(_ context.Context, a, to string, items json.RawMessage) error {
			if a != account || to == "broken" {
				return fmt.Errorf("%s is broken", to)
			}
			var list []msg
			err := json.Unmarshal(items, &list)
			got <- delivery{to, list}
			return err
		},
	})
	if !s.hub.Watched(account, "api") || s.hub.Watched(account, "other") {
		t.Error("a script with a consumer is watched, others are not")
	}
	s.accept("watch", "v", `{"outcome":"ok","event":{"consumedEvents":[{"scriptName":"api"}]}}`, `{"outcome":"ok","event":{"cron":"own"}}`)
	s.accept("api", "v", item("ok", "GET", "http://a/", nil, ""), item("exception", "GET", "http://b/", nil, ""))
	seen := map[string]int{}
	for range 2 {
		select {
		case d := <-got:
			seen[d.items[0].ScriptName+" to "+d.to] = len(d.items)
		case <-time.After(10 * time.Second):
			t.Fatal("nothing was delivered")
		}
	}
	if seen["watch to watch"] != 1 || seen["api to watch"] != 2 {
		t.Errorf("delivered %v; a trace of consuming has to stay out", seen)
	}
}

func rawDial(t *testing.T, o opened) (net.Conn, *bufio.Reader) {
	t.Helper()
	host, path, _ := strings.Cut(strings.TrimPrefix(o.URL, "ws://"), "/")
	c, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: %s\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: trace-v1\r\n\r\n", path, host)
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("%v %v", res, err)
	}
	if a := res.Header.Get("Sec-WebSocket-Accept"); a != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" { // of RFC 6455
		t.Errorf("accept %q", a)
	}
	if p := res.Header.Get("Sec-WebSocket-Protocol"); p != "trace-v1" {
		t.Errorf("protocol %q", p)
	}
	return c, r
}

// TestFrames sends what wrangler sends, and what nobody should.
func TestFrames(t *testing.T) {
	s := newSite(t, tail.Options{})
	const ping = "\x89\x92\x01\x02\x03\x04"
	masked := func(text string) string {
		b := []byte(text)
		for i := range b {
			b[i] ^= byte(i&3 + 1)
		}
		return string(b)
	}
	for name, tt := range map[string]struct{ sent, want string }{
		"wrangler":          {"\x81\x0f{\"debug\":false}" + ping + masked("wrangler tail ping"), "\x8a\x12wrangler tail ping"},
		"fragments":         {"\x01\x02ab" + "\x89\x01p" + "\x80\x01c" + "\x89\x01q", "\x8a\x01p\x8a\x01q"},
		"pong unasked":      {"\x8a\x01x\x89\x00", "\x8a\x00"},
		"close":             {"\x88\x02\x03\xe8", "\x88\x02\x03\xe8"},
		"close with reason": {"\x88\x05\x0f\xa0bye", "\x88\x02\x0f\xa0"},
		"close without":     {"\x88\x00", "\x88\x00"},
		"close of one byte": {"\x88\x01\x03", "\x88\x14\x03\xeabroken close frame"},
		"close code 1005":   {"\x88\x02\x03\xed", "\x88\x22\x03\xeaa close code that may not be sent"},
		"reserved bits":     {"\xc1\x01a", "\x88\x29\x03\xeaextension bits without an extension"},
		"unknown opcode":    {"\x83\x01a", "\x88\x10\x03\xeaunknown opcode"},
		"unknown control":   {"\x8b\x00", "\x88\x10\x03\xeaunknown opcode"},
		"long ping":         {"\x89\x7e\x00\x7e" + strings.Repeat("a", 126), "\x88\x29\x03\xeacontrol frame too long or in fragments"},
		"ping in fragments": {"\x09\x00", "\x88\x29\x03\xeacontrol frame too long or in fragments"},
		"continues nothing": {"\x80\x01a", "\x88\x18\x03\xeafragments out of order"},
		"begins twice":      {"\x01\x01a\x81\x01b", "\x88\x18\x03\xeafragments out of order"},
		"no text":           {"\x81\x01\xff", "\x88\x13\x03\xeftext is not UTF-8"},
		"too big":           {"\x81\x7f\xff\xff\xff\xff\xff\xff\xff\xff", "\x88\x23\x03\xf1a message may have 65536 bytes"},
		"too big in parts":  {"\x01\x7e\xff\xff" + strings.Repeat("a", 65535) + "\x80\x02aa", "\x88\x23\x03\xf1a message may have 65536 bytes"},
		"many fragments":    {"\x01\x00" + strings.Repeat("\x00\x00", 1025), "\x88\x14\x03\xf0too many fragments"},
	} {
		t.Run(name, func(t *testing.T) {
			o := s.open("frames", "")
			defer s.call("DELETE", "frames/tails/"+o.ID, "", nil)
			c, r := rawDial(t, o)
			if _, err := io.WriteString(c, tt.sent); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(tt.want))
			n, err := io.ReadFull(r, got)
			if err != nil {
				t.Fatalf("%v after %q, want %q", err, got[:n], tt.want)
			}
			// The length of our own reasons is not what this is about.
			if got[0] == 0x88 && len(got) > 4 {
				got[1], tt.want = 0, tt.want[:1]+"\x00"+tt.want[2:]
			}
			if string(got) != tt.want {
				t.Errorf("answered %q, want %q", got, tt.want)
			}
			if got[0] == 0x88 {
				if _, err := io.ReadAll(r); err != nil {
					t.Errorf("after the close frame: %v", err)
				}
			}
		})
	}
}
