package api_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"selvage/control/api"
	"selvage/product"
)

// idOf returns the ID of a permission group by name.
func (s *site) idOf(name string) string {
	s.t.Helper()
	var groups []struct{ ID, Name string }
	s.do("GET", "/user/tokens/permission_groups", "").into(s.t, &groups)
	for _, g := range groups {
		if g.Name == name {
			return g.ID
		}
	}
	s.t.Fatalf("no permission group %q", name)
	return ""
}

// policy returns a policy as JSON. effect, then resources as JSON, then names of groups.
func (s *site) policy(effect, resources string, groups ...string) string {
	var ids []string
	for _, g := range groups {
		ids = append(ids, `{"id":"`+s.idOf(g)+`"}`)
	}
	return fmt.Sprintf(`{"effect":%q,"resources":%s,"permission_groups":[%s]}`, effect, resources, strings.Join(ids, ","))
}

// token creates a token of the owner, or of the account if path says so, and returns ID and secret.
func (s *site) token(path, extra string, policies ...string) (id, secret string) {
	s.t.Helper()
	var v struct{ ID, Value string }
	s.do("POST", path, `{"name":"test"`+extra+`,"policies":[`+strings.Join(policies, ",")+`]}`).into(s.t, &v)
	if len(v.Value) != 43 || !strings.HasPrefix(v.Value, "sv_") {
		s.t.Fatalf("secret %q", v.Value)
	}
	return v.ID, v.Value
}

func TestHeaders(t *testing.T) {
	s := newSite(t)
	tests := []struct {
		name, value           string
		status, code, chained int
	}{
		{"", "", 400, 9106, 0},
		{"X-Auth-Key", "deadbeef", 400, 6003, 6103},
		{"X-Auth-Email", "me@example.com", 400, 6003, 6103},
		{"Authorization", "Basic abc", 400, 6003, 6111},
		{"Authorization", "Bearer", 400, 6003, 6111},
		{"Authorization", "Bearer short", 400, 6003, 6111},
		{"Authorization", "Bearer " + strings.Repeat("a b", 15), 400, 6003, 6111},
		{"Authorization", "Bearer " + strings.Repeat("a", 40), 403, 9109, 0},
		{"Authorization", "bearer  " + s.owner.Secret, 200, 0, 0},
	}
	for _, tt := range tests {
		r := httptest.NewRequest("GET", "/client/v4/zones", nil)
		if tt.name != "" {
			r.Header.Set(tt.name, tt.value)
		}
		g := s.send(r)
		if g.Status != tt.status || g.code() != tt.code || tt.chained != 0 && g.Errors[0].Chain[0].Code != tt.chained {
			t.Errorf("%s: %s = %d: %s, want %d with %d", tt.name, tt.value, g.Status, g.Body, tt.status, tt.code)
		}
	}
	r := httptest.NewRequest("GET", "/client/v4/zones", nil)
	r.Header["Authorization"] = []string{"Bearer " + s.owner.Secret, "Bearer " + s.owner.Secret}
	if g := s.send(r); g.code() != 6003 {
		t.Errorf("two Authorization fields = %d %s", g.Status, g.Body)
	}
	if g := s.as("", "GET", "/ips", ""); g.Status != 200 || !strings.Contains(g.Body, "192.0.2.1/32") || !strings.Contains(g.Body, "2001:db8::1/128") {
		t.Errorf("GET /ips = %d %s", g.Status, g.Body)
	}
}

