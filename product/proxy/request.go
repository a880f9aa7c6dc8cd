package proxy

import (
	"context"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"selvage/edge"
	"selvage/foundation/budget"
)

// handle is the phase.
func (p *Proxy) handle(ctx context.Context, ex *edge.Exchange, next edge.Handler) error {
	t := p.current.Load()
	s, err := p.admit(t, ex)
	if err != nil {
		p.refused.WithLabelValues(err.Reason).Inc()
		return err
	}
	if to := p.redirect(s, &ex.Request); to != "" {
		ex.Respond(http.StatusMovedPermanently, edge.NewHeader("Location", to, "Cache-Control", "max-age=3600"), nil)
		return nil
	}
	if p.o.Country != nil && s.country {
		if ex.Country = p.o.Country(ex.Client.Addr()); ex.Country != "" {
			ex.Request.Header.Add("CF-IPCountry", ex.Country)
		}
	}
	if ex.Request.Path == tracePath {
		trace(ex)
		return nil
	}
	if ex.Request.Body != nil && ex.Request.Length < 0 {
		ex.Request.Body = budget.Reader("The request's body", ex.Request.Body, s.maxUpload)
	}
	if err := t.aim(s, ex); err != nil {
		p.refused.WithLabelValues(err.Reason).Inc()
		return err
	}
	return next(ctx, ex)
}

// admit finds the site of a request, or says why there is none for it.
func (p *Proxy) admit(t *table, ex *edge.Exchange) (*site, *edge.Failure) {
	q := &ex.Request
	if isAddress(q.Host) {
		return nil, &edge.Failure{Status: http.StatusForbidden, Code: 1003, Reason: "direct_ip", Detail: "Sites are reached by their names here, not by an IP address."}
	}
	if edge.Looped(&q.Header, p.o.LoopID) {
		return nil, &edge.Failure{Status: http.StatusForbidden, Code: 1000, Reason: "loop",
			Detail: "The request has been here before: the site's DNS record or origin rule points back at this edge. Point it at the origin server."}
	}
	s := t.find(q.Host)
	if s == nil {
		return nil, unknownHost()
	}
	if ex.TLS != nil && ex.TLS.ServerName != "" && ex.TLS.ServerName != q.Host && t.find(ex.TLS.ServerName) != s {
		return nil, &edge.Failure{Status: http.StatusMisdirectedRequest, Reason: "misdirected", Detail: "This connection was made for another site. Open a new one for this host."}
	}
	if !s.serving {
		return nil, unknownHost()
	}
	ex.Zone = s.zone
	if n := s.lookup(q.Host); n == nil || !n.proxied {
		return nil, unknownHost()
	}
	if q.Upgrade == "websocket" && !s.websockets {
		return nil, &edge.Failure{Status: http.StatusForbidden, Reason: "websockets_off", Detail: "WebSockets are switched off for this site."}
	}
	if q.Length > s.maxUpload {
		return nil, &edge.Failure{Status: http.StatusRequestEntityTooLarge, Reason: "body_too_large",
			Detail: "The request's body has " + strconv.FormatInt(q.Length, 10) + " bytes, the limit of this site is " + strconv.FormatInt(s.maxUpload, 10) + "."}
	}
	return s, nil
}

// unknownHost is the same for every host that is not served, so that it does not tell which zones
// there are.
func unknownHost() *edge.Failure {
	return &edge.Failure{Status: http.StatusConflict, Code: 1001, Reason: "unknown_host",
		Detail: "No site is served under this name here. If it is yours, add its zone and a proxied DNS record."}
}

// isAddress tells whether a host that passed edge.ParseAuthority is an IP address.
func isAddress(host string) bool {
	if host == "" {
		return false
	}
	if last := host[len(host)-1]; (last < '0' || last > '9') && strings.IndexByte(host, ':') < 0 {
		return false // no top-level domain is a number
	}
	_, err := netip.ParseAddr(host)
	return err == nil
}

const acmePath = "/.well-known/acme-challenge/"

// redirect returns where a request of the wrong scheme has to go, or "".
func (p *Proxy) redirect(s *site, q *edge.Request) string {
	switch {
	case q.Scheme == "https" && s.ssl == "off":
		return p.location(q, "http")
	case q.Scheme == "http" && s.alwaysHTTPS && s.ssl != "off" && !strings.HasPrefix(q.Path, acmePath):
		return p.location(q, "https")
	}
	return ""
}

// location is the request's URL with another scheme. A client that named no port gets none: it came
// through a port forwarding that made this node's port the usual one.
func (p *Proxy) location(q *edge.Request, scheme string) string {
	port := ""
	if q.Port != "" && p.o.Ports != nil {
		plain, secure := p.o.Ports()
		switch {
		case scheme == "http" && plain != 80 && plain != 0:
			port = ":" + strconv.Itoa(int(plain))
		case scheme == "https" && secure != 443 && secure != 0:
			port = ":" + strconv.Itoa(int(secure))
		}
	}
	return scheme + "://" + q.Host + port + q.URI()
}
