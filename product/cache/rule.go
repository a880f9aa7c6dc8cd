package cache

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"selvage/edge"
	"selvage/engine/filter"
	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/cache/semantics"
	"selvage/spec"
)

const (
	rulePhase  = "http_request_cache_settings"
	ruleAction = "set_cache_settings"
)

// parameters are the action_parameters of set_cache_settings, as the v4 API has them.
type parameters struct {
	Cache              *bool `json:"cache"`
	EdgeTTL            *ttl  `json:"edge_ttl"`
	BrowserTTL         *ttl  `json:"browser_ttl"`
	OriginCacheControl *bool `json:"origin_cache_control"`
	ServeStale         *struct {
		DisableStaleWhileUpdating bool `json:"disable_stale_while_updating"`
	} `json:"serve_stale"`
	CacheKey *cacheKey `json:"cache_key"`

	// What these two ask for is always so: error pages of origins go through as they are, and stored
	// responses and their entity-tags are never changed.
	OriginErrorPagePassthru *bool `json:"origin_error_page_passthru"`
	RespectStrongETags      *bool `json:"respect_strong_etags"`
}

type ttl struct {
	Mode          string      `json:"mode"`
	Default       *int        `json:"default"`
	StatusCodeTTL []statusTTL `json:"status_code_ttl"`
}

type statusTTL struct {
	StatusCode      *int `json:"status_code"`
	StatusCodeRange *struct {
		From *int `json:"from"`
		To   *int `json:"to"`
	} `json:"status_code_range"`
	Value *int `json:"value"`
}

type cacheKey struct {
	CacheByDeviceType       *bool      `json:"cache_by_device_type"`
	CacheDeceptionArmor     *bool      `json:"cache_deception_armor"`
	IgnoreQueryStringsOrder *bool      `json:"ignore_query_strings_order"`
	CustomKey               *customKey `json:"custom_key"`
}

type customKey struct {
	QueryString *struct {
		Include *names `json:"include"`
		Exclude *names `json:"exclude"`
	} `json:"query_string"`
	Header *struct {
		Include       []string            `json:"include"`
		CheckPresence []string            `json:"check_presence"`
		Contains      map[string][]string `json:"contains"`
		ExcludeOrigin bool                `json:"exclude_origin"`
	} `json:"header"`
	Cookie *struct {
		Include       []string `json:"include"`
		CheckPresence []string `json:"check_presence"`
	} `json:"cookie"`
	User *struct {
		DeviceType bool `json:"device_type"`
		Geo        bool `json:"geo"`
		Lang       bool `json:"lang"`
	} `json:"user"`
	Host *struct {
		Resolved bool `json:"resolved"`
	} `json:"host"`
}

type names struct {
	All  bool     `json:"all"`
	List []string `json:"list"`
}

// rule is a compiled cache rule.
type rule struct {
	when *filter.Expr
	set  parameters
}

// maxTTL is the longest TTL a rule may set: a year.
const maxTTL = 31536000

// Check reports every fault of the rules of a ruleset in the cache settings phase.
func checkRuleset(r *spec.Ruleset) error {
	_, err := compileRules(r)
	return err
}

// compileRules compiles the enabled rules of r, which may be nil; every rule is checked.
func compileRules(r *spec.Ruleset) ([]rule, error) {
	if r == nil {
		return nil, nil
	}
	var out []rule
	var faults []error
	schema := filter.RequestSchema()
	program := 0
	for i, in := range r.Rules {
		at := fmt.Sprintf("rules[%d]", i)
		when, err := filter.Compile(in.Expression, schema)
		if err != nil {
			faults = append(faults, under(at+".expression", err))
		}
		set, err := parseParameters(in)
		if err != nil {
			faults = append(faults, under(at, err))
		}
		if in.Enabled {
			out = append(out, rule{when, set})
			if when != nil {
				program += when.Program()
			}
		}
	}
	if err := filter.CheckPrograms(program); err != nil {
		faults = append(faults, under("rules", err))
	}
	return out, errors.Join(faults...)
}

// under puts a path before the field of each fault in err.
func under(path string, err error) error {
	var out []error
	for _, f := range fault.All(err) {
		field := path
		if f.Field != "" {
			field += "." + f.Field
		}
		out = append(out, f.At(field))
	}
	if out == nil {
		return err
	}
	return errors.Join(out...)
}

