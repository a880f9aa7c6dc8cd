package outbound

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"selvage/edge"
	"selvage/edge/socket"
	"selvage/foundation/budget"
)

// workerClient is what sites see as the client of a script's request where the script's own client
// must not be claimed: Cloudflare's published address for it, which programs look for.
var workerClient = netip.AddrPortFrom(netip.MustParseAddr("2a06:98c0:3600::103"), 0)

// socketIdle is how long a script's TCP socket may be silent both ways.
const socketIdle = 30 * time.Minute

// egress is the way out for one script: fetch() and connect().
type egress struct {
	*Outbound
	caller    Caller
	allowance *allowance
	http, tcp func() // count
	sockets   budget.Slots
}

// maxSockets is how many connect() of a script may be open or opening at once.
const maxSockets = 1024

// Egress returns the service behind Program.Outbound. A request that is refused is answered, as at
// Cloudflare, with an error page: 403 and code 1003 for an address that may not be reached, 508 and
// 1019 for a circle of scripts, 429 for too many subrequests, 521 to 530 for origins that fail;
// fetch() resolves with it. A refused connect() rejects.
func (o *Outbound) Egress(caller Caller) func(context.Context, net.Listener) {
	e := &egress{Outbound: o, caller: caller, sockets: budget.Slots{Limit: maxSockets}, allowance: newAllowance(&caller, refill)}
	e.http = o.metrics.requests.WithLabelValues("internet").Inc
	e.tcp = o.metrics.requests.WithLabelValues("connect").Inc
	return o.serve(&socket.Server{Name: "egress", Handle: e.fetch, Connect: e.connect})
}

// fetch answers one request of the script.
func (e *egress) fetch(ctx context.Context, ex *edge.Exchange) error {
	q := &ex.Request
	depth, hops := depthOf(&q.Header, e.o.LoopID)
	if depth++; depth > maxDepth || hops > maxHops {
		return e.refuse(looped("The request has been through too many Workers, or proxies: they call each other in a circle."))
	}
	if !e.allowance.take(ex.Start) {
		return e.refuse(&edge.Failure{Status: http.StatusTooManyRequests, Reason: "too_many_subrequests",
			Detail: "Too many subrequests: the Worker has made all that its requests under way may make."})
	}
	client := clientOf(&q.Header)
	clean(&q.Header, client)
	if e.caller.Worker != "" {
		q.Header.Add("CF-Worker", e.caller.Worker)
	}
	ex.Wish = wishOf(ctx)
	if e.o.Local != nil && e.o.Local(q.Host) {
		return e.local(ctx, ex, depth, client)
	}
	return e.away(ctx, ex, client)
}

// local sends a request down this node's own pipeline.
func (e *egress) local(ctx context.Context, ex *edge.Exchange, depth int, client netip.AddrPort) error {
	if !e.nested.enter(e.caller.AccountID, e.o.Running) {
		return e.refuse(looped("The account's Workers wait for each other in a circle."))
	}
	defer e.nested.leave(e.caller.AccountID)
	e.metrics.requests.WithLabelValues("local").Inc()
	setDepth(&ex.Request.Header, e.o.LoopID, depth)
	// A site of the script's own account may believe it about the client; others must not.
	if ex.Client = workerClient; e.caller.ZoneOf != nil && client.IsValid() && e.caller.ZoneOf(ex.Request.Host) != nil {
		ex.Client = client
	}
	ctx = With(ctx, Subrequest{Account: e.caller.AccountID, Script: e.caller.Script, Version: e.caller.Version, Depth: depth})
	return e.o.Pipeline(ctx, ex)
}

// away sends a request to another host.
func (e *egress) away(ctx context.Context, ex *edge.Exchange, client netip.AddrPort) error {
	q := &ex.Request
	e.http()
	if ex.Client = client; !client.IsValid() {
		ex.Client = workerClient
	}
	if err := e.aim(ex); err != nil {
		return err
	}
	if ex.Wish != nil && e.o.Cached != nil && e.caller.Zone != nil && q.Upgrade == "" {
		if ex.Zone = e.caller.Zone(); ex.Zone != nil {
			return e.count(e.o.Cached(ctx, ex))
		}
	}
	return e.count(e.o.Origins.Fetch(ctx, ex))
}

// count counts an address that was refused.
func (e *egress) count(err error) error {
	if err == nil {
		return nil
	}
	var f *edge.Failure
	if errors.As(err, &f) && f.Code == 1003 {
		return e.refuse(f)
	}
	return err
}

