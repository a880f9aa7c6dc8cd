package node_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const misbehaves = `
const kept = [];
export default {
	async fetch(request, env, ctx) {
		switch (new URL(request.url).pathname) {
		case "/loop": for (;;);
		case "/heap": for (;;) kept.push({a: new Array(100).fill(kept.length + .5)});
		case "/throw": throw new TypeError("the <secret> reason");
		case "/pass": ctx.passThroughOnException(); throw new Error("passed");
		}
		return new Response("well");
	},
};`

// TestLimitsOfWorkers has a Worker loop, flood and throw: its clients get Cloudflare's numbers in the
// form they prefer, it is there again at once, and its neighbours notice nothing.
func TestLimitsOfWorkers(t *testing.T) {
	t.Parallel()
	p := up(t, t.TempDir())
	bad := p.deploy("bad", script{source: misbehaves, meta: `"limits":{"cpu_ms":50}`})
	other := p.otherAccount(t)
	if _, err := p.send("PUT", other, "good", says("well")); err != nil {
		t.Fatal(err)
	}
	mine := askAll(p.deploy("good", says("well")), 1, "well")
	theirs := askAll(p.siteOfAccount(t, other, "good"), 1, "well")
	for _, c := range []struct {
		path, accept, text string
		status             int
	}{
		{"/loop", "text/html", "<!", 503}, {"/loop", "application/json", `1102`, 503}, {"/loop", "*/*", "error 1102", 503},
		{"/heap", "*/*", "error 1102", 503},
		{"/throw", "text/html", "<!", 500}, {"/throw", "application/json", `1101`, 500}, {"/throw", "*/*", "error 1101", 500},
	} {
		began := time.Now()
		a := bad.expect(c.path, c.status, c.text, "Accept", c.accept)
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s took %v", c.path, took)
		}
		if strings.Contains(a.body, "secret") {
			t.Errorf("%s tells strangers %q", c.path, a.body)
		}
		bad.expect("/", 200, "well")
	}
	mine.more(5)
	theirs.more(5)
	mine.end()
	theirs.end()
}

// TestPassThrough has the origin behind a route answer what the script cannot.
func TestPassThrough(t *testing.T) {
	t.Parallel()
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "origin ", r.URL.Path) }))
	defer origin.Close()
	p := up(t, t.TempDir())
	zone := p.addSite("pass.test", origin)
	s := p.deploy("bad", script{source: misbehaves})
	if err := p.call("POST", "/zones/"+zone+"/workers/routes", `{"pattern":"pass.test/*","script":"bad"}`, nil); err != nil {
		t.Fatal(err)
	}
	s.host = "pass.test"
	s.expect("/pass", 200, "origin /pass")
	s.expect("/throw", 500, "1101")
	s.expect("/", 200, "well")
}

// otherAccount makes a second account and returns its ID.
func (p *process) otherAccount(t testing.TB) string {
	t.Helper()
	var a struct{ ID string }
	if err := p.call("POST", "/accounts", `{"name":"other"}`, &a); err != nil {
		t.Fatal(err)
	}
	return a.ID
}

// siteOfAccount lets a script of another account answer on that account's subdomain.
func (p *process) siteOfAccount(t testing.TB, account, script string) *site {
	t.Helper()
	as := *p
	as.AccountID = account
	return siteOf(t, &as, script)
}

const reaches = `
import { connect } from "cloudflare:sockets";
export default {
	async fetch(request, env) {
		const q = new URL(request.url).searchParams, target = q.get("to");
		try {
			if (q.get("how") === "fetch") {
				const r = await fetch(target, { redirect: "follow" });
				return Response.json({ status: r.status, body: (await r.text()).slice(0, 300) });
			}
			if (q.get("how") === "connect") {
				const s = connect(target);
				await s.opened;
				return Response.json({ status: 200, body: "connected" });
			}
			const cache = caches.default, key = "http://cache.test/shared";
			if (q.get("how") === "put") {
				await cache.put(key, new Response(env.WHO, { headers: { "Cache-Control": "max-age=600" } }));
				return Response.json({ status: 200 });
			}
			const hit = await cache.match(key);
			return Response.json({ status: hit ? 200 : 404, body: hit ? await hit.text() : "" });
		} catch (e) {
			return Response.json({ status: 0, body: String(e) });
		}
	},
};`

