package proxy_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"selvage/edge"
	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/producttest"
	"selvage/product/proxy"
	"selvage/spec"
)

func TestProduct(t *testing.T) {
	producttest.Run(t, func(*testing.T) product.Product { return proxy.New(proxy.Options{}) })
}

// world is two accounts with zones that lean on each other.
func world() *spec.Snapshot {
	var changes []spec.Change
	put := func(n spec.Noun) { changes = append(changes, spec.Change{Key: n.Key(), Noun: n}) }
	zone := func(id, account, name, status string, settings map[string]any) {
		put(&spec.Zone{ID: id, AccountID: account, Name: name, Status: status, Type: "full"})
		put(&spec.Settings{ZoneID: id, Values: settings})
	}
	n := 0
	record := func(zone, typ, name, content string, proxied bool) {
		n++
		put(&spec.Record{ID: "r" + string(rune('a'+n)), ZoneID: zone, Type: typ, Name: name, Content: content, Proxied: proxied, TTL: 1})
	}
	zone("z1", "alice", "one.test", "active", nil)
	record("z1", "A", "one.test", "192.0.2.1", true)
	record("z1", "A", "many.one.test", "192.0.2.1", true)
	record("z1", "AAAA", "many.one.test", "2001:db8::1", true)
	record("z1", "A", "many.one.test", "192.0.2.2", true)
	record("z1", "A", "*.one.test", "192.0.2.9", true)
	record("z1", "A", "grey.one.test", "192.0.2.3", false)
	record("z1", "TXT", "deep.txt.one.test", "x", false)
	record("z1", "CNAME", "inside.one.test", "Grey.one.test.", true)
	record("z1", "CNAME", "across.one.test", "www.two.test", true)
	record("z1", "CNAME", "foreign.one.test", "secret.three.test", true)
	record("z1", "CNAME", "outside.one.test", "origin.example.net", true)
	record("z1", "CNAME", "nowhere.one.test", "missing.two.test", true)
	record("z1", "CNAME", "loop1.one.test", "loop2.one.test", true)
	record("z1", "CNAME", "loop2.one.test", "loop1.one.test", true)
	zone("z2", "alice", "two.test", "active", map[string]any{"ssl": "strict", "always_use_https": "on", "websockets": "off", "max_upload": 1.0, "min_tls_version": "1.3", "http2": "off", "proxy_read_timeout": 7.0, "ip_geolocation": "on"})
	record("z2", "A", "www.two.test", "192.0.2.20", true)
	zone("z3", "bob", "three.test", "active", map[string]any{"ssl": "full", "tls_1_3": "off", "origin_max_http_version": "1"})
	record("z3", "A", "secret.three.test", "192.0.2.30", false)
	record("z3", "A", "three.test", "192.0.2.31", true)
	zone("z4", "bob", "pending.test", "pending", nil)
	record("z4", "A", "pending.test", "192.0.2.40", true)
	zone("z5", "bob", "sub.one.test", "active", map[string]any{"ssl": "off"})
	record("z5", "A", "sub.one.test", "192.0.2.50", true)
	return spec.NewSnapshot().With(1, changes)
}

func ready(t testing.TB, o proxy.Options, s *spec.Snapshot) *proxy.Proxy {
	t.Helper()
	p := proxy.New(o)
	commit(t, p, s)
	return p
}