func parseParameters(in spec.Rule) (parameters, error) {
	var p parameters
	if in.Action != ruleAction {
		return p, fault.New(fault.Invalid, "Action %q does not exist in this phase; it is %q.", in.Action, ruleAction).At("action")
	}
	if len(in.ActionParameters) == 0 {
		return p, fault.New(fault.Invalid, "%s needs action_parameters, such as {\"cache\": true}.", ruleAction).At("action_parameters")
	}
	if err := product.DecodeJSON(in.ActionParameters, &p); err != nil {
		return p, under("action_parameters", err)
	}
	if err := errors.Join(p.check()...); err != nil {
		return p, under("action_parameters", err)
	}
	return p, nil
}

func (p *parameters) check() []error {
	var faults []error
	if p.Cache != nil && !*p.Cache && (p.EdgeTTL != nil || p.CacheKey != nil) {
		faults = append(faults, fault.New(fault.Invalid, "A rule that bypasses the cache (cache: false) cannot set edge_ttl or cache_key; leave them out.").At("cache"))
	}
	if p.EdgeTTL != nil {
		faults = append(faults, p.EdgeTTL.check("edge_ttl", "respect_origin", "override_origin", "bypass_by_default")...)
	}
	if p.BrowserTTL != nil {
		faults = append(faults, p.BrowserTTL.check("browser_ttl", "respect_origin", "override_origin", "bypass")...)
		if p.BrowserTTL.StatusCodeTTL != nil {
			faults = append(faults, fault.New(fault.Invalid, "browser_ttl has no status_code_ttl; set it in edge_ttl.").At("browser_ttl.status_code_ttl"))
		}
	}
	if p.CacheKey != nil && p.CacheKey.CustomKey != nil {
		faults = append(faults, p.CacheKey.CustomKey.check()...)
	}
	return faults
}

func (t *ttl) check(at string, modes ...string) []error {
	var faults []error
	if !slices.Contains(modes, t.Mode) {
		faults = append(faults, fault.New(fault.Invalid, "%s mode %q is not one of %s.", at, t.Mode, strings.Join(modes, ", ")).At(at+".mode"))
	}
	switch override := t.Mode == "override_origin"; {
	case override && t.Default == nil:
		faults = append(faults, fault.New(fault.Invalid, "%s mode override_origin needs default, the TTL in seconds.", at).At(at+".default"))
	case !override && t.Default != nil:
		faults = append(faults, fault.New(fault.Invalid, "%s takes default only with mode override_origin.", at).At(at+".default"))
	case override && (*t.Default < 0 || *t.Default > maxTTL):
		faults = append(faults, fault.New(fault.Invalid, "%s default is %d; it is from 0 to %d seconds.", at, *t.Default, maxTTL).At(at+".default"))
	}
	for i, s := range t.StatusCodeTTL {
		if err := s.check(); err != nil {
			faults = append(faults, under(fmt.Sprintf("%s.status_code_ttl[%d]", at, i), err))
		}
	}
	return faults
}

func (s *statusTTL) check() error {
	if (s.StatusCode == nil) == (s.StatusCodeRange == nil) {
		return fault.New(fault.Invalid, "Give either status_code or status_code_range.").At("status_code")
	}
	from, to := s.bounds()
	if from < 100 || to > 999 || from > to {
		return fault.New(fault.Invalid, "Status codes are from 100 to 999, and from is not above to; this is %d to %d.", from, to).At("status_code_range")
	}
	if s.Value == nil || *s.Value < -1 || *s.Value > maxTTL {
		return fault.New(fault.Invalid, "value is needed: -1 (no-store), 0 (no-cache), or up to %d seconds.", maxTTL).At("value")
	}
	return nil
}

func (s *statusTTL) bounds() (from, to int) {
	if s.StatusCode != nil {
		return *s.StatusCode, *s.StatusCode
	}
	from, to = 100, 999
	if r := s.StatusCodeRange; r != nil {
		if r.From != nil {
			from = *r.From
		}
		if r.To != nil {
			to = *r.To
		}
	}
	return from, to
}

// maxKeyNames is the most names that one list of a custom key may have.
const maxKeyNames = 50

