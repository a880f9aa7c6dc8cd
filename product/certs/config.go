package certs

import (
	"crypto/tls"
	"slices"

	"github.com/mholt/acmez/v3"

	"selvage/spec"
)

// policy is what a zone's settings say about its handshakes.
type policy struct {
	min   uint16 // lowest version
	no13  bool   // TLS 1.3 is switched off
	noH2  bool   // HTTP/2 is switched off
	other bool   // anything but the defaults
}

var versions = map[string]uint16{"1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

func policyOf(s *spec.Settings) policy {
	p := policy{min: versions[s.Text("min_tls_version")], no13: !s.On("tls_1_3"), noH2: !s.On("http2")}
	if p.min == tls.VersionTLS13 {
		p.no13 = false // a zone that asks for both still has visitors
	}
	p.other = p != policy{min: tls.VersionTLS12}
	return p
}

// configs holds one tls.Config for each policy: they are few, and shared so that session tickets
// and their rotating keys are.
type configs struct {
	base      *tls.Config
	challenge *tls.Config
	by        map[policy]*tls.Config
}

func newConfigs(c *Certs) *configs {
	plain := &tls.Config{GetCertificate: c.Certificate, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1", "http/1.0"}}
	k := &configs{base: plain.Clone(), challenge: plain.Clone(), by: map[policy]*tls.Config{}}
	k.base.GetConfigForClient = c.configFor
	k.challenge.NextProtos = []string{acmez.ACMETLS1Protocol}
	for _, version := range versions {
		for i := range 4 {
			p := policy{min: version, no13: i&1 != 0 && version != tls.VersionTLS13, noH2: i&2 != 0, other: true}
			config := plain.Clone()
			config.MinVersion = p.min
			if p.no13 {
				config.MaxVersion = tls.VersionTLS12
			}
			if p.noH2 {
				config.NextProtos = []string{"http/1.1", "http/1.0"}
			}
			k.by[p] = config
		}
	}
	return k
}

// TLS returns the configuration for a TLS listener: certificates by name, each zone's lowest
// version, TLS 1.3 and HTTP/2 switches, and TLS-ALPN-01. Do not change it.
func (c *Certs) TLS() *tls.Config { return c.configs.base }

func (c *Certs) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if wantsChallenge(hello) {
		return c.configs.challenge, nil
	}
	name, ok := serverName(hello.ServerName)
	if !ok {
		return nil, nil
	}
	z := c.table.Load().zone(name)
	if z == nil || !z.policy.other {
		return nil, nil
	}
	return c.configs.by[z.policy], nil
}

// wantsChallenge tells whether an ACME server is calling (RFC 8737, 3): it offers nothing else.
func wantsChallenge(hello *tls.ClientHelloInfo) bool {
	return len(hello.SupportedProtos) == 1 && slices.Contains(hello.SupportedProtos, acmez.ACMETLS1Protocol)
}
