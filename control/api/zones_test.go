package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"selvage/spec"
)

func TestZoneLife(t *testing.T) {
	s := newSite(t)
	g := s.do("POST", "/zones", `{"name":"Example.TEST.","account":{"id":"`+s.owner.AccountID+`"},"jump_start":true,"type":"full"}`)
	var z map[string]any
	g.into(t, &z)
	for _, name := range []string{
		"id", "name", "status", "paused", "type", "development_mode", "name_servers", "original_name_servers", "original_registrar",
		"original_dnshost", "modified_on", "created_on", "activated_on", "meta", "owner", "account", "tenant", "tenant_unit", "permissions", "plan",
	} {
		if _, ok := z[name]; !ok {
			t.Errorf("the zone has no %s", name)
		}
	}
	if z["name"] != "example.test" || z["status"] != "active" || z["account"].(map[string]any)["name"] != "Selvage" || len(z["name_servers"].([]any)) != 2 {
		t.Errorf("zone = %s", g.Body)
	}
	path := "/zones/" + z["id"].(string)
	if g := s.do("POST", "/zones", `{"name":"example.test"}`); g.Status != 400 || g.code() != 1061 {
		t.Errorf("the same name again = %d %s", g.Status, g.Body)
	}
	if g := s.do("PATCH", path, `{"paused":true}`); !strings.Contains(g.Body, `"paused":true`) {
		t.Errorf("PATCH paused = %s", g.Body)
	}
	if g := s.do("PATCH", path, `{"plan":{"id":"enterprise"}}`); g.Status != 200 || !strings.Contains(g.Body, "Free Website") {
		t.Errorf("PATCH plan = %s", g.Body)
	}
	if g := s.do("PATCH", path, `{"vanity_name_servers":["ns1.example.test"]}`); g.Status != 400 || g.Errors[0].Source["pointer"] != "/vanity_name_servers" {
		t.Errorf("PATCH vanity_name_servers = %d %s", g.Status, g.Body)
	}
	if g := s.do("PUT", path+"/activation_check", ""); g.Status != 200 {
		t.Errorf("activation check = %s", g.Body)
	}
	s.held = errors.New("rules[0].expression: no field htp.host")
	if g := s.do("GET", path, ""); !strings.Contains(string(g.Result), "no field htp.host") || len(g.Messages) != 1 {
		t.Errorf("a zone held back does not say so: %s", g.Body)
	}
	if g := s.do("PATCH", path+"/settings/ssl", `{"value":"full"}`); len(g.Messages) != 1 || !strings.Contains(g.Messages[0].Message, "not in effect") {
		t.Errorf("a change of a zone held back does not say so: %s", g.Body)
	}
	s.held = nil
	if g := s.do("DELETE", path, ""); g.Status != 200 || !strings.Contains(g.Body, z["id"].(string)) {
		t.Errorf("DELETE = %s", g.Body)
	}
	if g := s.do("GET", path, ""); g.Status != 404 {
		t.Errorf("a deleted zone = %d", g.Status)
	}
}

func TestZoneNames(t *testing.T) {
	s := newSite(t)
	s.zone("taken.test")
	var acc struct{ ID string }
	s.do("POST", "/accounts", `{"name":"second"}`).into(t, &acc)
	tests := []struct {
		name, want string // want "" means refused
	}{
		{"bücher.example", "xn--bcher-kva.example"},
		{"XN--BCHER-KVA.test", "xn--bcher-kva.test"},
		{"sub.own.test", "sub.own.test"},
		{"example.co.uk", "example.co.uk"},
		{"com", ""},
		{"co.uk", ""},
		{"localhost", ""},
		{"", ""},
		{".", ""},
		{"a..test", ""},
		{"*.wild.test", ""},
		{"-a.test", ""},
		{"a_b.test", ""},
		{"sp ace.test", ""},
		{"192.0.2.1", ""},
		{"nul\\u0000.test", ""},
		{strings.Repeat("a", 64) + ".test", ""},
		{strings.Repeat("abcdefgh.", 40) + "test", ""},
		{strings.Repeat("ü", 2000) + ".test", ""},
		{"below.taken.test", ""},
	}
	for _, tt := range tests {
		g := s.do("POST", "/zones", `{"name":"`+tt.name+`","account":{"id":"`+acc.ID+`"}}`)
		if tt.want == "" {
			if g.Status != 400 || g.Errors[0].Source["pointer"] != "/name" {
				t.Errorf("zone %.60q = %d %s, want 400", tt.name, g.Status, g.Body)
			}
			continue
		}
		var z struct{ Name string }
		g.into(t, &z)
		if z.Name != tt.want {
			t.Errorf("zone %q is called %q, want %q", tt.name, z.Name, tt.want)
		}
	}
	if g := s.do("POST", "/zones", `{"name":"which.test"}`); g.Status != 400 || g.Errors[0].Source["pointer"] != "/account/id" {
		t.Errorf("a zone without account where there are two = %d %s", g.Status, g.Body)
	}
}

