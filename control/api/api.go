// Package api is Cloudflare's v4 API in front of the control plane: it routes, authenticates,
// checks permissions, bounds bodies, writes the envelope, and serves what belongs to no product:
// user, tokens, accounts, memberships, zones, settings, rulesets, audit logs.
package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"selvage/foundation/budget"
	"selvage/foundation/clock"
	"selvage/foundation/fault"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/spec"
)

// Prefix is where the API begins, as in Cloudflare's own address.
const Prefix = "/client/v4"

// defaultMaxBody bounds request bodies whose route names no limit.
const defaultMaxBody = 1 << 20

// Options say what the API stands on. State is required, everything else may be left out.
type Options struct {
	State  product.State
	Routes []product.Route     // of the products
	Phases []product.RulePhase // that rulesets may be for
	Quotas []product.Quota     // of the products
	Graphs []product.Graph     // of the products

	// Trouble tells why a zone is held on an older version than the newest acknowledged one, and on
	// which; a nil error means that it is not. nil: no zone ever is.
	Trouble func(zoneID string) (inEffect uint64, why error)
	// Audit yields the audit log. nil: it is empty.
	Audit Auditor
	// Addresses lists the edge's public addresses for GET /ips. nil: none.
	Addresses func() []netip.Addr
	// NameServers are given to new zones. Default: ns1.selvage.internal, ns2.selvage.internal.
	NameServers []string
	// AllowPublicSuffixes lets zones be created for names such as "co.uk". Default: refused.
	AllowPublicSuffixes bool

	Observe observe.Observer
	Clock   clock.Clock
}

// Auditor is where the audit log can be read.
type Auditor interface {
	// AuditLog yields the entries that q asks for until ctx ends.
	AuditLog(ctx context.Context, q spec.AuditQuery) iter.Seq2[*spec.AuditEntry, error]
}

// API is the v4 API as an http.Handler. Safe for concurrent use.
type API struct {
	o       Options
	table   *table
	groups  *groups
	phases  map[string]product.RulePhase
	keys    *keyring
	guard   guard
	metrics *metrics
}

var _ http.Handler = (*API)(nil)

// New returns the API over o. It reads users and tokens from the state; an error also means that
// two routes are the same or one is incomplete.
func New(o Options) (*API, error) {
	if o.State == nil {
		return nil, errors.New("api: no state")
	}
	if len(o.NameServers) == 0 {
		o.NameServers = []string{"ns1.selvage.internal", "ns2.selvage.internal"}
	}
	a := &API{o: o, phases: map[string]product.RulePhase{}, metrics: newMetrics(o.Observe)}
	for _, p := range o.Phases {
		a.phases[p.Name] = p
	}
	var err error
	if a.table, err = newTable(append(a.ownRoutes(), asEntries(o.Routes)...)); err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	a.groups = newGroups(a.table.entries, o.Phases)
	if a.keys, err = loadKeyring(context.Background(), o.State, a.groups, o.Observe.Logger()); err != nil {
		return nil, fmt.Errorf("api: load users and tokens: %w", err)
	}
	return a, nil
}

// Routes returns the whole table, sorted by path and method, for the CLI, docs and coverage.
func (a *API) Routes() []product.Route {
	routes := make([]product.Route, len(a.table.entries))
	for i, e := range a.table.entries {
		routes[i] = e.Route
	}
	return routes
}

// ownRoutes are the operations that belong to no product.
func (a *API) ownRoutes() []entry {
	var all []entry
	for _, part := range [][]entry{
		a.userRoutes(), a.tokenRoutes(), a.accountRoutes(), a.zoneRoutes(), a.settingRoutes(),
		a.rulesetRoutes(), a.auditRoutes(), a.ipRoutes(), a.tableRoutes(), a.usageRoutes(),
		a.graphRoutes(),
	} {
		all = append(all, part...)
	}
	return all
}

