package outbound_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"selvage/foundation/clock"
	"selvage/product/cache"
	"selvage/product/producttest"
	"selvage/product/workers/outbound"
	"selvage/spec"
)

const keeper = `
export default { async fetch(req, env, ctx) {
  const url = new URL(req.url), at = "https://zone.test" + (url.searchParams.get("at") ?? "/");
  const cache = url.searchParams.has("name") ? await caches.open(url.searchParams.get("name")) : caches.default;
  const headers = JSON.parse(url.searchParams.get("headers") ?? "{}");
  try {
    switch (url.pathname) {
    case "/put":
      await cache.put(new Request(at, { headers: JSON.parse(url.searchParams.get("vary") ?? "{}") }), new Response(url.searchParams.has("stream") ? new Blob(["stream", "ed"]).stream() : "kept", { headers, status: Number(url.searchParams.get("status") ?? 200) }));
      return new Response("put");
    case "/match": {
      const r = await cache.match(new Request(at, { headers }));
      return new Response(r ? [r.status, r.headers.get("cf-cache-status"), await r.text()].join(" ") : "none");
    }
    case "/delete":
      return new Response(String(await cache.delete(at)));
    }
  } catch (e) { return new Response("thrown: " + e.message); }
} }`

// newCache returns a cache that runs until the test ends.
func newCache(t *testing.T) *cache.Cache {
	t.Helper()
	c, err := cache.New(cache.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	return c
}

func TestCacheAPI(t *testing.T) {
	kept := newCache(t)
	zone := producttest.Snapshot(1, "zone.test").ZoneByName("zone.test")
	o := world(t, func(o *outbound.Options) { o.Cache = kept.API() }, nil)
	of := func(account string) *child {
		return start(t, script{source: keeper, services: map[string]serve{"cache": o.Cache(outbound.Caller{AccountID: account, Zone: func() *spec.ZoneConfig { return zone }})}})
	}
	c, other := of("one"), of("two")
	c.want("/match", "none")
	c.want("/delete", "false")
	c.want(`/put?headers={"Cache-Control":"max-age=60","ETag":"\"v\""}`, "put")
	c.want("/match", "200 HIT kept")
	c.want("/match?name=x", "none")
	c.want("/match?at=/other", "none")
	other.want("/match", "none")
	c.want(`/match?headers={"If-None-Match":"\"v\""}`, "304 HIT ")
	c.want(`/match?headers={"Range":"bytes=1-2"}`, "206 HIT ep")
	c.want("/put?name=x&stream", "put")
	c.want("/match?name=x", "200 HIT streamed")
	c.want("/delete", "true")
	c.want("/match", "none")
	c.want("/match?name=x", "200 HIT streamed")
	for _, header := range []string{`{"Cache-Control":"no-store"}`, `{"Set-Cookie":"a=b"}`, `{"Expires":"Thu, 01 Jan 1970 00:00:00 GMT"}`} {
		c.want("/put?at=/no&headers="+escape(header), "put")
		c.want("/match?at=/no", "none")
	}
	c.want("/put?at=/404&status=404", "put")
	c.want("/match?at=/404", "404 HIT kept")
	c.want(`/put?at=/v&headers={"Vary":"Accept-Language"}&vary={"Accept-Language":"de"}`, "put")
	c.want(`/match?at=/v&headers={"Accept-Language":"de"}`, "200 HIT kept")
	c.want(`/match?at=/v&headers={"Accept-Language":"fr"}`, "none")
	for _, what := range []string{`headers={"Vary":"*"}`, "status=206"} {
		if _, got := c.get("/put?" + what); !strings.HasPrefix(got, "thrown") {
			t.Errorf("put with %s: %q", what, got)
		}
	}
}

func escape(s string) string {
	return strings.NewReplacer(" ", "%20", ";", "%3B", ",", "%2C").Replace(s)
}

const limiter = `
export default { async fetch(req, env, ctx) {
  const url = new URL(req.url);
  try {
    const r = await env[url.searchParams.get("env") ?? "RL"].limit(JSON.parse(url.searchParams.get("o")));
    return new Response(JSON.stringify(r));
  } catch (e) { return new Response("thrown: " + e.message); }
} }`

func TestRateLimit(t *testing.T) {
	var skew atomic.Int64
	o := world(t, func(o *outbound.Options) {
		o.Clock = clock.Fixed(func() time.Time { return time.Unix(1000+skew.Load(), 0) })
	}, nil)
	of := func(account, namespace string, limit int) serve {
		s, err := o.RateLimit(outbound.Caller{AccountID: account}, &spec.WorkerBinding{NamespaceID: namespace, Limit: limit, Period: 10})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	c := start(t, script{source: limiter, wrapped: []string{"rl", "rlb", "rlc"}, services: map[string]serve{
		"rl": of("one", "1", 2), "rlb": of("one", "1", 3), "rlc": of("two", "1", 2),
	}})
	yes, no := `{"success":true}`, `{"success":false}`
	c.want(`/?o={"key":"a"}`, yes)
	c.want(`/?o={"key":"a"}`, yes)
	c.want(`/?o={"key":"a"}`, no)
	c.want(`/?o={"key":"b"}`, yes)
	c.want(`/?env=RLB&o={"key":"a"}`, yes) // the same counter under a higher limit
	c.want(`/?env=RLB&o={"key":"a"}`, no)
	c.want(`/?env=RLC&o={"key":"a"}`, yes) // another account
	c.want(`/?o={"key":"a","period":60}`, yes)
	skew.Store(10)
	c.want(`/?o={"key":"a"}`, yes)
	c.want(`/?o={"key":"a","limit":1}`, no)
	c.want(`/?o={}`, yes)
	c.want(`/?o=null`, "thrown: invalid rate limit options")
	c.want(`/?o={"kee":1}`, "thrown: bad rate limit options: [kee]")
	c.want(`/?o={"key":1}`, "thrown: invalid key: 1")
	c.want(`/?o={"period":7}`, "thrown: unsupported period: 7")
	for _, b := range []spec.WorkerBinding{{Limit: 0, Period: 10}, {Limit: 1, Period: 11}} {
		if _, err := o.RateLimit(outbound.Caller{}, &b); err == nil {
			t.Errorf("RateLimit(%d in %d s) = nil error", b.Limit, b.Period)
		}
	}
}

// A flood of keys must not take memory without end, nor end the counting.
func TestRateLimitIsBounded(t *testing.T) {
	if n := outbound.FloodShard(3 * outbound.PerShard); n > outbound.PerShard || n < outbound.PerShard/2 {
		t.Errorf("%d counters are kept after a flood, the limit is %d", n, outbound.PerShard)
	}
}