// TestRights is the matrix of token kinds, routes and tenants.
func TestRights(t *testing.T) {
	s := newSite(t)
	mine, other := s.zone("mine.test"), s.zone("other.test")
	var acc struct{ ID string }
	s.do("POST", "/accounts", `{"name":"second"}`).into(t, &acc)
	var z struct{ ID string }
	s.do("POST", "/zones", `{"name":"foreign.test","account":{"id":"`+acc.ID+`"}}`).into(t, &z)
	first, second, foreign := s.owner.AccountID, acc.ID, z.ID

	onZone := func(id string) string { return `{"com.cloudflare.api.account.zone.` + id + `":"*"}` }
	onAccount := func(id string) string { return `{"com.cloudflare.api.account.` + id + `":"*"}` }
	zonesOf := func(id string) string {
		return `{"com.cloudflare.api.account.` + id + `":{"com.cloudflare.api.account.zone.*":"*"}}`
	}
	secret := func(path string, policies ...string) string {
		_, v := s.token(path, "", policies...)
		return v
	}
	read := secret("/user/tokens", s.policy("allow", onZone(mine), "Zone Read"))
	write := secret("/user/tokens", s.policy("allow", onZone(mine), "Zone Write"))
	settings := secret("/user/tokens", s.policy("allow", zonesOf(first), "Zone Settings Write", "Zone Read"))
	account := secret("/user/tokens", s.policy("allow", onAccount(second), "Zone Write", "Account Settings Read"))
	all := secret("/user/tokens", s.policy("allow", `{"com.cloudflare.api.account.*":"*"}`, "All Privileges"))
	butOne := secret("/user/tokens", s.policy("allow", `{"com.cloudflare.api.account.zone.*":"*"}`, "Zone Write"), s.policy("deny", onZone(other), "Zone Read"))
	noWrite := secret("/user/tokens", s.policy("allow", onAccount("*"), "Zone Write"), s.policy("deny", onZone(mine), "Zone Write"))
	self := secret("/user/tokens", s.policy("allow", `{"com.cloudflare.api.user.*":"*"}`, "API Tokens Read", "User Details Read"))
	owned := secret("/accounts/"+first+"/tokens", s.policy("allow", `{"com.cloudflare.api.account.*":"*"}`, "All Privileges"))

	tests := []struct {
		who, token, method, path string
		status                   int
	}{
		{"read", read, "GET", "/zones/" + mine, 200},
		{"read", read, "PATCH", "/zones/" + mine, 403},
		{"read", read, "DELETE", "/zones/" + mine, 403},
		{"read", read, "GET", "/zones/" + mine + "/settings", 403},
		{"read", read, "GET", "/zones/" + other, 404},
		{"read", read, "GET", "/zones/" + foreign, 404},
		{"read", read, "GET", "/accounts/" + first, 404},
		{"read", read, "GET", "/user", 403},
		{"read", read, "GET", "/user/tokens", 403},
		{"read", read, "GET", "/user/tokens/verify", 200},
		{"read", read, "GET", "/accounts", 200},
		{"write", write, "GET", "/zones/" + mine, 200},
		{"write", write, "PATCH", "/zones/" + mine, 200},
		{"write", write, "PATCH", "/zones/" + other, 404},
		{"write", write, "POST", "/zones", 403},
		{"settings", settings, "GET", "/zones/" + other + "/settings", 200},
		{"settings", settings, "GET", "/zones/" + foreign + "/settings", 404},
		{"settings", settings, "PATCH", "/zones/" + other, 403},
		{"settings", settings, "GET", "/zones/" + mine + "/rulesets/phases/" + phaseName + "/entrypoint", 403},
		{"account", account, "GET", "/zones/" + foreign, 200},
		{"account", account, "PATCH", "/zones/" + foreign, 200},
		{"account", account, "GET", "/zones/" + mine, 404},
		{"account", account, "GET", "/accounts/" + second, 200},
		{"account", account, "PUT", "/accounts/" + second, 403},
		{"account", account, "GET", "/accounts/" + first, 404},
		{"account", account, "POST", "/accounts", 403},
		{"all", all, "GET", "/zones/" + foreign, 200},
		{"all", all, "GET", "/accounts/" + first + "/tokens", 200},
		{"all", all, "GET", "/user", 403},
		{"butOne", butOne, "GET", "/zones/" + mine, 200},
		{"butOne", butOne, "GET", "/zones/" + other, 403},
		{"butOne", butOne, "PATCH", "/zones/" + other, 403},
		{"noWrite", noWrite, "GET", "/zones/" + mine, 200},
		{"noWrite", noWrite, "PATCH", "/zones/" + mine, 403},
		{"noWrite", noWrite, "PATCH", "/zones/" + other, 200},
		{"self", self, "GET", "/user", 200},
		{"self", self, "PATCH", "/user", 403},
		{"self", self, "GET", "/user/tokens", 200},
		{"self", self, "POST", "/user/tokens", 403},
		{"self", self, "GET", "/zones/" + mine, 404},
		{"owned", owned, "GET", "/zones/" + mine, 200},
		{"owned", owned, "GET", "/zones/" + foreign, 404},
		{"owned", owned, "GET", "/accounts/" + second, 404},
		{"owned", owned, "GET", "/user", 403},
		{"owned", owned, "GET", "/user/tokens", 403},
		{"owned", owned, "GET", "/user/tokens/verify", 401},
		{"owned", owned, "GET", "/accounts/" + first + "/tokens/verify", 200},
		{"owned", owned, "GET", "/accounts/" + first + "/tokens", 200},
		{"owner", s.owner.Secret, "GET", "/accounts/" + first + "/tokens/verify", 401},
		{"owner", s.owner.Secret, "GET", "/zones/" + foreign, 200},
	}
	for _, tt := range tests {
		if g := s.as(tt.token, tt.method, tt.path, "{}"); g.Status != tt.status {
			t.Errorf("%s: %s %s = %d, want %d: %s", tt.who, tt.method, tt.path, g.Status, tt.status, g.Body)
		}
	}

	listings := []struct {
		who, token, path string
		want             int
	}{
		{"read", read, "/zones", 1},
		{"settings", settings, "/zones", 2},
		{"account", account, "/zones", 1},
		{"butOne", butOne, "/zones", 2},
		{"all", all, "/zones", 3},
		{"owned", owned, "/zones", 2},
		{"owner", s.owner.Secret, "/zones", 3},
		{"read", read, "/accounts", 0},
		{"account", account, "/accounts", 1},
		{"owned", owned, "/accounts", 1},
		{"owner", s.owner.Secret, "/accounts", 2},
		{"owner", s.owner.Secret, "/memberships", 2},
	}
	for _, tt := range listings {
		g := s.as(tt.token, "GET", tt.path, "")
		if g.Info == nil || g.Info.TotalCount != tt.want || !strings.HasPrefix(string(g.Result), "[") {
			t.Errorf("%s: GET %s has %+v, want %d: %s", tt.who, tt.path, g.Info, tt.want, g.Body)
		}
	}
	// What does not exist and what is another's look the same.
	a, b := s.as(read, "GET", "/zones/"+foreign, ""), s.as(read, "GET", "/zones/"+strings.Repeat("f", 32), "")
	if strings.ReplaceAll(a.Body, foreign, "") != strings.ReplaceAll(b.Body, strings.Repeat("f", 32), "") {
		t.Errorf("existence leaks: %s and %s", a.Body, b.Body)
	}
	// A right to write rulesets of a phase is that of the phase's product.
	cache := secret("/user/tokens", s.policy("allow", onZone(mine), "Cache Settings Write"))
	if g := s.as(cache, "PUT", "/zones/"+mine+"/rulesets/phases/"+phaseName+"/entrypoint", `{"rules":[]}`); g.Status != 200 {
		t.Errorf("Cache Settings Write cannot write cache rules: %s", g.Body)
	}
	if g := s.as(cache, "GET", "/zones/"+mine, ""); g.Status != 403 {
		t.Errorf("Cache Settings Write reads the zone: %d", g.Status)
	}
}

