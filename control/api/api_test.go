package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/control/api"
	"selvage/control/store"
	"selvage/engine/state"
	"selvage/foundation/clock"
	"selvage/foundation/fault"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/spec"
)

// phaseName is a phase as the cache has it.
const phaseName = "http_request_cache_settings"

// site is an API over an empty state with an owner.
type site struct {
	*api.API
	t     testing.TB
	state *store.Store
	owner api.Owner
	now   time.Time
	log   *bytes.Buffer
	held  error
}

func newSite(t testing.TB, routes ...product.Route) *site {
	t.Helper()
	s := &site{t: t, now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), log: &bytes.Buffer{}}
	c := clock.Fixed(func() time.Time { return s.now })
	s.state = openStore(t, t.TempDir(), c)
	var err error
	if s.owner, err = api.Bootstrap(t.Context(), s.state, c, true); err != nil {
		t.Fatal(err)
	}
	s.API, err = api.New(api.Options{
		State: s.state, Routes: routes, Audit: s.state, Clock: c,
		Phases:  []product.RulePhase{{Name: phaseName, Group: "Cache Settings", Check: checkPhase}},
		Trouble: func(string) (uint64, error) { return 7, s.held },
		Addresses: func() []netip.Addr {
			return []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
		},
		Observe: observe.Observer{Log: slog.New(slog.NewTextHandler(s.log, nil)), Metrics: prometheus.NewRegistry(), Events: &observe.Events{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openStore(t testing.TB, dir string, c clock.Clock) *store.Store {
	t.Helper()
	db, err := state.Open(dir, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s, err := store.Open(t.Context(), db, store.Options{Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func checkPhase(r *spec.Ruleset) error {
	for i, rule := range r.Rules {
		if rule.Expression == "" {
			return fault.New(fault.Invalid, "The rule needs an expression.").At("rules[" + string(rune('0'+i)) + "].expression")
		}
	}
	return nil
}

// got is an answer, taken apart.
type got struct {
	Status  int
	Header  http.Header
	Body    string
	Success bool            `json:"success"`
	Result  json.RawMessage `json:"result"`
	Errors  []struct {
		Code    int               `json:"code"`
		Message string            `json:"message"`
		Source  map[string]string `json:"source"`
		Chain   []product.Message `json:"error_chain"`
	} `json:"errors"`
	Messages []product.Message `json:"messages"`
	Info     *product.PageInfo `json:"result_info"`
}

// code returns the first error's code, 0 for a success.
func (g got) code() int {
	if len(g.Errors) == 0 {
		return 0
	}
	return g.Errors[0].Code
}

// into reads the result into v.
func (g got) into(t testing.TB, v any) {
	t.Helper()
	if !g.Success {
		t.Fatalf("status %d: %s", g.Status, g.Body)
	}
	if err := json.Unmarshal(g.Result, v); err != nil {
		t.Fatalf("%v: %s", err, g.Body)
	}
}

func (s *site) do(method, path, body string) got {
	s.t.Helper()
	return s.as(s.owner.Secret, method, path, body)
}

func (s *site) as(token, method, path, body string) got {
	s.t.Helper()
	r := httptest.NewRequest(method, "/client/v4"+path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return s.send(r)
}

// send serves r and checks what holds for every answer.
func (s *site) send(r *http.Request) got {
	s.t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	g := got{Status: w.Code, Header: w.Header(), Body: w.Body.String()}
	if w.Code == http.StatusNoContent || r.Method == http.MethodHead {
		return g
	}
	if ct := w.Header().Get("Content-Type"); ct != "application/json" {
		s.t.Fatalf("%s %s: Content-Type %q: %s", r.Method, r.URL, ct, g.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &g); err != nil {
		s.t.Fatalf("%s %s: %v: %s", r.Method, r.URL, err, g.Body)
	}
	if g.Success != (w.Code < 400) || g.Success == (len(g.Errors) > 0) || g.Messages == nil || g.Errors == nil {
		s.t.Errorf("%s %s: envelope does not fit status %d: %s", r.Method, r.URL, w.Code, g.Body)
	}
	return g
}

// zone creates a zone and returns its ID.
func (s *site) zone(name string) string {
	s.t.Helper()
	var z struct{ ID string }
	s.do("POST", "/zones", `{"name":"`+name+`"}`).into(s.t, &z)
	return z.ID
}

func TestEveryAnswerIsAnEnvelope(t *testing.T) {
	s := newSite(t,
		product.Route{Method: "GET", Path: "/panic", Summary: "Panic.", Handle: func(context.Context, *product.Call) (product.Reply, error) { panic("boom") }},
		product.Route{Method: "GET", Path: "/secret", Summary: "Fail.", Handle: func(context.Context, *product.Call) (product.Reply, error) {
			return product.Reply{}, errors.New("disk /dev/sda broken")
		}},
		product.Route{Method: "GET", Path: "/unencodable", Summary: "Fail late.", Handle: func(context.Context, *product.Call) (product.Reply, error) {
			return product.Reply{Result: func() {}}, nil
		}},
		product.Route{Method: "GET", Path: "/busy", Summary: "Be busy.", Handle: func(context.Context, *product.Call) (product.Reply, error) {
			return product.Reply{}, fault.New(fault.Unavailable, "The disk is full.")
		}},
		product.Route{Method: "POST", Path: "/small", MaxBody: 10, Summary: "Take little.", Handle: func(_ context.Context, c *product.Call) (product.Reply, error) {
			return product.Reply{}, c.Decode(&map[string]any{})
		}},
	)
	tests := []struct {
		method, path, body string
		status, code       int
	}{
		{"GET", "/nothing/here", "", 404, 7003},
		{"GET", "", "", 404, 7003},
		{"GET", "/zones/", "", 404, 7003},
		{"GET", "//zones", "", 404, 7003},
		{"GET", "/zones/not-an-id", "", 404, 7003},
		{"GET", "/zones/" + strings.Repeat("0", 32), "", 404, 7003},
		{"GET", "/zones/%2e%2e/user", "", 404, 7003},
		{"GET", "/user/tokens/verify/value", "", 405, 10405},
		{"POST", "/user/tokens/verify", "", 405, 10405},
		{"BREW", "/zones", "", 405, 10405},
		{"OPTIONS", "/zones", "", 405, 10405},
		{"GET", "/panic", "", 500, 10001},
		{"GET", "/secret", "", 500, 10001},
		{"GET", "/unencodable", "", 500, 10001},
		{"GET", "/busy", "", 503, 7010},
		{"POST", "/small", `{"a":"0123456789"}`, 413, 10027},
		{"POST", "/zones", `{"name":`, 400, 6007},
		{"POST", "/zones", ``, 400, 6007},
		{"POST", "/zones", `{"name":"x.test","surprise":1}`, 400, 1001},
		{"POST", "/zones", `{"name":"x.test"} x`, 400, 6007},
	}
	for _, tt := range tests {
		g := s.do(tt.method, tt.path, tt.body)
		if g.Status != tt.status || g.code() != tt.code {
			t.Errorf("%s %s = %d code %d, want %d code %d: %s", tt.method, tt.path, g.Status, g.code(), tt.status, tt.code, g.Body)
		}
		if tt.status != 500 {
			continue
		}
		if strings.Contains(g.Body, "sda") || strings.Contains(g.Body, "boom") {
			t.Errorf("%s: the cause went out: %s", tt.path, g.Body)
		}
		if id := g.Header.Get("Cf-Ray"); !strings.Contains(g.Body, id) || !strings.Contains(s.log.String(), id) {
			t.Errorf("%s: id %s is not in both answer and log", tt.path, id)
		}
	}
	if got := s.do("GET", "/busy", "").Header.Get("Retry-After"); got == "" {
		t.Error("503 without Retry-After")
	}
	if got := s.do("BREW", "/zones", "").Header.Get("Allow"); got != "GET, POST" {
		t.Errorf("Allow = %q", got)
	}
	g := s.do("POST", "/zones", `{"name":"x.test","surprise":1}`)
	if g.Errors[0].Source["pointer"] != "/surprise" {
		t.Errorf("unknown field has pointer %v", g.Errors[0].Source)
	}
	if g := s.send(httptest.NewRequest("GET", "/", nil)); g.Status != 404 {
		t.Errorf("outside the prefix: %d", g.Status)
	}
	if g := s.do("HEAD", "/zones", ""); g.Status != 200 || g.Body != "" {
		t.Errorf("HEAD = %d %q", g.Status, g.Body)
	}
}

func TestRaw(t *testing.T) {
	broken := errors.New("broken")
	raw := func(write func(w io.Writer) error) func(context.Context, *product.Call) (product.Reply, error) {
		return func(context.Context, *product.Call) (product.Reply, error) {
			return product.Reply{Raw: &product.Raw{ContentType: "text/plain", Write: func(_ context.Context, w io.Writer) error { return write(w) }}}, nil
		}
	}
	s := newSite(t,
		product.Route{Method: "GET", Path: "/raw", Summary: "Raw.", Handle: raw(func(w io.Writer) error { _, err := io.WriteString(w, "zone file"); return err })},
		product.Route{Method: "GET", Path: "/early", Summary: "Fail before.", Handle: raw(func(io.Writer) error { return broken })},
		product.Route{Method: "GET", Path: "/late", Summary: "Fail after.", Handle: raw(func(w io.Writer) error { _, _ = io.WriteString(w, "half"); return broken })},
		product.Route{Method: "GET", Path: "/panics", Summary: "Panic after.", Handle: raw(func(w io.Writer) error { _, _ = io.WriteString(w, "half"); panic("boom") })},
	)
	srv := httptest.NewServer(s)
	defer srv.Close()
	get := func(path string) (*http.Response, string, error) {
		r, _ := http.NewRequest("GET", srv.URL+"/client/v4"+path, nil)
		r.Header.Set("Authorization", "Bearer "+s.owner.Secret)
		resp, err := srv.Client().Do(r)
		if err != nil {
			return nil, "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp, string(body), err
	}
	if resp, body, err := get("/raw"); err != nil || body != "zone file" || resp.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("raw = %q, %v", body, err)
	}
	if resp, body, err := get("/early"); err != nil || resp.StatusCode != 500 || !strings.HasPrefix(body, "{") {
		t.Errorf("early failure = %q, %v", body, err)
	}
	for _, path := range []string{"/late", "/panics"} {
		if _, body, err := get(path); err == nil {
			t.Errorf("%s: a broken stream ended like a whole one: %q", path, body)
		}
	}
	srv.Close() // waits for the handlers, which write the log
	if !strings.Contains(s.log.String(), "boom") || !strings.Contains(s.log.String(), "broken") {
		t.Errorf("the log does not say what broke: %s", s.log)
	}
}

func TestRoutesAreUniqueAndComplete(t *testing.T) {
	for _, r := range newSite(t).Routes() {
		if r.Summary == "" || !strings.HasSuffix(r.Summary, ".") {
			t.Errorf("%s %s: summary %q is no sentence", r.Method, r.Path, r.Summary)
		}
	}
	handle := func(context.Context, *product.Call) (product.Reply, error) { return product.Reply{}, nil }
	for _, routes := range [][]product.Route{
		{{Method: "GET", Path: "/zones/{id}/", Handle: handle}},
		{{Method: "GET", Path: "/zones/{other}", Summary: "Twice.", Handle: handle}},
	} {
		if _, err := api.New(api.Options{State: openStore(t, t.TempDir(), clock.Clock{}), Routes: routes}); err == nil {
			t.Errorf("New with %v succeeded", routes[0])
		}
	}
}

func FuzzPath(f *testing.F) {
	for _, p := range []string{"/zones/%zz", "/zones/..", "/user/tokens/%2f/value", "/accounts//tokens", "/zones/%00"} {
		f.Add(p)
	}
	s := newSite(f)
	f.Fuzz(func(t *testing.T, path string) {
		r := httptest.NewRequest("GET", "/client/v4/x", nil)
		u, err := r.URL.Parse("/client/v4" + path)
		if err != nil {
			return
		}
		r.URL = u
		r.Header.Set("Authorization", "Bearer "+s.owner.Secret)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
			t.Errorf("%q = %d %s", path, w.Code, w.Body)
		}
	})
}

func fixed(s *site) clock.Clock { return clock.Fixed(func() time.Time { return s.now }) }
