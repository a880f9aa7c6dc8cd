// Package certs gives every TLS handshake its certificate and gets certificates from where they
// come: uploads, ACME servers, and two authorities of the node's own, one for the edge and one for
// origins.
package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"selvage/edge"
	"selvage/foundation/clock"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/spec"
)

var (
	_ product.Product   = (*Certs)(nil)
	_ product.Phaser    = (*Certs)(nil)
	_ product.Resourcer = (*Certs)(nil)
)

// Options says what a Certs works with.
type Options struct {
	State    product.State    // where certificates and packs are kept
	Dir      string           // holds the authorities and the ACME account keys; made if missing
	ACME     ACME             // zero value: no certificates are ordered
	KeyPairs int              // key pairs held ready in memory; 0 means 2048
	Observe  observe.Observer // zero value: unseen
	Clock    clock.Clock      // zero value: the system's
}

// Certs chooses, issues and orders certificates. Safe for concurrent use.
type Certs struct {
	state   product.State
	clock   clock.Clock
	observe observe.Observer
	metrics *metrics
	local   *authority // signs for hosts of zones that have nothing better
	origin  *authority // signs for origin servers; only our own edge trusts it
	caFile  string
	ring    *keyring
	table   atomic.Pointer[table]
	configs *configs
	tokens  *challenges
	orders  *orders // nil if ACME is not configured
}

// New opens the authorities in o.Dir, making them at the first start. A damaged one is an error
// that says how to go on: a silent new one would break everybody who trusts the old.
func New(o Options) (*Certs, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the certificates' folder: %w", err)
	}
	local, err := openAuthority(filepath.Join(o.Dir, "local-ca.key.pem"), localCA, o.Clock)
	if err != nil {
		return nil, fmt.Errorf("open the local CA: %w", err)
	}
	origin, err := openAuthority(filepath.Join(o.Dir, "origin-ca.key.pem"), originCA, o.Clock)
	if err != nil {
		return nil, fmt.Errorf("open the origin CA: %w", err)
	}
	c := &Certs{state: o.State, clock: o.Clock, observe: o.Observe, local: local, origin: origin, tokens: newChallenges()}
	c.caFile = filepath.Join(o.Dir, "ca.pem")
	for path, a := range map[string]*authority{c.caFile: local, filepath.Join(o.Dir, "origin-ca.pem"): origin} {
		if err := exportFile(path, a.pem()); err != nil {
			return nil, err
		}
	}
	c.metrics = newMetrics(c)
	c.ring = newKeyring(o.KeyPairs, c.loadPair)
	c.configs = newConfigs(c)
	c.table.Store(&table{from: spec.NewSnapshot()})
	if o.ACME.Directory != "" {
		if c.orders, err = newOrders(c, o.ACME, filepath.Join(o.Dir, "acme")); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Name returns "certs".
func (c *Certs) Name() string { return "certs" }

// CAFile returns the path of the local CA's root in PEM: what clients have to trust.
func (c *Certs) CAFile() string { return c.caFile }

// OriginRoots returns the root of the origin CA, which the edge trusts beside the system's roots
// when it verifies origins. The caller may add to the pool.
func (c *Certs) OriginRoots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.origin.cert)
	return pool
}

// OriginRevoked tells whether leaf was issued by the origin CA and revoked since. The edge asks it
// after it verified an origin's chain.
func (c *Certs) OriginRevoked(leaf *x509.Certificate) bool {
	revoked := c.table.Load().revoked
	if len(revoked) == 0 || leaf == nil || leaf.CheckSignatureFrom(c.origin.cert) != nil {
		return false
	}
	_, is := revoked[serialText(leaf.SerialNumber)]
	return is
}

// Prepare compiles the zones that changed since the last commit.
func (c *Certs) Prepare(ctx context.Context, next *spec.Snapshot) (product.Change, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t := compile(next, c.table.Load())
	return product.Commit(func() {
		c.table.Store(t)
		if c.orders != nil {
			c.orders.wakeUp()
		}
	}), nil
}

// Run orders and renews ACME certificates until ctx ends.
func (c *Certs) Run(ctx context.Context) error {
	if c.orders == nil {
		<-ctx.Done()
		return nil
	}
	return c.orders.run(ctx)
}

// Phase answers the HTTP-01 challenges in play and passes everything else on, so that an origin
// which runs an ACME client of its own goes on working.
func (c *Certs) Phase() edge.Phase {
	return edge.Phase{Name: "certs", Handle: func(ctx context.Context, ex *edge.Exchange, next edge.Handler) error {
		answer, ok := c.tokens.http01(ex.Request.Host, ex.Request.Path)
		if !ok {
			return next(ctx, ex)
		}
		ex.Respond(200, edge.NewHeader("Content-Type", "application/octet-stream", "Cache-Control", "no-store"), []byte(answer))
		return nil
	}}
}

// Certificate is for tls.Config.GetCertificate. Without a certificate of its own for the name, a
// zone's host gets one of the local CA. A name of no zone here, or no name at all, gets neither
// certificate nor error, upon which crypto/tls sends the alert unrecognized_name: handing out any
// other certificate would show one tenant's names to another's visitors.
func (c *Certs) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if wantsChallenge(hello) {
		return c.tokens.alpn01(hello.ServerName), nil
	}
	name, ok := serverName(hello.ServerName)
	if !ok {
		c.metrics.refused.Inc()
		return nil, nil
	}
	z := c.table.Load().zone(name)
	if z == nil {
		c.metrics.refused.Inc()
		return nil, nil
	}
	cert := c.pick(z, name, hello)
	if cert == nil {
		c.metrics.refused.Inc()
	}
	return cert, nil
}
