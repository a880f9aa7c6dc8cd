package certs

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"golang.org/x/time/rate"

	"selvage/product"
	"selvage/spec"
)

// How orders are paced. Let's Encrypt takes 300 new orders an account in 3 hours and 5 failed
// validations a name in one; certificates run out in months, so there is never a hurry.
const (
	atOnce       = 4
	orderEvery   = 36 * time.Second
	orderBurst   = 50
	firstBackoff = 5 * time.Minute
	maxBackoff   = 24 * time.Hour
	limited      = time.Hour // at least, after the server said that we asked too often
	firstPause   = time.Minute
	maxPause     = time.Hour
	roundEvery   = time.Hour              // at the latest
	reorderGap   = time.Hour              // before a certificate is ordered anew because of new hosts
	roundGap     = 200 * time.Millisecond // between two rounds at least
	askEvery     = 6 * time.Hour          // for renewal information
)

// orders gets and renews what the packs ask for.
type orders struct {
	certs  *Certs
	server *server
	pace   *rate.Limiter
	wake   chan struct{}
	tasks  sync.WaitGroup

	mu     sync.Mutex           // guards the fields below
	busy   map[string]bool      // packs under way, by ID
	held   map[string]time.Time // packs left alone until, where the state could not be told
	ask    map[string]time.Time // when to ask for a certificate's renewal information, by its ID
	paused time.Time            // no orders before: the server is away
	pauses int                  // in a row
}

func newOrders(c *Certs, config ACME, dir string) (*orders, error) {
	s, err := newServer(config, dir)
	if err != nil {
		return nil, err
	}
	return &orders{
		certs: c, server: s, pace: rate.NewLimiter(rate.Every(orderEvery), orderBurst), wake: make(chan struct{}, 1),
		busy: map[string]bool{}, held: map[string]time.Time{}, ask: map[string]time.Time{},
	}, nil
}

