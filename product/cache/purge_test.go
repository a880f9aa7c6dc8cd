package cache_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"selvage/edge"
	"selvage/foundation/fault"
	"selvage/product/cache"
	"selvage/spec"
)

func TestPurge(t *testing.T) {
	// Each page has the tags of its path's segments.
	pages := []string{"/a", "/a/b", "/a/b/c?x=1", "/ab", "/z"}
	for _, c := range []struct {
		body string
		gone string // numbers of the pages that are purged
	}{
		{`{"purge_everything": true}`, "01234"},
		{`{"files": ["https://site.test/a"]}`, "0"},
		{`{"files": ["https://SITE.test/a/b", {"url": "https://site.test/z"}]}`, "14"},
		{`{"files": ["https://site.test/a/b/c?x=1#frag"]}`, "2"},
		{`{"files": ["https://site.test/a/b/c"]}`, ""},
		{`{"files": ["http://site.test/a"]}`, ""},
		{`{"tags": ["B"]}`, "12"},
		{`{"tags": ["none", "z"]}`, "4"},
		{`{"hosts": ["site.test"]}`, "01234"},
		{`{"hosts": ["www.site.test"]}`, ""},
		{`{"prefixes": ["site.test/a"]}`, "012"},
		{`{"prefixes": ["site.test/a/b/"]}`, "12"},
		{`{"prefixes": ["site.test"]}`, "01234"},
	} {
		t.Run(c.body, func(t *testing.T) {
			s := newSite(t, cache.Options{}, everything)
			s.serve(func(_ context.Context, ex *edge.Exchange) error {
				tags := strings.ReplaceAll(strings.Trim(ex.Request.Path, "/"), "/", ", ")
				ex.Respond(200, edge.NewHeader("Cache-Control", "max-age=60", "Cache-Tag", tags), []byte("x"))
				return nil
			})
			for _, p := range pages {
				s.get(p)
			}
			if err := s.purge(c.body); err != nil {
				t.Fatal(err)
			}
			gone := ""
			for i, p := range pages {
				if s.get(p).status == "MISS" {
					gone += fmt.Sprint(i)
				}
			}
			if gone != c.gone {
				t.Errorf("purged pages %q, want %q", gone, c.gone)
			}
		})
	}
}

// TestPurgeFileByCustomKey: with the fields that its key depends on, one version is purged; by its
// URL, what was stored from that URL.
func TestPurgeFileByCustomKey(t *testing.T) {
	s := newSite(t, cache.Options{}, `{"cache": true, "cache_key": {"custom_key": {"query_string": {"exclude": {"all": true}}, "header": {"include": ["X-Plan"]}}}}`)
	s.says("Cache-Control", "max-age=60")
	s.get("/p?first", "X-Plan", "pro")
	if r := s.get("/p?second", "X-Plan", "pro"); r.status != "HIT" {
		t.Fatalf("got %s, want HIT", r.status)
	}
	if err := s.purge(`{"files": [{"url": "https://site.test/p?third", "headers": {"X-Plan": "free"}}]}`); err != nil {
		t.Fatal(err)
	}
	if r := s.get("/p", "X-Plan", "pro"); r.status != "HIT" {
		t.Errorf("a purge of another version: %s, want HIT", r.status)
	}
	if err := s.purge(`{"files": [{"url": "https://site.test/p?third", "headers": {"X-Plan": "pro"}}]}`); err != nil {
		t.Fatal(err)
	}
	if r := s.get("/p", "X-Plan", "pro"); r.status != "MISS" {
		t.Errorf("a purge of this version: %s, want MISS", r.status)
	}
}

func TestPurgeFaults(t *testing.T) {
	s := newSite(t, cache.Options{})
	many, _ := json.Marshal(map[string]any{"tags": make([]string, 501)})
	for body, want := range map[string]struct {
		field string
		code  int
	}{
		`{}`: {"", 1012},
		`{"purge_everything": true, "tags": ["a"]}`:   {"", 1012},
		`{"purge_everything": false}`:                 {"purge_everything", 1012},
		`{"tags": []}`:                                {"tags", 1012},
		`{"tags": ["a", "b c"]}`:                      {"tags[1]", 0},
		`{"hosts": ["other.test"]}`:                   {"hosts[0]", 0},
		`{"prefixes": ["https://site.test/a"]}`:       {"prefixes[0]", 0},
		`{"files": ["/a"]}`:                           {"files[0]", 0},
		`{"files": ["https://evil.test/a"]}`:          {"files[0]", 0},
		`{"files": [{"uri": "https://site.test/a"}]}`: {"files[0].uri", 0},
		`{"everything": true}`:                        {"everything", 0},
		string(many):                                  {"tags", 0},
	} {
		err := s.purge(body)
		all := fault.All(err)
		if len(all) == 0 || all[0].Field != want.field || all[0].Code != want.code {
			t.Errorf("%.60s: got %v (%+v), want field %q, code %d", body, err, all, want.field, want.code)
		}
	}
}

