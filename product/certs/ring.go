package certs

import (
	"crypto/tls"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"selvage/spec"
)

// retryLoad is how many seconds a key pair that could not be made is left alone.
const retryLoad = 60

// slot is a certificate that may be chosen. Its key pair is parsed or issued when a handshake
// first needs it, and dropped again when others are needed more.
type slot struct {
	source source
	stored *spec.Certificate // nil for the local CA
	local  string            // what the local CA issues for
	apex   bool              // and whether for "*." and that, too
	rsa    bool
	until  int64 // Unix time from which it must not be chosen; of a local leaf the pair says it

	mu   sync.Mutex // held while the pair is made, so that it is made once
	pair atomic.Pointer[pair]
	used atomic.Bool // since the ring's hand last passed
	kept bool        // whether it is in the ring; guarded by the ring's mu
}

// pair is a certificate with its key, ready for a handshake.
type pair struct {
	cert  tls.Certificate
	until int64 // Unix time from which it is made anew
	err   error // why there is none; kept, so that handshakes do not try again and again
}

func newSlot(cert *spec.Certificate) *slot {
	s := &slot{source: custom, stored: cert, rsa: cert.KeyType == keyRSA, until: cert.ExpiresOn.Unix()}
	if cert.Source == "acme" {
		s.source = acmeServer
	}
	return s
}

// keyring holds at most limit pairs. Reading is two atomic loads; who has to go is found by a hand
// that passes over the ring and spares what was used since its last visit.
type keyring struct {
	load func(*slot) (*pair, error)

	mu    sync.Mutex // guards the fields below
	slots []*slot
	limit int
	hand  int
}

func newKeyring(limit int, load func(*slot) (*pair, error)) *keyring {
	if limit <= 0 {
		limit = 2048
	}
	return &keyring{load: load, limit: limit}
}

// get returns the slot's key pair, making it if need be.
func (k *keyring) get(s *slot, now int64) (*tls.Certificate, error) {
	p := s.pair.Load()
	if p == nil || now >= p.until {
		p = k.fill(s, now)
	}
	if !s.used.Load() {
		s.used.Store(true)
	}
	if p.err != nil {
		return nil, p.err
	}
	return &p.cert, nil
}

func (k *keyring) fill(s *slot, now int64) *pair {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pair.Load(); p != nil && now < p.until {
		return p
	}
	p, err := k.load(s)
	if err != nil {
		p = &pair{err: err, until: now + retryLoad}
	}
	k.keep(s, p)
	return p
}

// keep puts s into the ring, in the place of one that was not used lately if the ring is full.
func (k *keyring) keep(s *slot, p *pair) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s.pair.Store(p)
	if s.kept {
		return
	}
	s.kept = true
	if len(k.slots) < k.limit {
		k.slots = append(k.slots, s)
		return
	}
	for k.slots[k.hand].used.Swap(false) {
		k.hand = (k.hand + 1) % len(k.slots)
	}
	gone := k.slots[k.hand]
	gone.kept = false
	gone.pair.Store(nil)
	k.slots[k.hand] = s
	k.hand = (k.hand + 1) % len(k.slots)
}

// held returns how many pairs are in memory.
func (k *keyring) held() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.slots)
}

// loadPair parses a stored certificate, or has the local CA issue one.
func (c *Certs) loadPair(s *slot) (*pair, error) {
	if s.stored == nil {
		hosts := []string{s.local}
		if s.apex {
			hosts = append(hosts, "*."+s.local)
		}
		return c.issueLocal(hosts)
	}
	cert, err := tls.X509KeyPair([]byte(s.stored.Chain), []byte(s.stored.PrivateKey))
	if err != nil {
		c.observe.Logger().Error("stored certificate cannot be read", "zone", s.stored.ZoneID, "certificate", s.stored.ID, "error", err)
		return nil, err
	}
	return &pair{cert: cert, until: s.until}, nil
}

func (c *Certs) issueLocal(hosts []string) (*pair, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	now := c.clock.Now()
	leaf, err := c.local.issue(request{public: &key.PublicKey, hosts: hosts, now: now, life: localLife})
	if err != nil {
		return nil, fmt.Errorf("issue for %v: %w", hosts, err)
	}
	c.metrics.issued.Inc()
	return &pair{cert: certificateOf(leaf.Raw, key, leaf), until: renewAt(leaf.NotBefore, leaf.NotAfter).Unix()}, nil
}

// renewAt returns when two thirds of a certificate's life are over.
func renewAt(from, to time.Time) time.Time { return from.Add(to.Sub(from) / 3 * 2) }