func TestZoneList(t *testing.T) {
	s := newSite(t)
	for i := range 23 {
		s.zone(fmt.Sprintf("z%02d.test", i))
	}
	s.zone("Other.example")
	tests := []struct {
		query string
		first string
		count int
		total int
	}{
		{"", "other.example", 20, 24},
		{"page=2", "z19.test", 4, 24},
		{"page=3", "", 0, 24},
		{"per_page=5&page=2&direction=desc", "z17.test", 5, 24},
		{"name=z03.test", "z03.test", 1, 1},
		{"name=Z03.test", "z03.test", 1, 1},
		{"name=contains:ther", "other.example", 1, 1},
		{"name=starts_with:z1", "z10.test", 10, 10},
		{"name=ends_with:.test&per_page=50", "z00.test", 23, 23},
		{"name=nowhere.test", "", 0, 0},
		{"status=active&per_page=1", "other.example", 1, 24},
		{"status=pending", "", 0, 0},
		{"status=pending&name=z01.test", "", 0, 0},
		{"status=pending&name=z01.test&match=any", "z01.test", 1, 1},
		{"account.name=selvage&per_page=1", "other.example", 1, 24},
		{"account.id=" + s.owner.AccountID + "&per_page=1", "other.example", 1, 24},
		{"account.id=" + strings.Repeat("0", 32), "", 0, 0},
		{"order=status&per_page=1", "other.example", 1, 24},
	}
	for _, tt := range tests {
		g := s.do("GET", "/zones?"+strings.ReplaceAll(tt.query, ":", url.QueryEscape(":")), "")
		var zones []struct{ Name string }
		g.into(t, &zones)
		first := ""
		if len(zones) > 0 {
			first = zones[0].Name
		}
		if len(zones) != tt.count || g.Info.Count != tt.count || g.Info.TotalCount != tt.total || first != tt.first {
			t.Errorf("GET /zones?%s has %d zones from %q, %+v; want %d from %q of %d", tt.query, len(zones), first, g.Info, tt.count, tt.first, tt.total)
		}
	}
	for _, bad := range []string{"page=0", "page=x", "per_page=-1", "order=color", "direction=up", "match=some"} {
		if g := s.do("GET", "/zones?"+bad, ""); g.Status != 400 {
			t.Errorf("GET /zones?%s = %d", bad, g.Status)
		}
	}
}

func TestSettings(t *testing.T) {
	s := newSite(t)
	path := "/zones/" + s.zone("mine.test") + "/settings"
	var all []struct {
		ID         string
		Value      any
		Editable   bool
		ModifiedOn *string `json:"modified_on"`
	}
	s.do("GET", path, "").into(t, &all)
	if len(all) < 10 || !all[0].Editable || all[0].ModifiedOn != nil {
		t.Errorf("settings = %+v", all)
	}
	tests := []struct {
		path, body string
		status     int
		says       string
	}{
		{"/ssl", `{"value":"strict"}`, 200, `"value":"strict"`},
		{"/ssl", `{"id":"ssl","value":"full"}`, 200, `"value":"full"`},
		{"/ssl", `{"value":"lax"}`, 400, "flexible"},
		{"/ssl", `{"value":7}`, 400, "flexible"},
		{"/ssl", `{"value":null}`, 400, "needs a value"},
		{"/ssl", `{}`, 400, "needs a value"},
		{"/ssl", `{"wert":"full"}`, 400, "wert"},
		{"/browser_cache_ttl", `{"value":14400}`, 200, `"value":14400`},
		{"/browser_cache_ttl", `{"value":"14400"}`, 400, "whole number"},
		{"/nonsense", `{"value":"on"}`, 400, "no zone setting"},
		{"", `{"items":[{"id":"brotli","value":"off"},{"id":"http2","value":"off"}]}`, 200, `"id":"http2","value":"off"`},
		{"", `{"items":[{"id":"tls_1_3","value":"off"},{"id":"http2","value":"maybe"}]}`, 400, "http2"},
		{"", `{"items":[{"id":"http2","value":"on"},{"id":"http2","value":"off"}]}`, 400, "twice"},
		{"", `{"items":[]}`, 400, "items"},
		{"", `{"items":[{"id":"nope","value":"off"}]}`, 400, "nope"},
	}
	for _, tt := range tests {
		if g := s.do("PATCH", path+tt.path, tt.body); g.Status != tt.status || !strings.Contains(g.Body, tt.says) {
			t.Errorf("PATCH settings%s %s = %d %s, want %d with %q", tt.path, tt.body, g.Status, g.Body, tt.status, tt.says)
		}
	}
	if g := s.do("GET", path+"/tls_1_3", ""); !strings.Contains(g.Body, `"value":"on"`) {
		t.Errorf("half of a refused change took effect: %s", g.Body)
	}
	if g := s.do("GET", path+"/brotli", ""); !strings.Contains(g.Body, `"value":"off"`) || !strings.Contains(g.Body, "2026-11-23") {
		t.Errorf("brotli = %s", g.Body)
	}
	if g := s.do("GET", path+"/nope", ""); g.Status != 400 || g.code() != 1006 {
		t.Errorf("unknown setting = %d %s", g.Status, g.Body)
	}
	s.do("PATCH", path+"/development_mode", `{"value":"on"}`)
	s.now = s.now.Add(time.Hour)
	if g := s.do("GET", path+"/development_mode", ""); !strings.Contains(g.Body, `"time_remaining":7200`) {
		t.Errorf("development_mode after an hour = %s", g.Body)
	}
	s.now = s.now.Add(2 * time.Hour)
	changed := make(chan struct{}, 1)
	s.state.OnCommit(func(context.Context, *spec.Snapshot) error { changed <- struct{}{}; return nil })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	<-changed
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run = %v", err)
	}
	if g := s.do("GET", path+"/development_mode", ""); !strings.Contains(g.Body, `"value":"off"`) {
		t.Errorf("development_mode after three hours = %s", g.Body)
	}
}

