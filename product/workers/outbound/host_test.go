package outbound_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"selvage/engine/isolate"
	"selvage/product/workers/outbound"
	"selvage/spec"
)

// units is an isolate.Host whose scripts are their own digests.
type units struct {
	t testing.TB
	*isolate.Host
}

func newUnits(t testing.TB) *units {
	t.Helper()
	runtime, err := isolate.FindRuntime(os.Environ())
	if err != nil {
		t.Fatal(err)
	}
	h, err := isolate.New(isolate.Options{
		Runtime: runtime, RunDir: shortDir(t), Spares: -1, Replicas: 1,
		Code:    func(_ context.Context, digest string) ([]byte, error) { return []byte(digest), nil },
		Modules: map[string]string{outbound.RateLimitModule: outbound.RateLimitSource},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return &units{t, h}
}

// set declares a unit of one script.
func (u *units) set(key, source string, bindings []isolate.Binding, services ...isolate.Service) isolate.Address {
	p := isolate.Program{Name: "s", Version: key, Modules: []isolate.Module{{Name: "m.js", Type: "esm", Digest: source}}, CompatibilityDate: "2026-08-01", Bindings: bindings}
	for _, s := range services {
		switch s.Name {
		case "egress":
			p.Outbound = s.Name
		case "cache":
			p.Cache = s.Name
		}
	}
	u.Set(isolate.Unit{Key: key, Tenant: "acc", Programs: []isolate.Program{p}, Services: services})
	return isolate.Address{Unit: key, Program: "s"}
}

func (u *units) want(a isolate.Address, target, want string) {
	u.t.Helper()
	res, err := u.Fetch(u.t.Context(), a, &isolate.Request{Method: "GET", Scheme: "http", Host: "script.test", Target: unsafe.Replace(target), Header: func(func(string, string) bool) {}})
	if err != nil {
		u.t.Fatalf("%s: %v", target, err)
	}
	defer res.Body.Close()
	if got, err := io.ReadAll(res.Body); !strings.HasPrefix(string(got), want) || err != nil {
		u.t.Errorf("%s: got %q, %v, want %q", target, got, err, want)
	}
}

// Everything that a script reaches, through the real host.
func TestThroughTheHost(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "origin") }))
	t.Cleanup(origin.Close)
	u := newUnits(t)
	o := world(t, func(o *outbound.Options) { o.Cache = newCache(t).API() }, nil)
	caller := outbound.Caller{AccountID: "open", Script: "a", Load: func() (uint64, int) { return u.Load("a/1") }}
	limit, err := o.RateLimit(caller, &spec.WorkerBinding{NamespaceID: "1", Limit: 1, Period: 60})
	if err != nil {
		t.Fatal(err)
	}
	egress := isolate.Service{Name: "egress", Proxy: true, Serve: o.Egress(caller)}
	b := u.set("b/1", callee, nil)
	resolve := func(context.Context) (isolate.Address, error) { return b, nil }
	relay := isolate.Service{Name: "b", Proxy: true, RPC: true, Serve: o.Relay(caller, "b", resolve, u.Host)}

	u.want(u.set("a/1", fetcher, nil, egress), "/get?to="+origin.URL, "200 origin")
	c := u.set("c/1", keeper, nil, isolate.Service{Name: "cache", Proxy: true, Serve: o.Cache(caller)})
	u.want(c, "/put", "put")
	u.want(c, "/match", "200 HIT kept")
	l := u.set("l/1", limiter, []isolate.Binding{{Name: "RL", Kind: isolate.Wrapped, Wrapper: outbound.RateLimitModule, Inner: []isolate.Binding{{Name: "fetcher", Kind: isolate.Fetcher, Service: "limit"}}}},
		isolate.Service{Name: "limit", Serve: limit})
	u.want(l, `/?o={"key":"a"}`, `{"success":true}`)
	u.want(l, `/?o={"key":"a"}`, `{"success":false}`)
	r := u.set("r/1", rpcCaller, []isolate.Binding{{Name: "callee", Kind: isolate.Fetcher, Service: "b"}}, relay)
	u.want(r, "/fetch", `201 b POST https://b.test/p?q {"a":1}`)
	u.want(r, "/add", "3")
	u.want(r, "/callback", "called 42")
	u.want(r, "/pipelined", "1")
	// The callee dies: the next call wakes it.
	u.Kill("b/1", "test")
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		res, err := u.Fetch(t.Context(), r, &isolate.Request{Method: "GET", Scheme: "http", Host: "script.test", Target: "/add", Header: func(func(string, string) bool) {}})
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if string(got) == "3" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("after the callee's end: %q", got)
		}
	}
}
