package edge

import (
	"crypto/tls"
	"slices"
	"sync"
)

// TLSPolicy is how a host name wants its handshakes to be.
type TLSPolicy struct {
	MinVersion uint16 // as in crypto/tls; 0 means TLS 1.2
	MaxVersion uint16 // 0 means the newest
	HTTP1Only  bool   // do not offer h2
}

// acmeProtocol is the ALPN name of ACME's TLS-ALPN-01 challenge (RFC 8737); GetCertificate answers it.
const acmeProtocol = "acme-tls/1"

// serverTLS returns a configuration that asks policy for each handshake. There are few different
// policies, so each gets its configuration once; all share the session ticket keys of the first.
func serverTLS(base *tls.Config, policy func(serverName string) TLSPolicy) *tls.Config {
	base = base.Clone()
	base.MinVersion = tls.VersionTLS12
	for _, p := range []string{"h2", "http/1.1", acmeProtocol} {
		if !slices.Contains(base.NextProtos, p) {
			base.NextProtos = append(base.NextProtos, p)
		}
	}
	if policy == nil {
		return base
	}
	var made sync.Map // TLSPolicy to *tls.Config
	base.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		want := policy(hello.ServerName)
		if want == (TLSPolicy{}) {
			return nil, nil
		}
		if c, ok := made.Load(want); ok {
			return c.(*tls.Config), nil
		}
		own := base.Clone()
		own.GetConfigForClient = nil
		own.MaxVersion = want.MaxVersion
		if want.MinVersion != 0 {
			own.MinVersion = want.MinVersion
		}
		if want.HTTP1Only {
			own.NextProtos = slices.DeleteFunc(slices.Clone(own.NextProtos), func(p string) bool { return p == "h2" })
		}
		c, _ := made.LoadOrStore(want, own)
		return c.(*tls.Config), nil
	}
	return base
}