// wakeUp has the packs looked at soon. It never blocks.
func (o *orders) wakeUp() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *orders) run(ctx context.Context) error {
	defer o.tasks.Wait()
	if err := o.certs.sweep(ctx); err != nil {
		return err
	}
	for {
		wait := o.round(ctx)
		if !sleep(ctx, roundGap) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-o.wake:
		case <-time.After(wait):
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// round starts what is due and returns after how long something will be.
func (o *orders) round(ctx context.Context) time.Duration {
	now := o.certs.clock.Now()
	next := now.Add(roundEvery)
	if until := o.pausedUntil(); until.After(now) {
		return until.Sub(now)
	}
	for _, z := range o.certs.state.Snapshot().Zones {
		for _, pack := range packsOf(z) {
			due := o.due(z, pack, now)
			if due.IsZero() {
				continue
			}
			if due.After(now) {
				next = earlier(next, due)
				continue
			}
			if !o.start(ctx, z, pack) {
				return roundEvery // all hands are busy; the first that is free wakes us
			}
		}
	}
	return next.Sub(now)
}

// packsOf returns the packs of a zone, its universal one among them whether it was stored yet or not.
func packsOf(z *spec.ZoneConfig) []*spec.CertificatePack {
	for _, p := range z.Packs {
		if p.ID == z.Zone.ID {
			return z.Packs
		}
	}
	return append(slices.Clone(z.Packs), newUniversal(z.Zone))
}

func newUniversal(z *spec.Zone) *spec.CertificatePack {
	p := &spec.CertificatePack{ID: z.ID, ZoneID: z.ID, Type: "universal", Method: "txt", CreatedOn: z.CreatedOn}
	if z.Type == "partial" {
		p.Method = "http" // somebody else is the zone's DNS
	}
	return p
}

// due returns when there is something to do for a pack; zero if there is not.
func (o *orders) due(z *spec.ZoneConfig, pack *spec.CertificatePack, now time.Time) time.Time {
	if pack.Disabled || pack.Type == "universal" && !inService(z.Zone) {
		return time.Time{}
	}
	if pack.NextTry.After(now) {
		return pack.NextTry
	}
	method, hosts := plan(z, pack)
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(hosts) == 0 || o.busy[pack.ID] {
		return time.Time{}
	}
	at := later(pack.NextTry, o.held[pack.ID])
	if cert := certificateFor(z, pack); cert != nil {
		at = later(at, o.renewal(pack, cert, covers(cert.Hosts, hosts, method)))
	}
	return later(at, now.Add(-roundEvery)) // never zero: that would say that there is nothing to do
}

// renewal returns when the certificate of a pack is to be ordered anew, or its renewal information
// to be asked for. o.mu is held.
func (o *orders) renewal(pack *spec.CertificatePack, cert *spec.Certificate, covered bool) time.Time {
	if !covered {
		return cert.UploadedOn.Add(reorderGap)
	}
	ask, known := o.ask[cert.ID]
	if !known {
		ask = o.certs.clock.Now().Add(rand.N(askEvery)) // spread over the hours after a start
		o.ask[cert.ID] = ask
	}
	return earlier(pack.RenewOn, ask)
}

// plan returns how to validate a pack and for which hosts. A universal pack of a zone that is ours
// to answer for is validated by DNS, and every second time after a failure by HTTP, for those whose
// delegation does not reach us although their visitors do.
func plan(z *spec.ZoneConfig, pack *spec.CertificatePack) (method string, hosts []string) {
	if pack.Type != "universal" {
		return pack.Method, pack.Hosts
	}
	method = pack.Method
	if pack.Failures%2 == 1 && z.Zone.Type != "partial" {
		method = other(method)
	}
	if method == "txt" && slices.ContainsFunc(z.Records, served) {
		return method, []string{z.Zone.Name, "*." + z.Zone.Name}
	}
	if method == "txt" {
		return method, nil // nothing goes through the edge
	}
	exact := slices.DeleteFunc(proxiedHosts(z), func(h string) bool { return strings.HasPrefix(h, "*.") })
	return method, exact[:min(len(exact), spec.MaxPackHosts)]
}

func other(method string) string {
	if method == "txt" {
		return "http"
	}
	return "txt"
}

func served(r *spec.Record) bool { return r.Proxied && r.Proxiable() }

// proxiedHosts returns the names that the edge serves, sorted.
func proxiedHosts(z *spec.ZoneConfig) []string {
	var hosts []string
	for _, r := range z.Records {
		if served(r) {
			hosts = append(hosts, r.Name)
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// certificateFor returns what was issued for a pack, or nil.
func certificateFor(z *spec.ZoneConfig, pack *spec.CertificatePack) *spec.Certificate {
	for _, c := range z.Certificates {
		if c.PackID == pack.ID {
			return c
		}
	}
	return nil
}

// covers tells whether a certificate is for all of hosts. Another way of validation, tried because
// a renewal failed, makes no certificate wrong that still is valid.
func covers(have, hosts []string, method string) bool {
	if method == "txt" {
		return len(have) > 0
	}
	for _, h := range hosts {
		_, parent, _ := strings.Cut(h, ".")
		if !slices.Contains(have, h) && !slices.Contains(have, "*."+parent) {
			return false
		}
	}
	return true
}

// start works on a pack in a goroutine of its own; false if all hands are busy.
func (o *orders) start(ctx context.Context, z *spec.ZoneConfig, pack *spec.CertificatePack) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.busy) >= atOnce {
		return false
	}
	o.busy[pack.ID] = true
	o.tasks.Go(func() {
		defer o.finish(pack.ID)
		o.work(ctx, z, pack)
	})
	return true
}

func (o *orders) finish(id string) {
	if r := recover(); r != nil {
		o.certs.observe.Logger().Error("order panicked", "pack", id, "panic", r)
		o.hold(id)
	}
	o.mu.Lock()
	delete(o.busy, id)
	o.mu.Unlock()
	o.wakeUp()
}

// work asks for renewal information if that is all there is to do, and orders otherwise.
func (o *orders) work(ctx context.Context, z *spec.ZoneConfig, pack *spec.CertificatePack) {
	method, hosts := plan(z, pack)
	old := certificateFor(z, pack)
	if old != nil && covers(old.Hosts, hosts, method) && o.certs.clock.Now().Before(pack.RenewOn) {
		o.askRenewal(ctx, pack, old)
		return
	}
	if err := o.pace.Wait(ctx); err != nil {
		return
	}
	w := wanted{hosts: hosts, solvers: o.solvers(method, z.Zone.ID)}
	if old != nil {
		w.replaces = leafOf(old.Chain)
		o.forget(old.ID)
	}
	g, err := o.server.obtain(ctx, w)
	switch {
	case ctx.Err() != nil: // the node is going down; whoever comes next tries again
	case err != nil:
		o.failed(ctx, pack, err)
	default:
		o.issued(ctx, z, o.next(pack, method, hosts), g)
	}
}

func (o *orders) solvers(method, zoneID string) map[string]acmez.Solver {
	if method == "txt" {
		return map[string]acmez.Solver{acme.ChallengeTypeDNS01: dnsSolver{o.certs, zoneID}}
	}
	return map[string]acmez.Solver{
		acme.ChallengeTypeHTTP01:    httpSolver{o.certs.tokens},
		acme.ChallengeTypeTLSALPN01: alpnSolver{o.certs.tokens},
	}
}

// next returns the pack as it is after a success.
func (o *orders) next(pack *spec.CertificatePack, method string, hosts []string) *spec.CertificatePack {
	p := *pack
	p.Method, p.Hosts = method, hosts
	p.Failures, p.LastError, p.NextTry = 0, "", time.Time{}
	return &p
}

// issued stores a certificate in the place of the one before. The order cannot be taken back, so
// a state that refuses to write is tried for a while.
func (o *orders) issued(ctx context.Context, z *spec.ZoneConfig, pack *spec.CertificatePack, g *got) {
	log := o.certs.observe.Logger()
	cert, err := o.certificate(z, pack, g)
	if err != nil {
		o.failed(ctx, pack, err)
		return
	}
	o.mu.Lock()
	o.paused, o.pauses = time.Time{}, 0
	o.mu.Unlock()
	outcome := "issued"
	if certificateFor(z, pack) != nil {
		outcome = "renewed"
	}
	for _, pause := range []time.Duration{time.Second, 10 * time.Second, time.Minute, 0} {
		err = o.store(ctx, pack, cert)
		if err == nil || errors.Is(err, errNotWanted) || pause == 0 || !sleep(ctx, pause) {
			break
		}
		log.Warn("issued certificate cannot be stored yet", "zone", z.Zone.Name, "error", err)
	}
	if err != nil && !errors.Is(err, errNotWanted) {
		log.Error("issued certificate is lost: it could not be stored", "zone", z.Zone.Name, "error", err)
		o.hold(pack.ID)
		return
	}
	o.certs.metrics.orders.WithLabelValues(outcome).Inc()
	log.Info("certificate "+outcome, "zone", z.Zone.Name, "hosts", pack.Hosts, "method", pack.Method, "expires", cert.ExpiresOn, "renew", pack.RenewOn)
}

// errNotWanted says that a pack was deleted or switched off while its order was under way.
var errNotWanted = errors.New("the pack is not wanted any more")

// certificate makes the noun, and sets when to renew it.
func (o *orders) certificate(z *spec.ZoneConfig, pack *spec.CertificatePack, g *got) (*spec.Certificate, error) {
	now := spec.Timestamp(o.certs.clock.Now())
	secret, err := marshalKey(g.key)
	if err != nil {
		return nil, err
	}
	u, err := parseUpload(string(g.chain), string(secret), z.Zone.Name, now)
	if err != nil {
		return nil, fmt.Errorf("the ACME server issued a certificate that cannot be used: %w", err)
	}
	cert := &spec.Certificate{ID: spec.NewID(), ZoneID: z.Zone.ID, Source: "acme", PackID: pack.ID, BundleMethod: "force", UploadedOn: now, ModifiedOn: now}
	u.describe(cert)
	life := u.leaf.NotAfter.Sub(u.leaf.NotBefore)
	pack.RenewOn = spec.Timestamp(renewAt(u.leaf.NotBefore, u.leaf.NotAfter).Add(-rand.N(life/30 + 1)))
	if !g.renew.IsZero() && g.renew.Before(u.leaf.NotAfter) {
		pack.RenewOn = spec.Timestamp(g.renew)
	}
	return cert, nil
}

func (o *orders) store(ctx context.Context, pack *spec.CertificatePack, cert *spec.Certificate) error {
	return o.certs.state.Update(ctx, byNode, func(tx product.Tx) error {
		z, err := stillWanted(tx, pack)
		if err != nil {
			return err
		}
		for _, old := range z.Certificates {
			if old.PackID != pack.ID {
				continue
			}
			if err := tx.Delete(old.Key()); err != nil {
				return err
			}
		}
		if err := tx.Put(cert); err != nil {
			return err
		}
		pack.ModifiedOn = spec.Timestamp(o.certs.clock.Now())
		return tx.Put(pack)
	})
}

// stillWanted returns the zone of a pack, or errNotWanted.
func stillWanted(tx product.Tx, pack *spec.CertificatePack) (*spec.ZoneConfig, error) {
	z := tx.Snapshot().Zones[pack.ZoneID]
	if z == nil {
		return nil, errNotWanted
	}
	n, err := tx.Get(pack.Key())
	if err != nil {
		return nil, err
	}
	p, is := n.(*spec.CertificatePack)
	if !is && pack.Type != "universal" || is && p.Disabled {
		return nil, errNotWanted
	}
	return z, nil
}

// failed writes down why an order failed and when it is tried again. If it was the server that is
// away or talks nonsense, all orders wait and none is blamed.
func (o *orders) failed(ctx context.Context, pack *spec.CertificatePack, cause error) {
	log := o.certs.observe.Logger()
	now := o.certs.clock.Now()
	p := *pack
	p.LastError = shorten(cause.Error(), 1000)
	if problemOf(cause) == nil && !o.server.reachable(ctx) {
		until := o.pause(now)
		o.certs.metrics.orders.WithLabelValues("unavailable").Inc()
		log.Warn("acme server is away", "directory", o.server.config.Directory, "until", until, "error", cause)
		p.LastError = "The ACME server cannot be reached or talks nonsense: " + p.LastError
	} else {
		p.Failures++
		p.NextTry = spec.Timestamp(now.Add(backoff(p.Failures, cause)))
		o.certs.metrics.orders.WithLabelValues("failed").Inc()
		log.Warn("order failed", "zone", pack.ZoneID, "pack", pack.ID, "failures", p.Failures, "next", p.NextTry, "error", cause)
	}
	if p.LastError == pack.LastError && p.Failures == pack.Failures {
		return
	}
	err := o.certs.state.Update(ctx, byNode, func(tx product.Tx) error {
		if _, err := stillWanted(tx, pack); err != nil {
			return err
		}
		p.ModifiedOn = spec.Timestamp(now)
		return tx.Put(&p)
	})
	if err != nil && !errors.Is(err, errNotWanted) && ctx.Err() == nil {
		log.Error("failed order cannot be written down", "pack", pack.ID, "error", err)
		o.hold(pack.ID)
	}
}

// backoff returns how long a pack waits after so many failures in a row.
func backoff(failures int, cause error) time.Duration {
	d := firstBackoff << min(failures-1, 12)
	if p := problemOf(cause); p != nil && p.Type == acme.ProblemTypeRateLimited {
		d = max(d, limited)
	}
	return jitter(min(d, maxBackoff))
}

// jitter returns d give or take a quarter, so that what failed together does not come back together.
func jitter(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2+1) }

func (o *orders) pause(now time.Time) time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.paused.After(now) {
		return o.paused // another order has found out at the same time
	}
	o.paused = now.Add(jitter(min(firstPause<<min(o.pauses, 12), maxPause)))
	o.pauses++
	return o.paused
}

func (o *orders) pausedUntil() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.paused
}

