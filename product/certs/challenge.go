package certs

import (
	"context"
	"crypto/tls"
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

const http01Prefix = "/.well-known/acme-challenge/"

// challenges holds what ACME servers may ask for right now. Requests read it, orders write it.
type challenges struct {
	mu   sync.Mutex // held while a new state is made
	live atomic.Pointer[inPlay]
}

// inPlay is immutable.
type inPlay struct {
	answers map[string]string           // HTTP-01: host and token to key authorization
	certs   map[string]*tls.Certificate // TLS-ALPN-01: host to certificate
}

func newChallenges() *challenges {
	c := &challenges{}
	c.live.Store(&inPlay{})
	return c
}

// http01 returns the key authorization that host has to show under path, if that is in play.
func (c *challenges) http01(host, path string) (string, bool) {
	if !strings.HasPrefix(path, http01Prefix) {
		return "", false
	}
	answer, ok := c.live.Load().answers[host+path]
	return answer, ok
}

// alpn01 returns the challenge certificate of host, or nil.
func (c *challenges) alpn01(host string) *tls.Certificate {
	return c.live.Load().certs[strings.ToLower(host)]
}

func (c *challenges) change(edit func(next *inPlay)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.live.Load()
	next := &inPlay{answers: maps.Clone(old.answers), certs: maps.Clone(old.certs)}
	if next.answers == nil {
		next.answers, next.certs = map[string]string{}, map[string]*tls.Certificate{}
	}
	edit(next)
	c.live.Store(next)
}

// httpSolver answers HTTP-01 (RFC 8555, 8.3).
type httpSolver struct{ challenges *challenges }

// alpnSolver answers TLS-ALPN-01 (RFC 8737).
type alpnSolver struct{ challenges *challenges }

var (
	_ acmez.Solver = httpSolver{}
	_ acmez.Solver = alpnSolver{}
)

func (s httpSolver) Present(_ context.Context, ch acme.Challenge) error {
	s.challenges.change(func(next *inPlay) { next.answers[ch.Identifier.Value+ch.HTTP01ResourcePath()] = ch.KeyAuthorization })
	return nil
}

func (s httpSolver) CleanUp(_ context.Context, ch acme.Challenge) error {
	s.challenges.change(func(next *inPlay) { delete(next.answers, ch.Identifier.Value+ch.HTTP01ResourcePath()) })
	return nil
}

func (s alpnSolver) Present(_ context.Context, ch acme.Challenge) error {
	cert, err := acmez.TLSALPN01ChallengeCert(ch)
	if err != nil {
		return err
	}
	s.challenges.change(func(next *inPlay) { next.certs[strings.ToLower(ch.Identifier.Value)] = cert })
	return nil
}

func (s alpnSolver) CleanUp(_ context.Context, ch acme.Challenge) error {
	s.challenges.change(func(next *inPlay) { delete(next.certs, strings.ToLower(ch.Identifier.Value)) })
	return nil
}