func commit(t testing.TB, p *proxy.Proxy, s *spec.Snapshot) {
	t.Helper()
	c, err := p.Prepare(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	c.Commit()
}

// ask sends one request for a URL-like "https://host/path" through the phase. went tells whether it
// got to the next one.
func ask(p *proxy.Proxy, url string, edit func(ex *edge.Exchange)) (ex *edge.Exchange, went bool, failure *edge.Failure) {
	ex = &edge.Exchange{ID: "0", Start: time.Now(), Client: netip.MustParseAddrPort("198.51.100.7:1"), Inform: func(int, *edge.Header) {}}
	scheme, rest, _ := strings.Cut(url, "://")
	authority, path, _ := strings.Cut(rest, "/")
	host, port, _ := edge.ParseAuthority(authority)
	ex.Request = edge.Request{Method: "GET", Scheme: scheme, Host: host, Port: port, Path: "/" + path}
	if scheme == "https" {
		ex.TLS = &edge.TLS{ServerName: host}
	}
	if edit != nil {
		edit(ex)
	}
	err := p.Phase().Handle(context.Background(), ex, func(context.Context, *edge.Exchange) error { went = true; return nil })
	errors.As(err, &failure)
	return ex, went, failure
}

func TestHostsFindTheirOrigin(t *testing.T) {
	p := ready(t, proxy.Options{}, world())
	for _, tt := range []struct{ url, zone, target string }{
		{"http://one.test/", "one.test", "http 192.0.2.1:80"},
		{"http://one.test:8080/", "one.test", "http 192.0.2.1:80"},
		{"https://one.test/", "one.test", "http 192.0.2.1:80"}, // flexible
		{"http://any.one.test/", "one.test", "http 192.0.2.9:80"},
		{"http://a.b.one.test/", "one.test", "http 192.0.2.9:80"},
		{"http://inside.one.test/", "one.test", "http 192.0.2.3:80"},
		{"http://across.one.test/", "one.test", "http 192.0.2.20:80"},
		{"http://foreign.one.test/", "one.test", "http secret.three.test:80"}, // never out of another account's zone
		{"http://outside.one.test/", "one.test", "http origin.example.net:80"},
		{"https://www.two.test/", "two.test", "https 192.0.2.20:443 www.two.test verify h2"},
		{"https://three.test/", "three.test", "https 192.0.2.31:443 three.test"},
		{"http://three.test/", "three.test", "http 192.0.2.31:80"},
		{"http://sub.one.test/", "sub.one.test", "http 192.0.2.50:80"},
	} {
		ex, went, failure := ask(p, tt.url, nil)
		if !went || failure != nil {
			t.Errorf("%s did not go on: %v", tt.url, failure)
			continue
		}
		if got := describe(ex.Target); got != tt.target || ex.Zone.Zone.Name != tt.zone {
			t.Errorf("%s: zone %s, target %s, want %s, %s", tt.url, ex.Zone.Zone.Name, got, tt.zone, tt.target)
		}
	}
}

func describe(t edge.Target) string {
	where := t.Hostname
	if len(t.Addrs) > 0 {
		where = t.Addrs[0].String()
	}
	s := t.Scheme + " " + where + ":" + strconv.Itoa(int(t.Port))
	if t.ServerName != "" {
		s += " " + t.ServerName
	}
	if t.Host != "" {
		s += " host=" + t.Host
	}
	if t.Verify {
		s += " verify"
	}
	if t.HTTP2 {
		s += " h2"
	}
	return s
}

func TestRefusals(t *testing.T) {
	p := ready(t, proxy.Options{}, world())
	for _, tt := range []struct {
		url          string
		edit         func(*edge.Exchange)
		status, code int
		reason       string
	}{
		{"http://other.example/", nil, 409, 1001, "unknown_host"},
		{"http://grey.one.test/", nil, 409, 1001, "unknown_host"},
		{"http://txt.one.test/", nil, 409, 1001, "unknown_host"},        // exists without records: the wildcard does not apply
		{"http://x.deep.txt.one.test/", nil, 409, 1001, "unknown_host"}, // closest encloser hides the wildcard
		{"http://two.test/", nil, 409, 1001, "unknown_host"},
		{"http://pending.test/", nil, 409, 1001, "unknown_host"},
		{"http://test/", nil, 409, 1001, "unknown_host"},
		{"http://192.0.2.1/", nil, 403, 1003, "direct_ip"},
		{"http://[2001:db8::1]:8080/", nil, 403, 1003, "direct_ip"},
		{"http://nowhere.one.test/", nil, 530, 1016, "origin_dns"},
		{"http://loop1.one.test/", nil, 530, 1016, "origin_dns"},
		{"http://one.test/", func(ex *edge.Exchange) { ex.Request.Header.Add("cdn-loop", "other; n=1, selvage") }, 403, 1000, "loop"},
		{"https://one.test/", func(ex *edge.Exchange) { ex.TLS.ServerName = "www.two.test" }, 421, 0, "misdirected"},
		{"https://one.test/", func(ex *edge.Exchange) { ex.TLS.ServerName = "elsewhere.example" }, 421, 0, "misdirected"},
		{"https://www.two.test/", func(ex *edge.Exchange) { ex.Request.Upgrade = "websocket" }, 403, 0, "websockets_off"},
		{"https://www.two.test/", func(ex *edge.Exchange) { ex.Request.Length = 1<<20 + 1 }, 413, 0, "body_too_large"},
	} {
		_, went, f := ask(p, tt.url, tt.edit)
		if went || f == nil || f.Status != tt.status || f.Code != tt.code || f.Reason != tt.reason {
			t.Errorf("%s: went on %v, %+v, want %d %d %s", tt.url, went, f, tt.status, tt.code, tt.reason)
		}
	}
	for _, ok := range []func(*edge.Exchange){
		func(ex *edge.Exchange) { ex.TLS.ServerName = "any.one.test" },
		func(ex *edge.Exchange) { ex.TLS.ServerName = "" },
		func(ex *edge.Exchange) { ex.Request.Upgrade = "websocket" },
		func(ex *edge.Exchange) { ex.Request.Header.Add("CDN-Loop", "notselvage") },
	} {
		if _, went, f := ask(p, "https://one.test/", ok); !went {
			t.Errorf("refused: %v", f)
		}
	}
}

func TestRedirects(t *testing.T) {
	ports := func() (uint16, uint16) { return 8080, 8443 }
	p := ready(t, proxy.Options{Ports: ports}, world())
	for _, tt := range []struct{ url, location string }{
		{"http://www.two.test/a%20b?c", "https://www.two.test/a%20b?c"},
		{"http://www.two.test:8080/a", "https://www.two.test:8443/a"},
		{"http://www.two.test/.well-known/acme-challenge/x", ""},
		{"https://www.two.test/", ""},
		{"https://sub.one.test:8443/x", "http://sub.one.test:8080/x"},
		{"http://sub.one.test/x", ""},
	} {
		ex, went, failure := ask(p, tt.url, nil)
		if failure != nil || went != (tt.location == "") || ex.Response.Header.Get("Location") != tt.location || tt.location != "" && ex.Response.Status != 301 {
			t.Errorf("%s: %d to %q, %v, want %q", tt.url, ex.Response.Status, ex.Response.Header.Get("Location"), failure, tt.location)
		}
	}
}

func TestAddressesTakeTurns(t *testing.T) {
	p := ready(t, proxy.Options{}, world())
	first := map[string]int{}
	for range 6 {
		ex, _, _ := ask(p, "http://many.one.test/", nil)
		if len(ex.Target.Addrs) != 3 {
			t.Fatalf("target has %v", ex.Target.Addrs)
		}
		first[ex.Target.Addrs[0].String()]++
	}
	if len(first) != 3 || first["192.0.2.1"] != 2 {
		t.Errorf("first addresses of six requests: %v", first)
	}
}

func TestCountryAndUploadLimit(t *testing.T) {
	p := ready(t, proxy.Options{Country: func(netip.Addr) string { return "NL" }}, world())
	ex, went, _ := ask(p, "https://www.two.test/", func(ex *edge.Exchange) {
		ex.Request.Length = -1
		ex.Request.Body = strings.NewReader(strings.Repeat("x", 1<<20+1))
	})
	if !went || ex.Request.Header.Get("CF-IPCountry") != "NL" || ex.Country != "NL" || ex.Target.ReadTimeout != 7*time.Second {
		t.Errorf("went on %v, country %q, target %+v", went, ex.Country, ex.Target)
	}
	var err error
	for buf := make([]byte, 64<<10); err == nil; {
		_, err = ex.Request.Body.Read(buf)
	}
	if fault.KindOf(err) != fault.TooMuch {
		t.Errorf("reading a body over the limit: %v", err)
	}
}

func TestChangesTakeEffectPerZone(t *testing.T) {
	s := world()
	p := ready(t, proxy.Options{}, s)
	moved := *s.Zones["z1"].Records[0]
	for _, r := range s.Zones["z1"].Records {
		if r.Name == "one.test" {
			moved = *r
		}
	}
	moved.Content = "192.0.2.77"
	next := s.With(2, []spec.Change{{Key: moved.Key(), Noun: &moved}})
	commit(t, p, next)
	if ex, _, _ := ask(p, "http://one.test/", nil); describe(ex.Target) != "http 192.0.2.77:80" {
		t.Errorf("after the change: %s", describe(ex.Target))
	}
	paused := *s.Zones["z1"].Zone
	paused.Paused = true
	commit(t, p, next.With(3, []spec.Change{{Key: paused.Key(), Noun: &paused}}))
	if _, went, _ := ask(p, "http://one.test/", nil); went {
		t.Error("a paused zone is served")
	}
}

func ruleset(rules ...spec.Rule) *spec.Ruleset {
	return &spec.Ruleset{ID: "rs", ZoneID: "z1", Kind: "zone", Phase: "http_request_origin", Rules: rules}
}

func TestOriginRules(t *testing.T) {
	rules := ruleset(
		spec.Rule{Expression: `http.host eq "one.test"`, Action: "route", Enabled: true, ActionParameters: json.RawMessage(`{"origin":{"port":3000}}`)},
		spec.Rule{Expression: `starts_with(http.request.uri.path, "/api")`, Action: "route", Enabled: true, ActionParameters: json.RawMessage(`{"origin":{"host":"127.0.0.1"},"host_header":"api.internal"}`)},
		spec.Rule{Expression: `http.request.uri.path eq "/api/cname"`, Action: "route", Enabled: true, ActionParameters: json.RawMessage(`{"origin":{"host":"www.two.test","port":444},"sni":{"value":"sni.test"}}`)},
		spec.Rule{Expression: `true`, Action: "route", Enabled: false, ActionParameters: json.RawMessage(`{"origin":{"port":1}}`)},
	)
	strict := &spec.Settings{ZoneID: "z1", Values: map[string]any{"ssl": "strict"}}
	p := ready(t, proxy.Options{}, world().With(2, []spec.Change{{Key: rules.Key(), Noun: rules}, {Key: strict.Key(), Noun: strict}}))
	for _, tt := range []struct{ url, target string }{
		{"http://one.test/", "http 192.0.2.1:3000"},
		{"http://one.test/api", "http 127.0.0.1:3000 host=api.internal"},
		{"https://one.test/api", "https 127.0.0.1:3000 api.internal host=api.internal verify h2"},
		{"https://one.test/api/cname", "https 192.0.2.20:444 sni.test host=api.internal verify h2"},
		{"http://many.one.test/api", "http 127.0.0.1:80 host=api.internal"},
	} {
		if ex, went, f := ask(p, tt.url, nil); !went || describe(ex.Target) != tt.target {
			t.Errorf("%s: %s, %v, want %s", tt.url, describe(ex.Target), f, tt.target)
		}
	}
}

func TestOriginRuleFaults(t *testing.T) {
	p := proxy.New(proxy.Options{})
	check := p.RulePhases()[0].Check
	for _, tt := range []struct{ expression, action, params, field string }{
		{`http.hots eq "x"`, "route", `{"origin":{"port":1}}`, "rules[0].expression"},
		{`true`, "block", `{}`, "rules[0].action"},
		{`true`, "route", ``, "rules[0].action_parameters"},
		{`true`, "route", `{}`, "rules[0].action_parameters.origin"},
		{`true`, "route", `{"origin":{"port":70000}}`, "rules[0].action_parameters.origin.port"},
		{`true`, "route", `{"origin":{"host":"a b"}}`, "rules[0].action_parameters.origin.host"},
		{`true`, "route", `{"origin":{"host":"a:80"}}`, "rules[0].action_parameters.origin.host"},
		{`true`, "route", `{"host_header":"a\r\nb"}`, "rules[0].action_parameters.host_header"},
		{`true`, "route", `{"sni":{}}`, "rules[0].action_parameters.sni.value"},
		{`true`, "route", `{"orign":{}}`, "rules[0].action_parameters.orign"},
	} {
		err := check(ruleset(spec.Rule{Expression: tt.expression, Action: tt.action, ActionParameters: json.RawMessage(tt.params)}))
		faults := fault.All(err)
		if len(faults) != 1 || faults[0].Field != tt.field {
			t.Errorf("Check(%s, %s, %s) = %v, want one fault at %s", tt.expression, tt.action, tt.params, err, tt.field)
		}
	}
	var costly []spec.Rule
	for range 300 {
		costly = append(costly, spec.Rule{Expression: `http.host matches "[a-z]*[a-y]*[a-x]*1"`, Action: "route", ActionParameters: json.RawMessage(`{"origin":{"port":1}}`), Enabled: true})
	}
	if all := fault.All(check(ruleset(costly...))); len(all) != 1 || all[0].Field != "rules" {
		t.Errorf("regular expressions that cost too much together: got %v, want one fault at rules", all)
	}
	bad := ruleset(spec.Rule{Expression: "nonsense", Action: "route", Enabled: true})
	_, err := p.Prepare(t.Context(), world().With(2, []spec.Change{{Key: bad.Key(), Noun: bad}}))
	var zone *product.ZoneError
	if !errors.As(err, &zone) || zone.ZoneID != "z1" {
		t.Errorf("Prepare with a bad rule = %v, want it to blame z1", err)
	}
}

func BenchmarkPhase(b *testing.B) {
	p := ready(b, proxy.Options{}, world())
	phase := p.Phase()
	ex := &edge.Exchange{Request: edge.Request{Method: "GET", Scheme: "https", Host: "many.one.test", Path: "/"}, TLS: &edge.TLS{ServerName: "many.one.test"}}
	next := func(context.Context, *edge.Exchange) error { return nil }
	b.ReportAllocs()
	for b.Loop() {
		phase.Handle(context.Background(), ex, next)
	}
}

// TestCommitsUnderRequests swaps tables while requests read them; -race watches.
func TestCommitsUnderRequests(t *testing.T) {
	one := world()
	apex := one.Zones["z2"].Records[0]
	other := *apex
	other.Content = "192.0.2.21"
	two := one.With(2, []spec.Change{{Key: other.Key(), Noun: &other}})
	p := ready(t, proxy.Options{}, one)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 500 {
				ex, went, f := ask(p, "https://www.two.test/", nil)
				if got := describe(ex.Target); !went || !strings.HasPrefix(got, "https 192.0.2.2") {
					t.Errorf("in the middle of a commit: %s, %v", got, f)
					return
				}
				ask(p, "http://many.one.test/", nil)
			}
		})
	}
	for i := range 200 {
		commit(t, p, []*spec.Snapshot{one, two}[i%2])
	}
	group.Wait()
}

func FuzzHost(f *testing.F) {
	for _, s := range []string{"one.test", "a.b.one.test", "ONE.test.", "192.0.2.1", "[::1]:80", "..", "*.one.test", "xn--bcher-kva.one.test", "one.test:8080", strings.Repeat("a.", 120) + "one.test"} {
		f.Add(s)
	}
	p := ready(f, proxy.Options{}, world())
	f.Fuzz(func(t *testing.T, authority string) {
		if strings.Contains(authority, "/") {
			return
		}
		ex, went, failure := ask(p, "https://"+authority+"/", nil)
		if went == (failure != nil) {
			t.Errorf("%q: went on %v, failure %v", authority, went, failure)
		}
		if went && (!spec.InZone(ex.Request.Host, ex.Zone.Zone.Name) || len(ex.Target.Addrs) == 0 && ex.Target.Hostname == "") {
			t.Errorf("%q is served by zone %s from %+v", authority, ex.Zone.Zone.Name, ex.Target)
		}
	})
}