// hold leaves a pack alone for an hour: nothing could be written down, and asking the server again
// and again would use up its patience.
func (o *orders) hold(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held[id] = o.certs.clock.Now().Add(limited)
}

// forget drops what is remembered of a certificate.
func (o *orders) forget(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.ask, id)
}

// askRenewal asks when the server wants a certificate renewed (RFC 9773) and brings that forward if
// it is earlier than planned, as before a mass revocation.
func (o *orders) askRenewal(ctx context.Context, pack *spec.CertificatePack, cert *spec.Certificate) {
	now := o.certs.clock.Now()
	renew, again := time.Time{}, time.Time{}
	if leaf := leafOf(cert.Chain); leaf != nil {
		renew, again = o.server.suggested(ctx, leaf.Raw)
	}
	o.mu.Lock()
	o.ask[cert.ID] = later(again, now.Add(jitter(askEvery)))
	o.mu.Unlock()
	if renew.IsZero() || !renew.Before(pack.RenewOn.Add(-time.Minute)) {
		return
	}
	p := *pack
	p.RenewOn, p.ModifiedOn = spec.Timestamp(renew), spec.Timestamp(now)
	err := o.certs.state.Update(ctx, byNode, func(tx product.Tx) error {
		if _, err := stillWanted(tx, pack); err != nil {
			return err
		}
		return tx.Put(&p)
	})
	if err != nil && !errors.Is(err, errNotWanted) && ctx.Err() == nil {
		o.certs.observe.Logger().Warn("earlier renewal cannot be written down", "pack", pack.ID, "error", err)
	}
}

func leafOf(chain string) *x509.Certificate {
	block, _ := pem.Decode([]byte(chain))
	if block == nil {
		return nil
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return leaf
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func shorten(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit] + "..."
	}
	return strings.ToValidUTF8(s, "?")
}
