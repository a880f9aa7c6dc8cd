package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"selvage/edge"
	"selvage/engine/filter"
	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// originPhase is Cloudflare's name for the phase of origin rules.
const originPhase = "http_request_origin"

// route is what origin rules change about a request's way to its origin.
type route struct {
	host       string // to connect to, instead of the DNS record
	port       uint16
	hostHeader string
	serverName string // that goes with hostHeader
	sni        string
}

// originRule is one compiled rule.
type originRule struct {
	when *filter.Expr
	route
}

// routeParameters are the action_parameters of a route rule.
type routeParameters struct {
	HostHeader *string `json:"host_header"`
	Origin     *struct {
		Host *string `json:"host"`
		Port *int    `json:"port"`
	} `json:"origin"`
	SNI *struct {
		Value *string `json:"value"`
	} `json:"sni"`
}

// RulePhases returns the phase of origin rules.
func (p *Proxy) RulePhases() []product.RulePhase {
	return []product.RulePhase{{Name: originPhase, Group: "Origin", Check: func(r *spec.Ruleset) error {
		_, err := compileRules(r)
		return err
	}}}
}

// compileRules compiles the enabled rules of r, which may be nil. Rules that are switched off have
// to be right too. Faults name the rule and the field.
func compileRules(r *spec.Ruleset) ([]originRule, error) {
	if r == nil {
		return nil, nil
	}
	var rules []originRule
	var faults []error
	program := 0
	for i := range r.Rules {
		rule, err := compileRule(&r.Rules[i])
		for _, f := range fault.All(err) {
			faults = append(faults, f.At(strings.TrimSuffix(fmt.Sprintf("rules[%d].%s", i, f.Field), ".")))
		}
		if err == nil && r.Rules[i].Enabled {
			rules = append(rules, rule)
			program += rule.when.Program()
		}
	}
	for _, f := range fault.All(filter.CheckPrograms(program)) {
		faults = append(faults, f.At("rules"))
	}
	return rules, errors.Join(faults...)
}

func compileRule(r *spec.Rule) (originRule, error) {
	var faults []error
	when, err := filter.Compile(r.Expression, filter.RequestSchema())
	for _, f := range fault.All(err) {
		faults = append(faults, f.At("expression"))
	}
	if r.Action != "route" {
		faults = append(faults, fault.New(fault.Invalid, "Action %q does not exist in this phase; use route.", r.Action).At("action"))
		return originRule{}, errors.Join(faults...)
	}
	var params routeParameters
	if err := product.DecodeJSON(r.ActionParameters, &params); err != nil {
		for _, f := range fault.All(err) {
			faults = append(faults, f.At(strings.TrimSuffix("action_parameters."+f.Field, ".")))
		}
		return originRule{}, errors.Join(faults...)
	}
	to, err := params.route()
	return originRule{when, to}, errors.Join(append(faults, err)...)
}

// route checks the parameters, all of them.
func (p *routeParameters) route() (route, error) {
	var to route
	var faults []error
	bad := func(field, format string, args ...any) {
		faults = append(faults, fault.New(fault.Invalid, format, args...).At("action_parameters."+field))
	}
	if p.HostHeader == nil && p.SNI == nil && (p.Origin == nil || p.Origin.Host == nil && p.Origin.Port == nil) {
		bad("origin", "The rule changes nothing; give at least one of host_header, origin.host, origin.port, sni.value.")
	}
	if p.HostHeader != nil {
		name, _, ok := edge.ParseAuthority(*p.HostHeader)
		if !ok {
			bad("host_header", "%.80q is not a host name, with or without a port.", *p.HostHeader)
		}
		to.hostHeader, to.serverName = *p.HostHeader, name
	}
	if p.Origin != nil && p.Origin.Host != nil {
		name, port, ok := edge.ParseAuthority(*p.Origin.Host)
		if addr, err := netip.ParseAddr(*p.Origin.Host); err == nil {
			name, port, ok = addr.String(), "", true
		}
		if !ok || port != "" {
			bad("origin.host", "%.80q is not a host name or an IP address; a port goes into origin.port.", *p.Origin.Host)
		}
		to.host = name
	}
	if p.Origin != nil && p.Origin.Port != nil {
		if *p.Origin.Port < 1 || *p.Origin.Port > 65535 {
			bad("origin.port", "Port %d is not from 1 to 65535.", *p.Origin.Port)
		}
		to.port = uint16(*p.Origin.Port)
	}
	if p.SNI != nil {
		if p.SNI.Value == nil || spec.CheckHostname(strings.ToLower(*p.SNI.Value)) != nil {
			bad("sni.value", "The SNI has to be a host name.")
			return to, errors.Join(faults...)
		}
		to.sni = strings.ToLower(*p.SNI.Value)
	}
	return to, errors.Join(faults...)
}

// route merges the rules that match: later ones win, field by field.
func (s *site) route(ex *edge.Exchange) route {
	var merged route
	for i := range s.rules {
		r := &s.rules[i]
		if !r.when.Match(edge.FilterValues(ex)) {
			continue
		}
		if r.host != "" {
			merged.host = r.host
		}
		if r.port != 0 {
			merged.port = r.port
		}
		if r.hostHeader != "" {
			merged.hostHeader, merged.serverName = r.hostHeader, r.serverName
		}
		if r.sni != "" {
			merged.sni = r.sni
		}
	}
	return merged
}
