// Package hyperdrive is Hyperdrive: pools of connections to databases that accounts have elsewhere.
// configs.go is the API, upstreams.go keeps a pool for each configuration, binding.go lets scripts in
// and private.go everybody else. What speaks PostgreSQL is in postgres, and pool and memo know no
// protocol, so that another one can stand beside it.
package hyperdrive

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"selvage/engine/pgwire"
	"selvage/engine/seal"
	"selvage/foundation/clock"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/product/hyperdrive/memo"
	"selvage/product/hyperdrive/postgres"
	"selvage/spec"
)

// Options is what Hyperdrive is made of. A field that is zero gets its default.
type Options struct {
	State   product.State
	Seal    *seal.Key // for passwords
	Observe observe.Observer
	Clock   clock.Clock

	// Permit is asked before an address is dialled for an account; nil permits all.
	Permit func(accountID string, a netip.AddrPort) error
	// Roots are who may sign certificates of databases; nil for those that the system trusts.
	Roots *x509.CertPool
	// CacheBytes bounds the answers that are remembered; 64 MiB.
	CacheBytes int64
	// Wait is how long a client waits for a connection to its database; 15 s.
	Wait time.Duration
	// Clients is how many there may be on a private port at once; 5,000.
	Clients int
	// Drain is how long clients in a transaction may take to end it when they have to leave; 30 s.
	Drain time.Duration
}

// Hyperdrive is the product. Safe for concurrent use.
type Hyperdrive struct {
	o        Options
	memo     *memo.Memo
	sessions *postgres.Sessions
	metrics  *metrics
	buffers  *pgwire.Buffers // of clients

	private   gate                                          // the entrance for PostgreSQL
	successor atomic.Pointer[func() (*net.UnixConn, error)] // reaches the process that goes on with clients; nil if there is none
	secret    [32]byte                                      // of the passwords of bindings; they live as long as this process

	mu    sync.Mutex           // guards the fields below
	pools map[string]*upstream // by ID of the configuration
	gone  totals               // of pools that were closed
	serve sync.WaitGroup
}

// Defaults of Options.
const (
	cacheBytes = 64 << 20
	maxClients = 5000
	drainTime  = 30 * time.Second

	clientBuffer = 4 << 10
)

// New returns Hyperdrive over what is stored already.
func New(o Options) (*Hyperdrive, error) {
	if o.CacheBytes == 0 {
		o.CacheBytes = cacheBytes
	}
	if o.Clients == 0 {
		o.Clients = maxClients
	}
	if o.Drain == 0 {
		o.Drain = drainTime
	}
	p := &Hyperdrive{o: o, private: gate{there: make(chan struct{})}, buffers: pgwire.NewBuffers(clientBuffer), memo: memo.New(o.CacheBytes), sessions: postgres.NewSessions(), pools: map[string]*upstream{}}
	rand.Read(p.secret[:]) // never fails
	p.metrics = newMetrics(p)
	return p, nil
}

// Name returns "hyperdrive".
func (p *Hyperdrive) Name() string { return "hyperdrive" }

// Prepare takes a snapshot: pools of configurations that changed are made anew, and what runs on the
// old ones comes to its end.
func (p *Hyperdrive) Prepare(_ context.Context, next *spec.Snapshot) (product.Change, error) {
	return product.Commit(func() { p.adopt(next) }), nil
}

// sweepTime is how often pools are looked after.
const sweepTime = 250 * time.Millisecond

// Run does background work until ctx ends.
func (p *Hyperdrive) Run(ctx context.Context) error {
	var watch sync.WaitGroup
	watch.Go(func() { p.sessions.Watch(ctx) })
	defer watch.Wait()
	t := time.NewTicker(sweepTime)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-t.C:
			p.sweep(now)
		}
	}
}

// quota is how many configurations an account may have.
func (p *Hyperdrive) quota() product.Quota {
	return product.Quota{Name: "hyperdrive_configs", Summary: "Hyperdrive configurations.", Default: 100,
		Used: func(_ context.Context, accountID string) (int64, error) {
			return int64(len(p.o.State.Snapshot().StorageOf(accountID).Hyperdrives)), nil
		}}
}

// Quotas returns what is counted of each account.
func (p *Hyperdrive) Quotas() []product.Quota { return []product.Quota{p.quota()} }

var (
	_ product.Product   = (*Hyperdrive)(nil)
	_ product.Resourcer = (*Hyperdrive)(nil)
	_ product.Binder    = (*Hyperdrive)(nil)
	_ product.Metered   = (*Hyperdrive)(nil)
)