type ruleset struct {
	ID      string
	Version string
	Rules   []struct {
		ID, Ref, Version, Expression, Action, Description string
		Enabled                                           bool
		ActionParameters                                  json.RawMessage `json:"action_parameters"`
	}
}

func (r ruleset) order() string {
	var refs []string
	for _, rule := range r.Rules {
		refs = append(refs, rule.Ref)
	}
	return strings.Join(refs, "")
}

func TestRulesets(t *testing.T) {
	s := newSite(t)
	base := "/zones/" + s.zone("mine.test") + "/rulesets"
	entry := base + "/phases/" + phaseName + "/entrypoint"
	if g := s.do("GET", entry, ""); g.Status != 404 || g.code() != 10003 {
		t.Errorf("no entry point yet = %d %s", g.Status, g.Body)
	}
	rule := func(ref string) string {
		return `{"ref":"` + ref + `","expression":"true","action":"set_cache_settings","action_parameters":{"cache": true}}`
	}
	var r ruleset
	s.do("PUT", entry, `{"rules":[`+rule("a")+`,`+rule("b")+`]}`).into(t, &r)
	if r.Version != "1" || r.order() != "ab" || !r.Rules[0].Enabled || r.Rules[0].Version != "1" || string(r.Rules[0].ActionParameters) != `{"cache":true}` {
		t.Errorf("ruleset = %+v", r)
	}
	one, a, b := base+"/"+r.ID, r.Rules[0].ID, r.Rules[1].ID
	steps := []struct {
		method, path, body, order, version string
	}{
		{"POST", "/rules", rule("c"), "abc", "2"},
		{"POST", "/rules", `{"ref":"d","expression":"true","action":"x","position":{"index":1}}`, "dabc", "3"},
		{"POST", "/rules", `{"ref":"e","expression":"true","action":"x","position":{"before":"` + b + `"}}`, "daebc", "4"},
		{"PATCH", "/rules/" + a, `{"position":{"after":""}}`, "debca", "5"},
		{"PATCH", "/rules/" + a, `{"position":{"before":""}}`, "adebc", "6"},
		{"PATCH", "/rules/" + a, `{"position":{"after":"` + b + `"},"description":"moved"}`, "debac", "7"},
		{"DELETE", "/rules/" + b, "", "deac", "8"},
	}
	for _, st := range steps {
		s.do(st.method, one+st.path, st.body).into(t, &r)
		if r.order() != st.order || r.Version != st.version {
			t.Errorf("%s %s %s = %s version %s, want %s version %s", st.method, st.path, st.body, r.order(), r.Version, st.order, st.version)
		}
	}
	for _, rule := range r.Rules {
		if want := map[string]string{a: "2"}[rule.ID]; want != "" && (rule.Version != want || rule.Description != "moved" || rule.Expression != "true") {
			t.Errorf("the edited rule = %+v", rule)
		}
	}
	refused := []struct {
		method, path, body string
		status             int
	}{
		{"POST", one + "/rules", `{"ref":"d","expression":"true","action":"x"}`, 400},                           // ref taken
		{"POST", one + "/rules", `{"ref":"z","expression":"","action":"x"}`, 400},                               // the phase's check
		{"POST", one + "/rules", `{"ref":"z","expression":"true"}`, 400},                                        // no action
		{"POST", one + "/rules", `{"expression":"true","action":"x","position":{"index":99}}`, 400},             // outside
		{"POST", one + "/rules", `{"expression":"true","action":"x","position":{"index":1,"before":"x"}}`, 400}, // two places
		{"POST", one + "/rules", `{"expression":"true","action":"x","position":{"before":"nope"}}`, 404},        // no such rule
		{"POST", one + "/rules", `{"expression":"true","action":"x","ratelimit":{}}`, 400},                      // not here
		{"PATCH", one + "/rules/nope", `{"enabled":false}`, 404},                                                //
		{"DELETE", one + "/rules/nope", ``, 404},                                                                //
		{"POST", base, `{"name":"again","kind":"zone","phase":"` + phaseName + `"}`, 400},                       // exists
		{"POST", base, `{"name":"x","kind":"custom","phase":"` + phaseName + `"}`, 400},                         // kind
		{"POST", base, `{"name":"x","kind":"zone","phase":"http_request_nothing"}`, 400},                        // phase
		{"PUT", one, `{"phase":"other","rules":[]}`, 400},                                                       // phase fixed
		{"GET", base + "/nope", ``, 404},                                                                        //
		{"GET", base + "/phases/nope/entrypoint", ``, 400},                                                      //
		{"GET", one + "/versions/1", ``, 404},                                                                   // only the newest
		{"PUT", entry, `{"rules":[` + rule("a") + `,{"expression":"","action":"x"}]}`, 400},                     //
		{"PUT", entry, `{"rules":[` + strings.Repeat(rule("a")+",", 1000) + rule("a") + `]}`, 400},              // too many
		{"PUT", entry, `{"rules":[{"id":"` + a + `","action":"x"},{"id":"` + a + `","action":"x"}]}`, 400},      // twice
		{"PUT", entry, `{"rules":[{"expression":"` + strings.Repeat("x", 5000) + `","action":"x"}]}`, 400},      // long
	}
	for _, tt := range refused {
		if g := s.do(tt.method, tt.path, tt.body); g.Status != tt.status {
			t.Errorf("%s %s %.80s = %d %.300s, want %d", tt.method, tt.path, tt.body, g.Status, g.Body, tt.status)
		}
	}
	var list []ruleset
	g := s.do("GET", base, "")
	g.into(t, &list)
	if len(list) != 1 || list[0].Version != "8" || strings.Contains(g.Body, "expression") {
		t.Errorf("list = %s", g.Body)
	}
	// A rule that comes back by ID keeps it, and its version while nothing changes.
	s.do("PUT", one, `{"description":"only this"}`).into(t, &r)
	if r.order() != "deac" {
		t.Errorf("rules left out were lost: %+v", r)
	}
	s.do("PUT", one, `{"rules":[{"id":"`+a+`","ref":"a","expression":"false","action":"y","enabled":false}]}`).into(t, &r)
	if len(r.Rules) != 1 || r.Rules[0].ID != a || r.Rules[0].Version != "3" || r.Rules[0].Enabled || r.Rules[0].Description != "" {
		t.Errorf("after PUT = %+v", r)
	}
	for _, path := range []string{one + "/versions/" + r.Version, entry + "/versions", one + "/versions"} {
		if g := s.do("GET", path, ""); g.Status != 200 {
			t.Errorf("GET %s = %d", path, g.Status)
		}
	}
	if g := s.do("DELETE", one, ""); g.Status != 204 || g.Body != "" {
		t.Errorf("DELETE = %d %q", g.Status, g.Body)
	}
	if g := s.do("GET", "/accounts/"+s.owner.AccountID+"/rulesets", ""); string(g.Result) != "[]" {
		t.Errorf("account rulesets = %s", g.Body)
	}
	s.do("POST", base, `{"name":"made","kind":"zone","phase":"`+phaseName+`","rules":[`+rule("a")+`]}`).into(t, &r)
	if r.order() != "a" {
		t.Errorf("created = %+v", r)
	}
}

