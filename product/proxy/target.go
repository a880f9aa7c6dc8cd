package proxy

import (
	"net/netip"

	"selvage/edge"
)

// maxChain is how many CNAMEs are followed inside the account's own zones.
const maxChain = 8

// aim sets ex.Target to the origin of a request that was admitted to s.
func (t *table) aim(s *site, ex *edge.Exchange) *edge.Failure {
	target := edge.Target{Scheme: "http", Port: 80, ReadTimeout: s.readTimeout}
	if ex.Request.Scheme == "https" && (s.ssl == "full" || s.ssl == "strict") {
		target.Scheme, target.Port = "https", 443
		target.ServerName, target.Verify, target.HTTP2 = ex.Request.Host, s.ssl == "strict", s.http2
	}
	route := s.route(ex)
	if route.port != 0 {
		target.Port = route.port
	}
	target.Host = route.hostHeader
	if target.Scheme == "https" && route.hostHeader != "" {
		target.ServerName = route.serverName
	}
	if target.Scheme == "https" && route.sni != "" {
		target.ServerName = route.sni
	}
	var failure *edge.Failure
	if route.host != "" {
		failure = t.resolve(s, route.host, &target)
	} else {
		failure = t.follow(s, s.lookup(ex.Request.Host), &target)
	}
	ex.Target = target
	return failure
}

// resolve finds the addresses of a host name that a rule or a CNAME names. Names in zones of the
// same account are answered from those zones; others are left to the node's resolver, for another
// account's zone here proves nothing about who owns the name.
func (t *table) resolve(s *site, host string, target *edge.Target) *edge.Failure {
	if addr, err := netip.ParseAddr(host); err == nil {
		target.Addrs = []netip.Addr{addr}
		return nil
	}
	own := t.find(host)
	if own == nil || own.zone.Zone.AccountID != s.zone.Zone.AccountID || own.zone.Zone.Status != "active" {
		target.Hostname = host
		return nil
	}
	return t.follow(own, own.lookup(host), target)
}

// follow takes the addresses at n, or goes where its CNAME leads.
func (t *table) follow(s *site, n *name, target *edge.Target) *edge.Failure {
	for range maxChain {
		if n == nil {
			return noOrigin("The DNS record of this site leads to a name that does not exist.")
		}
		if len(n.addrs) > 0 {
			target.Addrs = n.next()
			return nil
		}
		if n.cname == "" {
			return noOrigin("The DNS record of this site leads to a name without an address.")
		}
		next := t.find(n.cname)
		if next == nil || next.zone.Zone.AccountID != s.zone.Zone.AccountID || next.zone.Zone.Status != "active" {
			target.Hostname = n.cname
			return nil
		}
		s, n = next, next.lookup(n.cname)
	}
	return noOrigin("The CNAME records of this site go round in a circle or are too many.")
}

func noOrigin(detail string) *edge.Failure {
	return &edge.Failure{Status: 530, Code: 1016, Reason: "origin_dns", Detail: detail}
}
