package hyperdrive

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"strconv"
	"syscall"
	"time"

	"selvage/engine/pgwire"
	"selvage/product/hyperdrive/memo"
	"selvage/product/hyperdrive/mysql"
	"selvage/product/hyperdrive/postgres"
	"selvage/spec"
)

// upstream is a configuration and the connections that belong to it.
type upstream struct {
	config *spec.Hyperdrive
	pg     *postgres.Upstream // nil until somebody uses it
	my     *mysql.Upstream    // the same, of a database that is MySQL
	access *pgwire.Verifier   // of the private port's password; nil until somebody logs in
}

// adopt makes the pools follow a snapshot.
func (p *Hyperdrive) adopt(next *spec.Snapshot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := map[string]bool{}
	for _, account := range next.Storage {
		for id, h := range account.Hyperdrives {
			seen[id] = true
			p.follow(id, h)
		}
	}
	for id, u := range p.pools {
		if !seen[id] {
			p.retire(u)
			delete(p.pools, id)
		}
	}
}

// follow takes one configuration over. Called with mu held.
func (p *Hyperdrive) follow(id string, h *spec.Hyperdrive) {
	u := p.pools[id]
	if u == nil {
		p.pools[id] = &upstream{config: h}
		return
	}
	old := u.config
	if old == h {
		return
	}
	if string(old.Access) != string(h.Access) {
		u.access = nil
	}
	u.config = h
	if !reflect.DeepEqual(old.Origin, h.Origin) || old.MTLS != h.MTLS {
		p.retire(u)
		u.pg, u.my = nil, nil
		return
	}
	if u.pg != nil {
		u.pg.SetPolicy(policyOf(h))
		u.pg.SetLimit(h.Connections())
	}
	if u.my != nil {
		u.my.SetLimit(h.Connections())
	}
}

// retire closes a pool and keeps what it counted. Called with mu held.
func (p *Hyperdrive) retire(u *upstream) {
	p.gone.add(u.stats())
	if pg := u.pg; pg != nil {
		p.serve.Go(pg.Close)
	}
	if my := u.my; my != nil {
		p.serve.Go(my.Close)
	}
}

// stats returns what the pool has come to; nothing if nobody used it yet. Called with mu held.
func (u *upstream) stats() postgres.Stats {
	if u.pg != nil {
		return u.pg.Stats()
	}
	if u.my == nil {
		return postgres.Stats{}
	}
	s := u.my.Stats()
	return postgres.Stats{
		Clients: s.Clients, Connections: s.Pool.Open, Idle: s.Pool.Idle, Waiting: s.Pool.Waiting, Waits: s.Pool.Waits, Timeouts: s.Pool.Timeouts,
		Waited: s.Pool.Waited.Seconds(), Dialled: s.Pool.Dialled, DialFailed: s.Pool.Failed, Transactions: s.Transactions, Cancels: s.Cancels,
	}
}

func policyOf(h *spec.Hyperdrive) *memo.Policy {
	if h.Caching.Disabled {
		return nil
	}
	seconds := func(v *int, def int) time.Duration {
		if v != nil {
			def = *v
		}
		return time.Duration(def) * time.Second
	}
	return &memo.Policy{MaxAge: seconds(h.Caching.MaxAge, spec.HyperdriveMaxAge), Stale: seconds(h.Caching.Stale, spec.HyperdriveStale)}
}

// find returns the pool of a configuration, which it makes if nobody used it yet; nil if there is no
// such configuration of this account, or none of PostgreSQL. An empty account stands for any.
func (p *Hyperdrive) find(accountID, id string) *postgres.Upstream {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.pools[id]
	if u == nil || accountID != "" && u.config.AccountID != accountID || !u.config.Postgres() {
		return nil
	}
	if u.pg == nil {
		login, err := p.login(u.config)
		if err != nil {
			p.o.Observe.Logger().Error("password of a database cannot be opened", "config", id, "error", err)
			return nil
		}
		u.pg = postgres.NewUpstream(postgres.Options{Login: login, Limit: u.config.Connections(), Wait: p.o.Wait, Memo: p.memo, Sessions: p.sessions,
			ID: id + strconv.FormatInt(time.Now().UnixNano(), 36)})
		u.pg.SetPolicy(policyOf(u.config))
	}
	return u.pg
}

// sweep looks after all pools.
func (p *Hyperdrive) sweep(now time.Time) {
	p.mu.Lock()
	all := make([]interface{ Sweep(time.Time) }, 0, len(p.pools))
	for _, u := range p.pools {
		if u.pg != nil {
			all = append(all, u.pg)
		}
		if u.my != nil {
			all = append(all, u.my)
		}
	}
	p.mu.Unlock()
	for _, u := range all {
		u.Sweep(now)
	}
}

// sealContext says whose password a sealed value is.
func sealContext(accountID, id, what string) []byte {
	return []byte("hyperdrive/" + accountID + "/" + id + "/" + what)
}

// login says how to reach the database of a configuration.
func (p *Hyperdrive) login(h *spec.Hyperdrive) (pgwire.Login, error) {
	password, err := p.o.Seal.Open(h.Origin.Sealed, sealContext(h.AccountID, h.ID, "origin"))
	if err != nil {
		return pgwire.Login{}, err
	}
	l := pgwire.Login{User: h.Origin.User, Password: string(password), Database: h.Origin.Database,
		Settings: map[string]string{"application_name": "Selvage Hyperdrive"}}
	address := net.JoinHostPort(h.Origin.Host, strconv.Itoa(h.Origin.Port))
	account := h.AccountID
	l.Dial = func(ctx context.Context) (net.Conn, error) { return p.dial(ctx, account, address) }
	if h.MTLS.SSLMode != "disable" {
		own, err := p.shown(h)
		if err != nil {
			return l, err
		}
		l.TLS, l.Optional = p.tls(h), h.MTLS.SSLMode == "" && own == nil
		l.TLS.Certificates = own
	}
	return l, nil
}

// errForbidden says that the operator does not let accounts connect to an address.
var errForbidden = errors.New("the address may not be reached")

// dial connects. Judged is the address that is dialled, after DNS.
func (p *Hyperdrive) dial(ctx context.Context, account, address string) (net.Conn, error) {
	d := net.Dialer{}
	if p.o.Permit != nil {
		d.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
			a, err := netip.ParseAddrPort(address)
			if err == nil {
				err = p.o.Permit(account, a)
			}
			if err != nil {
				return fmt.Errorf("%w: %w", errForbidden, err)
			}
			return nil
		}
	}
	return d.DialContext(ctx, "tcp", address)
}

// tls says what the certificate of the database has to be.
func (p *Hyperdrive) tls(h *spec.Hyperdrive) *tls.Config {
	roots := p.trusted(h)
	c := &tls.Config{ServerName: h.Origin.Host, RootCAs: roots, MinVersion: tls.VersionTLS12}
	switch h.MTLS.SSLMode {
	case "verify-full", "VERIFY_IDENTITY":
	case "verify-ca", "VERIFY_CA":
		c.InsecureSkipVerify = true // the name only
		c.VerifyConnection = func(s tls.ConnectionState) error {
			o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
			for _, cert := range s.PeerCertificates[1:] {
				o.Intermediates.AddCert(cert)
			}
			_, err := s.PeerCertificates[0].Verify(o)
			return err
		}
	default: // encrypted, whoever it is
		c.InsecureSkipVerify = true
	}
	return c
}