// aim sets where the request goes.
func (e *egress) aim(ex *edge.Exchange) error {
	q := &ex.Request
	port, ok := portOf(q.Port, q.Scheme)
	if !ok {
		return &edge.Failure{Status: http.StatusBadRequest, Reason: "bad_port", Detail: "The URL's port is not a number from 1 to 65535."}
	}
	t := &ex.Target
	*t = edge.Target{Scheme: q.Scheme, Port: port, Permit: e.permit}
	if addr, err := netip.ParseAddr(q.Host); err == nil {
		t.Addrs = []netip.Addr{addr.Unmap()}
	} else {
		t.Hostname = q.Host
	}
	if q.Scheme == "https" {
		t.ServerName, t.Verify, t.HTTP2 = q.Host, true, true
	}
	return nil
}

func portOf(port, scheme string) (uint16, bool) {
	switch {
	case port == "" && scheme == "https":
		return 443, true
	case port == "":
		return 80, true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return uint16(n), err == nil && n > 0
}

// permit is asked about each address before it is dialled or a connection to it is used again.
func (e *egress) permit(a netip.AddrPort) error {
	var allowed []netip.Prefix
	if e.o.Allowed != nil {
		allowed = e.o.Allowed(e.caller.AccountID)
	}
	return e.o.Guard.Check(a, allowed)
}

// connect opens the TCP connection behind a script's connect().
func (e *egress) connect(ctx context.Context, target string) (*socket.Other, error) {
	host, port, ok := edge.ParseAuthority(target)
	n, good := portOf(port, "")
	if !ok || !good || port == "" {
		return nil, &edge.Failure{Status: http.StatusBadRequest, Reason: "bad_target", Detail: "connect() needs a host name or address, and a port."}
	}
	t := edge.Target{Port: n, Permit: e.permit}
	if addr, err := netip.ParseAddr(host); err == nil {
		t.Addrs = []netip.Addr{addr.Unmap()}
	} else {
		t.Hostname = host
	}
	if !e.sockets.Take() {
		return nil, e.refuse(&edge.Failure{Status: http.StatusServiceUnavailable, Reason: "sockets_crowded",
			Detail: "The script has as many sockets open as it may. Close some, or try again in a moment."})
	}
	e.tcp()
	c, err := e.o.Origins.Connect(ctx, &t)
	if err != nil {
		e.sockets.Free()
		return nil, e.count(err)
	}
	e.metrics.sockets.Inc()
	free := sync.OnceFunc(func() { e.sockets.Free(); e.metrics.sockets.Dec() })
	return &socket.Other{ReadWriteCloser: &counted{ReadWriteCloser: c, free: free}, Idle: socketIdle}, nil
}

// clientOf returns the client that a script says it acts for, in the field that scripts may set.
// Where they say nothing, or another thing, it is not valid.
func clientOf(h *edge.Header) netip.AddrPort {
	for _, name := range [...]string{"X-Real-IP", "CF-Connecting-IP"} {
		if v := h.Get(name); v != "" {
			a, err := netip.ParseAddr(strings.TrimSpace(v))
			if err != nil || a.Zone() != "" {
				return netip.AddrPort{}
			}
			return netip.AddrPortFrom(a.Unmap(), 0)
		}
	}
	return netip.AddrPort{}
}

// clean takes out what only the edge says, as if a client had sent it: it says it again on the way
// to the origin. X-Forwarded-For stays, less the client at its end, whom the edge adds.
func clean(h *edge.Header, client netip.AddrPort) {
	var drop []string
	for _, f := range h.Fields() {
		if edgeOnly(f.Name) {
			drop = append(drop, f.Name)
		}
	}
	for _, name := range drop {
		h.Del(name)
	}
	list := h.Joined("X-Forwarded-For")
	if list == "" || !client.IsValid() {
		return
	}
	i := strings.LastIndexByte(list, ',')
	if a, err := netip.ParseAddr(strings.TrimSpace(list[i+1:])); err != nil || a.Unmap() != client.Addr() {
		return
	}
	if i < 0 {
		h.Del("X-Forwarded-For")
		return
	}
	h.Set("X-Forwarded-For", list[:i])
}

// edgeOnly tells whether a field is one that only the edge may set. Underscores count as hyphens:
// in the variables of CGI they are the same.
func edgeOnly(name string) bool {
	if strings.IndexByte(name, '_') >= 0 {
		name = strings.ReplaceAll(name, "_", "-")
	}
	if len(name) > 3 && strings.EqualFold(name[:3], "Cf-") {
		return !strings.EqualFold(name, "Cf-Access-Client-Id") && !strings.EqualFold(name, "Cf-Access-Client-Secret") && !strings.EqualFold(name, "Cf-Access-Token")
	}
	return strings.EqualFold(name, "True-Client-Ip") || strings.EqualFold(name, "X-Real-Ip") || strings.EqualFold(name, "X-Forwarded-Proto")
}

// counted tells when it is closed.
type counted struct {
	io.ReadWriteCloser
	free func() // counts once
}

// Close closes the connection.
func (c *counted) Close() error { c.free(); return c.ReadWriteCloser.Close() }

// CloseWrite ends what is sent.
func (c *counted) CloseWrite() error {
	if h, ok := c.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return c.Close()
}