func TestTokenLife(t *testing.T) {
	s := newSite(t)
	p := s.policy("allow", `{"com.cloudflare.api.account.*":"*"}`, "Zone Read")
	works := func(token string) bool { return s.as(token, "GET", "/zones", "").Status == 200 }

	id, token := s.token("/user/tokens", "", p)
	if !works(token) {
		t.Error("a fresh token does not work")
	}
	one := s.do("GET", "/user/tokens/"+id, "")
	if strings.Contains(one.Body, token) || strings.Contains(one.Body, "hash") || !strings.Contains(one.Body, "last_used_on") {
		t.Errorf("a token shows too much or too little: %s", one.Body)
	}
	var rolled string
	s.do("PUT", "/user/tokens/"+id+"/value", "{}").into(t, &rolled)
	if works(token) || !works(rolled) {
		t.Errorf("after a roll the old secret works: %v, the new: %v", works(token), works(rolled))
	}
	body := `{"name":"renamed","status":%q,"policies":[` + p + `]}`
	s.do("PUT", "/user/tokens/"+id, fmt.Sprintf(body, "disabled")).into(t, &struct{}{})
	if g := s.as(rolled, "GET", "/zones", ""); g.Status != 403 || g.code() != 9109 {
		t.Errorf("disabled token = %d %s", g.Status, g.Body)
	}
	if g := s.as(rolled, "GET", "/user/tokens/verify", ""); g.Status != 401 || g.code() != 1000 {
		t.Errorf("verify of a disabled token = %d %s", g.Status, g.Body)
	}
	s.do("PUT", "/user/tokens/"+id, fmt.Sprintf(body, "active")).into(t, &struct{}{})
	if !works(rolled) {
		t.Error("a token made active again does not work")
	}
	s.do("DELETE", "/user/tokens/"+id, "").into(t, &struct{}{})
	if works(rolled) || s.do("GET", "/user/tokens/"+id, "").Status != 404 {
		t.Error("a revoked token lives on")
	}

	_, later := s.token("/user/tokens", `,"not_before":"2026-11-24T00:00:00Z","expires_on":"2026-11-25T00:00:00Z"`, p)
	for _, step := range []struct {
		at   string
		want bool
	}{{"2026-11-23T23:59:59Z", false}, {"2026-11-24T00:00:00Z", true}, {"2026-11-24T23:59:59Z", true}, {"2026-11-25T00:00:00Z", false}} {
		s.now, _ = time.Parse(time.RFC3339, step.at)
		if works(later) != step.want {
			t.Errorf("at %s the token works: %v", step.at, !step.want)
		}
	}

	from := func(token, addr string) int {
		r := httptest.NewRequest("GET", "/client/v4/zones", nil)
		r.RemoteAddr = addr
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("X-Forwarded-For", "192.0.2.7")
		return s.send(r).Status
	}
	_, bound := s.token("/user/tokens", `,"condition":{"request_ip":{"in":["192.0.2.0/24","2001:db8::/32"],"not_in":["192.0.2.66"]}}`, p)
	for addr, want := range map[string]int{
		"192.0.2.7:1": 200, "[::ffff:192.0.2.7]:1": 200, "[2001:db8::5]:1": 200,
		"192.0.2.66:1": 403, "198.51.100.1:1": 403, "@": 403,
	} {
		if got := from(bound, addr); got != want {
			t.Errorf("from %s = %d, want %d", addr, got, want)
		}
	}
}