// exchange is one API request on its way through.
type exchange struct {
	id     string // of the request, in the answer's Cf-Ray and in the log
	start  time.Time
	client netip.Addr
	route  *entry // nil until one matched
	key    *key   // nil until authenticated
	zone   *spec.ZoneConfig
}

// ServeHTTP answers one request. Whatever happens, the answer is JSON in the v4 envelope.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{id: rayID(), start: a.o.Clock.Now(), client: peer(r)}
	out := &answer{ResponseWriter: w, head: r.Method == http.MethodHead}
	out.Header().Set("Cf-Ray", x.id)
	defer a.note(x, r, out)
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler {
			panic(p)
		}
		a.fail(out, x, r, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
	}()
	reply, err := a.handle(x, r, out)
	if err != nil {
		a.fail(out, x, r, err)
		return
	}
	if err := out.reply(r.Context(), reply); err != nil {
		a.fail(out, x, r, err)
	}
}

// handle finds the route, lets the caller in, and calls the handler.
func (a *API) handle(x *exchange, r *http.Request, out *answer) (product.Reply, error) {
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), Prefix)
	if !ok {
		return product.Reply{}, noRoute(r)
	}
	e, params, allowed := a.table.find(r.Method, path)
	if allowed != nil {
		out.Header().Set("Allow", strings.Join(allowed, ", "))
		return product.Reply{}, wrongMethod(r.Method, allowed)
	}
	if e == nil {
		return product.Reply{}, noRoute(r)
	}
	x.route = e
	c := &product.Call{Query: r.URL.Query(), Header: r.Header, Params: params, Origin: origin(r)}
	if e.public {
		c.Account = a.o.State.Snapshot().Accounts[params["account_id"]]
	} else if err := a.admit(x, r, c); err != nil {
		return product.Reply{}, err
	}
	if e.Operator && !x.key.operates() {
		return product.Reply{}, fault.New(fault.Denied, "This is for the operator of the node: it takes a token with all rights over all accounts, such as the node's own.")
	}
	if err := boundBody(c, r, out, e.MaxBody); err != nil {
		return product.Reply{}, err
	}
	reply, err := e.Handle(r.Context(), c)
	if err == nil && x.zone != nil && r.Method != http.MethodGet {
		reply.Messages = append(reply.Messages, a.trouble(x.zone.Zone.ID)...)
	}
	return reply, err
}

// origin returns scheme and host as the caller named them. What a proxy in front says of the scheme
// is not believed: anybody can send such a field.
func origin(r *http.Request) string {
	switch {
	case r.Host == "":
		return ""
	case r.TLS != nil:
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// boundBody gives the call a body that cannot go over its route's limit.
func boundBody(c *product.Call, r *http.Request, out *answer, limit int64) error {
	if limit == 0 {
		limit = defaultMaxBody
	}
	c.Length = r.ContentLength
	if r.ContentLength > limit {
		return budget.Check("The request body's size in bytes", r.ContentLength, limit)
	}
	if r.Body != nil {
		c.Body = budget.Reader("The request body", r.Body, limit)
	}
	if limit > patientBody && c.Body != nil {
		c.Body = &patient{c.Body, http.NewResponseController(out.ResponseWriter)}
	}
	return nil
}

const (
	patientBody = 64 << 20        // bodies of routes that take more may come slowly
	bodyPause   = 2 * time.Minute // that such a body may stand still
)

// patient reads a body that may outlast the server's read timeout while it flows, and the answer
// after it.
type patient struct {
	io.Reader
	control *http.ResponseController
}

// Read gives the client time for the next piece.
func (p *patient) Read(b []byte) (int, error) {
	now := time.Now()
	_ = p.control.SetReadDeadline(now.Add(bodyPause))
	n, err := p.Reader.Read(b)
	if err != nil {
		_ = p.control.SetWriteDeadline(now.Add(bodyPause))
	}
	return n, err
}

func peer(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

func rayID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