func TestRuleFaults(t *testing.T) {
	check := open(t, cache.Options{}).RulePhases()[0].Check
	for set, field := range map[string]string{
		`{"cache": "yes"}`: "rules[0].action_parameters.cache",
		`{"cash": true}`:   "rules[0].action_parameters.cash",
		`{"cache": false, "edge_ttl": {"mode": "respect_origin"}}`:                                                      "rules[0].action_parameters.cache",
		`{"edge_ttl": {"mode": "sometimes"}}`:                                                                           "rules[0].action_parameters.edge_ttl.mode",
		`{"edge_ttl": {"mode": "override_origin"}}`:                                                                     "rules[0].action_parameters.edge_ttl.default",
		`{"edge_ttl": {"mode": "respect_origin", "default": 5}}`:                                                        "rules[0].action_parameters.edge_ttl.default",
		`{"edge_ttl": {"mode": "override_origin", "default": -1}}`:                                                      "rules[0].action_parameters.edge_ttl.default",
		`{"edge_ttl": {"mode": "respect_origin", "status_code_ttl": [{"value": 1}]}}`:                                   "rules[0].action_parameters.edge_ttl.status_code_ttl[0].status_code",
		`{"edge_ttl": {"mode": "respect_origin", "status_code_ttl": [{"status_code": 200}]}}`:                           "rules[0].action_parameters.edge_ttl.status_code_ttl[0].value",
		`{"edge_ttl": {"mode": "respect_origin", "status_code_ttl": [{"status_code_range": {"from": 9}, "value": 1}]}}`: "rules[0].action_parameters.edge_ttl.status_code_ttl[0].status_code_range",
		`{"browser_ttl": {"mode": "bypass_by_default"}}`:                                                                "rules[0].action_parameters.browser_ttl.mode",
		`{"cache_key": {"custom_key": {"query_string": {"include": {"all": true}, "exclude": {"all": true}}}}}`:         "rules[0].action_parameters.cache_key.custom_key.query_string",
		`{"cache_key": {"custom_key": {"header": {"include": [""]}}}}`:                                                  "rules[0].action_parameters.cache_key.custom_key.header.include[0]",
		`{"cache_reserve": {"eligible": true}}`:                                                                         "rules[0].action_parameters.cache_reserve",
		``:                                                                                                              "rules[0].action_parameters",
	} {
		all := fault.All(check(ruleset("z", set)))
		if len(all) == 0 || all[0].Field != field {
			t.Errorf("%s: got %v, want a fault at %s", set, all, field)
		}
	}
	bad := ruleset("z", `http.host eq => {"cache": true}`, `{"cache": true}`)
	bad.Rules[1].Action = "block"
	all := fault.All(check(bad))
	if len(all) != 2 || all[0].Field != "rules[0].expression" || all[1].Field != "rules[1].action" {
		t.Errorf("got %v, want faults at rules[0].expression and rules[1].action", all)
	}
	costly := ruleset("z")
	for i := range 300 {
		costly.Rules = append(costly.Rules, spec.Rule{Expression: fmt.Sprintf("http.request.uri.path matches \"[a-z]*[a-y]*[a-x]*%d\"", i), Action: "set_cache_settings", ActionParameters: []byte(`{"cache": true}`), Enabled: true})
	}
	if all := fault.All(check(costly)); len(all) != 1 || all[0].Field != "rules" || all[0].Kind != fault.TooMuch {
		t.Errorf("regular expressions that cost too much together: got %v, want one fault at rules", all)
	}
	good := ruleset("z", `{"cache": true, "edge_ttl": {"mode": "override_origin", "default": 60, "status_code_ttl": [{"status_code": 200, "value": 50}, {"status_code_range": {"from": 201, "to": 300}, "value": 30}]},
		"browser_ttl": {"mode": "respect_origin"}, "serve_stale": {"disable_stale_while_updating": true}, "respect_strong_etags": true, "origin_error_page_passthru": false, "origin_cache_control": true,
		"cache_key": {"ignore_query_strings_order": false, "cache_deception_armor": true, "cache_by_device_type": true, "custom_key": {"query_string": {"exclude": {"all": true}},
		"header": {"include": ["habc"], "check_presence": ["habc_t"], "exclude_origin": true, "contains": {"accept": ["image/webp"]}}, "cookie": {"include": ["cabc"], "check_presence": ["cabc_t"]}, "user": {"device_type": true, "geo": false, "lang": false}, "host": {"resolved": true}}}}`)
	if err := check(good); err != nil {
		t.Errorf("the documented example: %v", err)
	}
}

func TestBadRulesBlameTheirZone(t *testing.T) {
	s := newSite(t, cache.Options{})
	rs := ruleset(s.zone.Zone.ID, `http.host eq => {"cache": true}`)
	snap := s.snap.With(9, []spec.Change{changeOf(rs)})
	_, err := s.cache.Prepare(context.Background(), snap)
	if err == nil || !strings.Contains(err.Error(), s.zone.Zone.ID) {
		t.Errorf("Prepare = %v, want an error that names the zone", err)
	}
}

func FuzzRuleParameters(f *testing.F) {
	f.Add(`{"cache": true, "edge_ttl": {"mode": "override_origin", "default": 60, "status_code_ttl": [{"status_code": 200, "value": 50}]}}`, "/p?a=b&c", "a=b; c=d")
	f.Add(`{"cache_key": {"custom_key": {"query_string": {"include": {"list": ["*"]}}, "cookie": {"include": ["a"]}}}}`, "/?&&=", ";;=")
	s := newSite(f, cache.Options{})
	s.says("Cache-Control", "max-age=60")
	check := s.cache.RulePhases()[0].Check
	f.Fuzz(func(t *testing.T, set, uri, cookie string) {
		if check(ruleset("z", "true => "+set)) != nil || !strings.HasPrefix(uri, "/") {
			return
		}
		s.t = t
		s.setRules("true => " + set)
		if r := s.get(uri, "Cookie", cookie); r.err != nil {
			t.Errorf("%s with %s: %v", uri, set, r.err)
		}
	})
}