// TestTokenLimit: those who create at the same time count each other.
func TestTokenLimit(t *testing.T) {
	s := newSite(t)
	path := "/accounts/" + s.owner.AccountID + "/tokens"
	body := `{"name":"x","policies":[` + s.policy("allow", `{"com.cloudflare.api.account.*":"*"}`, "Zone Read") + `]}`
	var made atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 33 {
				r := httptest.NewRequest("POST", "/client/v4"+path, strings.NewReader(body))
				r.Header.Set("Authorization", "Bearer "+s.owner.Secret)
				w := httptest.NewRecorder()
				s.ServeHTTP(w, r)
				if w.Code == 200 {
					made.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if made.Load() != 500 {
		t.Errorf("%d tokens were made, the limit is 500", made.Load())
	}
}

func TestTokenRefusals(t *testing.T) {
	s := newSite(t)
	read := s.idOf("Zone Read")
	ok := `"permission_groups":[{"id":"` + read + `"}]`
	tests := []struct{ body, pointer string }{
		{`{"name":"x","policies":[]}`, "/policies"},
		{`{"name":"","policies":[{"effect":"allow","resources":{"com.cloudflare.api.account.*":"*"},` + ok + `}]}`, "/name"},
		{`{"name":"x","policies":[{"effect":"perhaps","resources":{"com.cloudflare.api.account.*":"*"},` + ok + `}]}`, "/policies/0/effect"},
		{`{"name":"x","policies":[{"effect":"allow","resources":{"com.cloudflare.api.bucket":"*"},` + ok + `}]}`, "/policies/0/resources"},
		{`{"name":"x","policies":[{"effect":"allow","resources":{"com.cloudflare.api.account.*":"+"},` + ok + `}]}`, "/policies/0/resources"},
		{`{"name":"x","policies":[{"effect":"allow","resources":{"com.cloudflare.api.account.*":"*"},"permission_groups":[{"id":"nope"}]}]}`, "/policies/0/permission_groups/0/id"},
		{`{"name":"x","policies":[{"effect":"allow","resources":{},` + ok + `}]}`, "/policies/0"},
		{`{"name":"x","policies":[{"effect":"allow","resources":{"com.cloudflare.api.account.*":"*"},` + ok + `}],"condition":{"request_ip":{"in":["10.0.0.0/99"]}}}`, "/condition/request_ip/in/0"},
		{`{"name":"x","policies":[{"effect":"allow","resources":{"com.cloudflare.api.account.*":"*"},` + ok + `}],"expires_on":"tomorrow"}`, ""},
		{`{"name":"x","policies":[{"effect":"allow","resources":{"com.cloudflare.api.account.*":"*"},` + ok + `,"extra":1}]}`, "/policies/0/extra"},
	}
	for _, tt := range tests {
		g := s.do("POST", "/user/tokens", tt.body)
		if g.Status != 400 || g.Errors[0].Source["pointer"] != tt.pointer {
			t.Errorf("POST %s = %d %s, want 400 at %s", tt.body, g.Status, g.Body, tt.pointer)
		}
	}
	foreign := `{"name":"x","policies":[{"effect":"allow","resources":{"com.cloudflare.api.account.` + strings.Repeat("b", 32) + `":"*"},` + ok + `}]}`
	if g := s.do("POST", "/accounts/"+s.owner.AccountID+"/tokens", foreign); g.Status != 400 {
		t.Errorf("a token of one account about another = %d %s", g.Status, g.Body)
	}
}

func TestGuessing(t *testing.T) {
	s := newSite(t)
	guess := func(addr string, i int) got {
		r := httptest.NewRequest("GET", "/client/v4/zones", nil)
		r.RemoteAddr = addr
		r.Header.Set("Authorization", fmt.Sprintf("Bearer sv_%040d", i))
		return s.send(r)
	}
	limited := 0
	for i := range 50 {
		if g := guess("198.51.100.9:1", i); g.Status == 429 {
			limited++
			if g.Header.Get("Retry-After") == "" || g.code() != 971 {
				t.Fatalf("429 without Retry-After or code: %s", g.Body)
			}
		}
	}
	if limited != 30 {
		t.Errorf("%d of 50 guesses were limited, want 30", limited)
	}
	if g := guess("198.51.100.10:1", 1); g.Status != 403 {
		t.Errorf("another address is limited too: %d", g.Status)
	}
	r := httptest.NewRequest("GET", "/client/v4/zones", nil)
	r.RemoteAddr = "198.51.100.9:2"
	r.Header.Set("Authorization", "Bearer "+s.owner.Secret)
	if g := s.send(r); g.Status != 200 {
		t.Errorf("a good token from the guesser's address = %d", g.Status)
	}
	s.now = s.now.Add(4 * time.Second)
	if g := guess("198.51.100.9:1", 99); g.Status != 403 {
		t.Errorf("after a while = %d, want 403", g.Status)
	}
	for i := range 20000 { // more addresses than are remembered
		guess(fmt.Sprintf("[2001:db8:%x::1]:1", i), i)
	}
}

func TestBootstrap(t *testing.T) {
	s := newSite(t)
	again, err := api.Bootstrap(t.Context(), s.state, fixed(s), false)
	if err != nil || again.Secret != "" || again.AccountID != s.owner.AccountID || again.UserID != s.owner.UserID {
		t.Fatalf("second Bootstrap = %+v, %v", again, err)
	}
	renewed, err := api.Bootstrap(t.Context(), s.state, fixed(s), true)
	if err != nil || renewed.Secret == "" || renewed.AccountID != s.owner.AccountID {
		t.Fatalf("Bootstrap for a new token = %+v, %v", renewed, err)
	}
	// What is stored lets another API over the same state in, and nothing stored is the secret.
	other, err := api.New(api.Options{State: s.state, Clock: fixed(s)})
	if err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]int{renewed.Secret: 200, s.owner.Secret: 403} {
		r := httptest.NewRequest("GET", "/client/v4/user", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		other.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("GET /user with %s = %d, want %d", token, w.Code, want)
		}
	}
}

func TestProductRoutesGetTheirGroup(t *testing.T) {
	route := product.Route{
		Method: "GET", Path: "/zones/{zone_id}/gadgets", Summary: "List gadgets.", Permission: product.Permission{Group: "Gadgets"},
		Handle: func(_ context.Context, c *product.Call) (product.Reply, error) {
			return product.Reply{Result: c.Zone.Zone.Name + " of " + c.Account.Name}, nil
		},
	}
	s := newSite(t, route)
	z := s.zone("mine.test")
	_, token := s.token("/user/tokens", "", s.policy("allow", `{"com.cloudflare.api.account.zone.`+z+`":"*"}`, "Gadgets Read"))
	if g := s.as(token, "GET", "/zones/"+z+"/gadgets", ""); g.Status != 200 || !strings.Contains(g.Body, "mine.test of Selvage") {
		t.Errorf("gadgets = %d %s", g.Status, g.Body)
	}
	if g := s.as(token, "GET", "/zones/"+z, ""); g.Status != 403 {
		t.Errorf("Gadgets Read reads the zone: %d", g.Status)
	}
}