func (k *customKey) check() []error {
	var faults []error
	list := func(at string, l []string) {
		if len(l) > maxKeyNames {
			faults = append(faults, fault.New(fault.TooMuch, "%s has %d names, the limit is %d.", at, len(l), maxKeyNames).At(at))
		}
		for i, n := range l {
			if n == "" || len(n) > 256 {
				faults = append(faults, fault.New(fault.Invalid, "A name has 1 to 256 characters.").At(fmt.Sprintf("%s[%d]", at, i)))
			}
		}
	}
	if q := k.QueryString; q != nil {
		if q.Include != nil && q.Exclude != nil {
			faults = append(faults, fault.New(fault.Invalid, "Give either include or exclude, not both.").At("cache_key.custom_key.query_string"))
		}
		for at, n := range map[string]*names{"include": q.Include, "exclude": q.Exclude} {
			if n != nil {
				list("cache_key.custom_key.query_string."+at+".list", n.List)
			}
		}
	}
	if h := k.Header; h != nil {
		list("cache_key.custom_key.header.include", h.Include)
		list("cache_key.custom_key.header.check_presence", h.CheckPresence)
		list("cache_key.custom_key.header.contains", sortedKeys(h.Contains))
		for name, l := range h.Contains {
			list("cache_key.custom_key.header.contains."+name, l)
		}
	}
	if c := k.Cookie; c != nil {
		list("cache_key.custom_key.cookie.include", c.Include)
		list("cache_key.custom_key.cookie.check_presence", c.CheckPresence)
	}
	return faults
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// apply puts what the rule sets into the plan, over what earlier rules set.
func (p *parameters) apply(pl *plan) {
	if p.Cache != nil {
		pl.decided, pl.eligible, pl.everything = true, *p.Cache, *p.Cache
	}
	if p.EdgeTTL != nil {
		p.EdgeTTL.edge(&pl.policy)
	}
	if p.BrowserTTL != nil {
		pl.browser = p.BrowserTTL.browser()
	}
	if p.OriginCacheControl != nil {
		pl.policy.Control = semantics.ControlLax
		if *p.OriginCacheControl {
			pl.policy.Control = semantics.ControlStrict
		}
	}
	if p.ServeStale != nil {
		pl.policy.NoStaleWhileUpdating = p.ServeStale.DisableStaleWhileUpdating
	}
	if p.CacheKey != nil {
		p.CacheKey.apply(&pl.key)
	}
}

func (t *ttl) edge(p *semantics.Policy) {
	p.Mode, p.TTL, p.StatusTTL = semantics.RespectOrigin, 0, nil
	switch t.Mode {
	case "override_origin":
		p.Mode, p.TTL = semantics.OverrideOrigin, seconds(*t.Default)
	case "bypass_by_default":
		p.Mode = semantics.BypassByDefault
	}
	for _, s := range t.StatusCodeTTL {
		from, to := s.bounds()
		p.StatusTTL = append(p.StatusTTL, semantics.StatusTTL{From: from, To: to, TTL: seconds(*s.Value)})
	}
}

func (t *ttl) browser() browserTTL {
	switch t.Mode {
	case "override_origin":
		return browserTTL{mode: browserOverride, ttl: seconds(*t.Default)}
	case "bypass":
		return browserTTL{mode: browserBypass}
	}
	return browserTTL{mode: browserRespect}
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }

func (c *cacheKey) apply(k *keyPlan) {
	set := func(to *bool, from *bool) {
		if from != nil {
			*to = *from
		}
	}
	set(&k.byDevice, c.CacheByDeviceType)
	set(&k.deceptionArmour, c.CacheDeceptionArmor)
	set(&k.sortQuery, c.IgnoreQueryStringsOrder)
	if c.CustomKey != nil {
		c.CustomKey.apply(k)
	}
}

func (c *customKey) apply(k *keyPlan) {
	if q := c.QueryString; q != nil {
		k.queryInclude, k.queryExclude = q.Include.selection(), q.Exclude.selection()
	}
	if h := c.Header; h != nil {
		k.headers, k.headerPresence, k.headerContains, k.excludeOrigin = h.Include, h.CheckPresence, h.Contains, h.ExcludeOrigin
	}
	if q := c.Cookie; q != nil {
		k.cookies, k.cookiePresence = q.Include, q.CheckPresence
	}
	if u := c.User; u != nil {
		k.byDevice, k.byCountry, k.byLanguage = k.byDevice || u.DeviceType, u.Geo, u.Lang
	}
	if c.Host != nil {
		k.resolvedHost = c.Host.Resolved
	}
}

func (n *names) selection() *selection {
	if n == nil {
		return nil
	}
	// "*" alone is how the API once said all.
	return &selection{all: n.All || slices.Contains(n.List, "*"), names: n.List}
}

// values are what expressions of rules see of an exchange.
func values(ex *edge.Exchange) filter.Values { return edge.FilterValues(ex) }