func TestUserAccountsAndAudit(t *testing.T) {
	s := newSite(t)
	if g := s.do("PATCH", "/user", `{"first_name":"Ada","country":"GB"}`); !strings.Contains(g.Body, `"first_name":"Ada"`) || !strings.Contains(g.Body, `"last_name":null`) {
		t.Errorf("PATCH /user = %s", g.Body)
	}
	if g := s.do("PATCH", "/user", `{"first_name":"`+strings.Repeat("a", 61)+`"}`); g.Status != 400 {
		t.Errorf("a long name = %d", g.Status)
	}
	acc := "/accounts/" + s.owner.AccountID
	if g := s.do("PUT", acc, `{"id":"x","name":"Renamed","type":"standard","settings":{"enforce_twofactor":false,"abuse_contact_email":"abuse@example.com"}}`); !strings.Contains(g.Body, "abuse@example.com") {
		t.Errorf("PUT account = %s", g.Body)
	}
	if g := s.do("PUT", acc, `{"name":"x","settings":{"enforce_twofactor":true}}`); g.Status != 400 || g.Errors[0].Source["pointer"] != "/settings/enforce_twofactor" {
		t.Errorf("enforcing two factors = %d %s", g.Status, g.Body)
	}
	if g := s.do("DELETE", acc, ""); g.Status != 400 {
		t.Errorf("deleting the only account = %d %s", g.Status, g.Body)
	}
	var second struct{ ID string }
	s.do("POST", "/accounts", `{"name":"second","type":"standard"}`).into(t, &second)
	if g := s.do("DELETE", "/accounts/"+second.ID, ""); g.Status != 200 {
		t.Errorf("deleting an empty account = %d %s", g.Status, g.Body)
	}
	var members, memberships []struct{ ID string }
	s.do("GET", acc+"/members", "").into(t, &members)
	s.do("GET", "/memberships", "").into(t, &memberships)
	if len(members) != 1 || len(memberships) != 1 || members[0].ID != memberships[0].ID {
		t.Errorf("members %v, memberships %v", members, memberships)
	}
	for _, path := range []string{acc + "/members/" + members[0].ID, "/memberships/" + members[0].ID, acc + "/roles", acc + "/roles/33666b9c79b9a5273fc7344ff42f953d"} {
		if g := s.do("GET", path, ""); g.Status != 200 {
			t.Errorf("GET %s = %d %s", path, g.Status, g.Body)
		}
	}
	for i := range 5 {
		s.zone(fmt.Sprintf("z%d.test", i))
	}

	var v1 []struct {
		Action   struct{ Type string }
		Resource struct{ Type string }
		Actor    struct{ Email, IP string }
		NewValue string
	}
	g := s.do("GET", acc+"/audit_logs?zone.name=z3.test&actor.ip=192.0.2.1", "")
	g.into(t, &v1)
	if len(v1) != 1 || v1[0].Action.Type != "add" || v1[0].Resource.Type != "zone" || v1[0].Actor.IP != "192.0.2.1" || !strings.Contains(v1[0].NewValue, "z3.test") {
		t.Errorf("audit log = %s", g.Body)
	}
	if g := s.do("GET", acc+"/audit_logs?per_page=2&page=2", ""); g.Info.Count != 2 || g.Info.TotalCount < 6 {
		t.Errorf("audit log page = %+v", g.Info)
	}
	if g := s.do("GET", "/user/audit_logs", ""); g.Info.TotalCount < 6 || strings.Contains(g.Body, `\"hash\":\"`+"0") {
		t.Errorf("user's audit log = %s", g.Body)
	}
	if g := s.do("GET", acc+"/audit_logs?since=yesterday", ""); g.Status != 400 {
		t.Errorf("bad since = %d", g.Status)
	}

	seen, cursor := 0, ""
	for range 20 {
		g := s.do("GET", acc+"/logs/audit?since=2026-11-23&before=2026-11-23&limit=2&resource_type=zone&cursor="+cursor, "")
		var entries []struct{ Action struct{ Type string } }
		g.into(t, &entries)
		seen += len(entries)
		if g.Info.Cursors.After == "" {
			break
		}
		cursor = g.Info.Cursors.After
	}
	if seen != 5 {
		t.Errorf("by cursor %d zones were created, want 5", seen)
	}
	for _, bad := range []string{"", "?since=2026-11-23", "?since=2026-11-23&before=2026-11-24&limit=0", "?since=2026-11-23&before=2026-11-24&cursor=nope"} {
		if g := s.do("GET", acc+"/logs/audit"+bad, ""); g.Status != 400 {
			t.Errorf("GET logs/audit%s = %d", bad, g.Status)
		}
	}
	if g := s.do("GET", acc+"/logs/audit?since=2026-11-23&before=2026-11-24&action_type.not=create", ""); strings.Contains(g.Body, `"type":"create"`) {
		t.Errorf("negated filter: %s", g.Body)
	}
}