// TestWorkersReach tries from inside a Worker what belongs to the operator and to others.
func TestWorkersReach(t *testing.T) {
	t.Parallel()
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "the inside") }))
	defer origin.Close()
	port := portOf(t, origin.URL)
	p := up(t, t.TempDir())
	s := p.deploy("reach", script{source: reaches, meta: `"bindings":[{"type":"plain_text","name":"WHO","text":"mine"}]`})
	hosts := []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0.0.0.0",
		"10.0.0.1", "192.168.0.1", "172.16.0.1", "169.254.169.254", "[fd00:ec2::254]", "[fe80::1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "100.64.0.1"}
	for _, host := range hosts {
		s.expect("/?how=fetch&to=http://"+host+":"+port+"/", 200, `"status":403`)
	}
	for _, host := range []string{"127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "169.254.169.254", "10.0.0.1"} {
		s.expect("/?how=connect&to="+host+":"+port, 200, `"status":0`)
	}
	for _, own := range []string{p.API, p.Admin, p.HTTP} {
		s.expect("/?how=fetch&to="+own+"/", 200, `"status":403`)
	}

	other := p.otherAccount(t)
	if _, err := p.send("PUT", other, "reach", script{source: reaches, meta: `"bindings":[{"type":"plain_text","name":"WHO","text":"theirs"}]`}); err != nil {
		t.Fatal(err)
	}
	theirs := p.siteOfAccount(t, other, "reach")
	s.expect("/?how=put", 200, `"status":200`)
	s.expect("/?how=match", 200, `"mine"`)
	theirs.expect("/?how=match", 200, `"status":404`)
	if s.host == theirs.host {
		t.Errorf("two accounts share %s", s.host)
	}

	q := up(t, t.TempDir(), "--workers-allow", "127.0.0.0/8")
	s = q.deploy("reach", script{source: reaches})
	s.expect("/?how=fetch&to=http://127.0.0.1:"+port+"/", 200, "the inside")
	s.expect("/?how=connect&to=127.0.0.1:"+port, 200, "connected")
	s.expect("/?how=fetch&to=http://10.0.0.1:"+port+"/", 200, `"status":403`)
	s.expect("/?how=fetch&to="+q.API+"/", 200, `"status":403`)
}

// TestOperationsOfARequest has one request ask more of a namespace and a database together than it may.
func TestOperationsOfARequest(t *testing.T) {
	t.Parallel()
	p := up(t, t.TempDir())
	n := deployNumbers(t, p) // for what it makes
	s := p.deploy("greedy", script{source: `export default { async fetch(request, env) {
		let asked = 0;
		try {
			for (;; asked++) await (asked % 2 ? env.KV.get("key") : env.DB.prepare("SELECT 1").run());
		} catch (e) {
			const also = await env.KV.get("key").catch((e) => e.message);
			return Response.json([asked, e.message, also]);
		}
	} }`, meta: fmt.Sprintf(`"limits":{"subrequests":20},"bindings":[{"type":"kv_namespace","name":"KV","namespace_id":%q},{"type":"d1","name":"DB","id":%q}]`, n.made["kv"], n.made["d1"])})
	const why = "Too many API requests by single Worker invocation: the limit is 20 operations on what the Worker is bound to. Do several in one, as batch() and bulk reads do, spread the work with a queue, or raise limits.subrequests."
	for range 3 {
		s.expect("/", 200, fmt.Sprintf(`[20,%q,%q]`, "D1_ERROR: "+why, "KV GET failed: 429 "+why))
	}
}
