package certs_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"selvage/foundation/clock"
	"selvage/product/certs"
	"selvage/product/producttest"
	"selvage/spec"
)

var (
	ecKey  = sync.OnceValue(func() crypto.Signer { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	rsaKey = sync.OnceValue(func() crypto.Signer { return must(rsa.GenerateKey(rand.Reader, 2048)) })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// leaf describes a certificate to make.
type leaf struct {
	hosts    []string
	key      crypto.Signer // nil means ECDSA
	from, to time.Duration // from now; zero to means 90 days
	edit     func(*x509.Certificate)
}

// make returns the certificate, signed by itself, and its key in PEM.
func (l leaf) make() (chain, key string) {
	if l.key == nil {
		l.key = ecKey()
	}
	if l.to == 0 {
		l.to = 90 * 24 * time.Hour
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"}, DNSNames: l.hosts,
		NotBefore: time.Now().Add(-time.Hour + l.from), NotAfter: time.Now().Add(l.to),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	if l.edit != nil {
		l.edit(template)
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, l.key.Public(), l.key))
	return pemOf("CERTIFICATE", der), pemOf("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(l.key)))
}

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// noun returns a stored certificate of a zone.
func (l leaf) noun(z *spec.ZoneConfig, source string, priority int) *spec.Certificate {
	chain, key := l.make()
	kind := "ecdsa"
	if _, is := l.key.(*rsa.PrivateKey); is {
		kind = "rsa"
	}
	if l.to == 0 {
		l.to = 90 * 24 * time.Hour
	}
	return &spec.Certificate{ID: spec.NewID(), ZoneID: z.Zone.ID, Source: source, Hosts: l.hosts, KeyType: kind, Chain: chain, PrivateKey: key,
		Priority: priority, ExpiresOn: time.Now().Add(l.to)}
}

func TestChoice(t *testing.T) {
	type stored struct {
		leaf     leaf
		source   string
		priority int
	}
	exact := func(h ...string) leaf { return leaf{hosts: h} }
	tests := []struct {
		name   string
		stored []stored
		sni    string
		want   int // index of stored; -1 the local CA, -2 nothing
	}{
		{"nothing stored", nil, "www.one.test", -1},
		{"apex", nil, "one.test", -1},
		{"upper case", nil, "WWW.One.TEST", -1},
		{"a host without a record", nil, "nobody.one.test", -1},
		{"two levels below without a record", nil, "a.b.one.test", -2},
		{"two levels below with a record", nil, "deep.www.one.test", -1},
		{"two levels below by a wildcard record", nil, "any.wild.one.test", -1},
		{"three levels below by a wildcard record", nil, "x.any.wild.one.test", -2},
		{"no name", nil, "", -2},
		{"an unknown zone", nil, "two.test", -2},
		{"a zone's suffix", nil, "none.test", -2},
		{"the top", nil, "test", -2},
		{"an address", nil, "192.0.2.1", -2},
		{"exact", []stored{{exact("www.one.test"), "custom", 0}}, "www.one.test", 0},
		{"exact is not for others", []stored{{exact("www.one.test"), "custom", 0}}, "one.test", -1},
		{"wildcard", []stored{{exact("*.one.test"), "custom", 0}}, "www.one.test", 0},
		{"wildcard does not cover the apex", []stored{{exact("*.one.test"), "custom", 0}}, "one.test", -1},
		{"wildcard covers one level only", []stored{{exact("*.one.test"), "custom", 0}}, "deep.www.one.test", -1},
		{"upper case in a certificate", []stored{{exact("WWW.ONE.test"), "custom", 0}}, "www.one.test", 0},
		{"exact before wildcard", []stored{{exact("*.one.test"), "custom", 9}, {exact("www.one.test"), "acme", 0}}, "www.one.test", 1},
		{"custom before acme", []stored{{exact("www.one.test"), "acme", 9}, {exact("www.one.test"), "custom", 0}}, "www.one.test", 1},
		{"higher priority first", []stored{{exact("www.one.test"), "custom", 1}, {exact("www.one.test"), "custom", 2}}, "www.one.test", 1},
		{"longer life first", []stored{{leaf{hosts: []string{"www.one.test"}, to: time.Hour}, "custom", 0}, {exact("www.one.test"), "custom", 0}}, "www.one.test", 1},
		{"expired is passed over", []stored{{leaf{hosts: []string{"www.one.test"}, to: -time.Minute}, "custom", 0}, {exact("*.one.test"), "acme", 0}}, "www.one.test", 1},
		{"only expired", []stored{{leaf{hosts: []string{"www.one.test"}, to: -time.Minute}, "custom", 0}}, "www.one.test", -1},
		{"ecdsa before rsa", []stored{{leaf{hosts: []string{"www.one.test"}, key: rsaKey()}, "custom", 0}, {exact("www.one.test"), "custom", 0}}, "www.one.test", 1},
		{"names outside of the zone count for nothing", []stored{{exact("www.one.test", "two.test"), "custom", 0}}, "two.test", -2},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := open(t, certs.Options{}, "one.test")
			z := h.zone(t, "one.test")
			h.put(t, proxied(z, "deep.www.one.test"), proxied(z, "*.wild.one.test"))
			var chains [][]byte
			for _, s := range test.stored {
				n := s.leaf.noun(z, s.source, s.priority)
				chains = append(chains, []byte(n.Chain))
				h.put(t, n)
			}
			got, err := h.Certificate(hello(test.sni))
			if err != nil {
				t.Fatal(err)
			}
			if which := indexOf(got, chains); which != test.want {
				t.Errorf("Certificate(%q) is %d, want %d", test.sni, which, test.want)
			}
			if got != nil && test.want == -1 {
				if err := got.Leaf.VerifyHostname(test.sni); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func indexOf(cert *tls.Certificate, chains [][]byte) int {
	if cert == nil {
		return -2
	}
	return slices.IndexFunc(chains, func(chain []byte) bool {
		block, _ := pem.Decode(chain)
		return string(block.Bytes) == string(cert.Certificate[0])
	})
}

func proxied(z *spec.ZoneConfig, name string) *spec.Record {
	return &spec.Record{ID: spec.NewID(), ZoneID: z.Zone.ID, Name: name, Type: "A", Content: "192.0.2.1", TTL: 1, Proxied: true}
}

func TestRSAOnlyClient(t *testing.T) {
	h := open(t, certs.Options{}, "one.test")
	z := h.zone(t, "one.test")
	old := leaf{hosts: []string{"www.one.test"}, key: rsaKey()}.noun(z, "custom", 0)
	h.put(t, old, leaf{hosts: []string{"www.one.test"}}.noun(z, "custom", 0))
	hi := hello("www.one.test")
	hi.SupportedVersions = []uint16{tls.VersionTLS12}
	hi.SignatureSchemes = []tls.SignatureScheme{tls.PKCS1WithSHA256}
	hi.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	cert, err := h.Certificate(hi)
	if err != nil || indexOf(cert, [][]byte{[]byte(old.Chain)}) != 0 {
		t.Errorf("a client without ECDSA got %v, %v", cert, err)
	}
}

func TestUnreadableCertificateIsPassedOver(t *testing.T) {
	h := open(t, certs.Options{}, "one.test")
	n := leaf{hosts: []string{"www.one.test"}}.noun(h.zone(t, "one.test"), "custom", 0)
	n.PrivateKey = "garbage"
	h.put(t, n)
	for range 3 {
		if got := h.names(t, hello("www.one.test")); len(got) != 2 {
			t.Errorf("the handshake got %v, want the local CA's", got)
		}
	}
}

// A zone below another one is another tenant's house.
func TestZoneBelowAnother(t *testing.T) {
	h := open(t, certs.Options{}, "one.test", "shop.one.test")
	h.put(t, leaf{hosts: []string{"*.one.test", "shop.one.test"}}.noun(h.zone(t, "one.test"), "custom", 0))
	if got := h.names(t, hello("shop.one.test")); !slices.Equal(got, []string{"shop.one.test", "*.shop.one.test"}) {
		t.Errorf("shop.one.test got %v", got)
	}
}

// Of two zones of one name the active one is served.
func TestTwoZonesOfOneName(t *testing.T) {
	h := open(t, certs.Options{}, "one.test")
	squatter := producttest.Snapshot(1, "one.test").ZoneByName("one.test")
	z := *squatter.Zone
	z.Status, z.ID = "pending", strings.Repeat("0", 32)
	h.put(t, &z)
	n := leaf{hosts: []string{"one.test"}}.noun(&spec.ZoneConfig{Zone: &z}, "custom", 0)
	h.put(t, n)
	cert, err := h.Certificate(hello("one.test"))
	if err != nil || indexOf(cert, [][]byte{[]byte(n.Chain)}) == 0 {
		t.Errorf("a pending zone's certificate is served: %v", err)
	}
}

func TestChangesReachTheNextHandshake(t *testing.T) {
	h := open(t, certs.Options{}, "one.test")
	before := must(h.Certificate(hello("www.one.test")))
	z := h.zone(t, "one.test")
	h.put(t, proxied(z, "more.one.test"))
	if again := must(h.Certificate(hello("www.one.test"))); again != before {
		t.Error("an unrelated record had the local CA issue anew")
	}
	n := leaf{hosts: []string{"www.one.test"}}.noun(z, "custom", 0)
	h.put(t, n)
	if got := must(h.Certificate(hello("www.one.test"))); indexOf(got, [][]byte{[]byte(n.Chain)}) != 0 {
		t.Error("the new certificate is not served")
	}
	h.delete(t, z.Zone.Key())
	if got := must(h.Certificate(hello("www.one.test"))); got != nil {
		t.Error("a deleted zone is still served")
	}
}

func TestKeyPairsAreBounded(t *testing.T) {
	var zones []string
	for i := range 40 {
		zones = append(zones, fmt.Sprintf("z%d.test", i))
	}
	h := open(t, certs.Options{KeyPairs: 8}, zones...)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 3 {
				for _, z := range zones {
					if c, err := h.Certificate(hello(z)); err != nil || c == nil || c.Leaf.VerifyHostname(z) != nil {
						t.Errorf("Certificate(%s) = %v, %v", z, c, err)
					}
				}
			}
		})
	}
	wg.Wait()
	if n := h.KeyPairsHeld(); n != 8 {
		t.Errorf("%d key pairs are held, the limit is 8", n)
	}
}

func TestLocalLeafIsRenewed(t *testing.T) {
	now := time.Now()
	h := open(t, certs.Options{Clock: clock.Fixed(func() time.Time { return now })}, "one.test")
	first := must(h.Certificate(hello("one.test")))
	now = now.Add(59 * 24 * time.Hour)
	if again := must(h.Certificate(hello("one.test"))); again != first {
		t.Error("renewed after 59 of 90 days")
	}
	now = now.Add(2 * 24 * time.Hour)
	if again := must(h.Certificate(hello("one.test"))); again == first || again.Leaf.NotAfter.Before(now.Add(80*24*time.Hour)) {
		t.Error("not renewed after 61 of 90 days")
	}
}

func TestVersionsFollowTheZone(t *testing.T) {
	h := open(t, certs.Options{}, "one.test")
	z := h.zone(t, "one.test")
	set := func(values map[string]any) {
		h.put(t, &spec.Settings{ZoneID: z.Zone.ID, Values: values})
	}
	tests := []struct {
		name    string
		values  map[string]any
		max     uint16 // of the client
		want    uint16 // 0 means none
		want2   bool   // HTTP/2
		clients []string
	}{
		{"defaults", nil, tls.VersionTLS13, tls.VersionTLS13, true, nil},
		{"defaults refuse 1.1", nil, tls.VersionTLS11, 0, false, nil},
		{"1.3 off", map[string]any{"tls_1_3": "off"}, tls.VersionTLS13, tls.VersionTLS12, true, nil},
		{"min 1.3", map[string]any{"min_tls_version": "1.3"}, tls.VersionTLS12, 0, false, nil},
		{"min 1.3 and 1.3 off", map[string]any{"min_tls_version": "1.3", "tls_1_3": "off"}, tls.VersionTLS13, tls.VersionTLS13, true, nil},
		{"min 1.0", map[string]any{"min_tls_version": "1.0"}, tls.VersionTLS10, tls.VersionTLS10, true, nil},
		{"http2 off", map[string]any{"http2": "off"}, tls.VersionTLS13, tls.VersionTLS13, false, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			set(test.values)
			state, err := h.handshake(t, &tls.Config{ServerName: "one.test", MinVersion: tls.VersionTLS10, MaxVersion: test.max, NextProtos: []string{"h2", "http/1.1"}})
			if err != nil {
				state = tls.ConnectionState{}
			}
			if state.Version != test.want || test.want != 0 && (state.NegotiatedProtocol == "h2") != test.want2 {
				t.Errorf("got version %x, protocol %q, %v", state.Version, state.NegotiatedProtocol, err)
			}
		})
	}
}

func TestUnknownNamesGetTheAlert(t *testing.T) {
	h := open(t, certs.Options{}, "one.test")
	for _, name := range []string{"", "two.test"} {
		_, err := h.handshake(t, &tls.Config{ServerName: name, InsecureSkipVerify: true})
		if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			t.Errorf("SNI %q: %v, want the alert unrecognized_name", name, err)
		}
	}
	if _, err := h.handshake(t, &tls.Config{ServerName: "one.test", InsecureSkipVerify: true, NextProtos: []string{"acme-tls/1"}}); err == nil {
		t.Error("a TLS-ALPN-01 handshake without a challenge in play got a certificate")
	}
}

// handshake connects to the TLS configuration over loopback.
func (h house) handshake(t *testing.T, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	ln := must(tls.Listen("tcp", "127.0.0.1:0", h.TLS()))
	defer ln.Close()
	go func() {
		if conn, err := ln.Accept(); err == nil {
			conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	}()
	if client.RootCAs == nil {
		client.RootCAs = h.roots(t)
	}
	conn, err := tls.Dial("tcp", ln.Addr().String(), client)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	return conn.ConnectionState(), nil
}

func FuzzServerName(f *testing.F) {
	for _, s := range []string{"one.test", "", ".", "..one.test", "*.one.test", "ONE.test", "a.b.c.one.test", "one.test.", "xn--one.test", "\x00.one.test", "é.one.test", strings.Repeat("a.", 130) + "one.test"} {
		f.Add(s)
	}
	h := open(f, certs.Options{}, "one.test")
	f.Fuzz(func(t *testing.T, name string) {
		cert, err := h.Certificate(hello(name))
		if err != nil {
			t.Fatal(err)
		}
		if cert == nil {
			return
		}
		if err := cert.Leaf.VerifyHostname(name); err != nil {
			t.Errorf("%q got a certificate that is not for it: %v", name, err)
		}
	})
}

func BenchmarkCertificate(b *testing.B) {
	h := open(b, certs.Options{}, "one.test")
	z := h.zone(b, "one.test")
	h.put(b, leaf{hosts: []string{"one.test", "*.one.test"}}.noun(z, "acme", 0))
	h.put(b, leaf{hosts: []string{"both.one.test"}}.noun(z, "custom", 0), leaf{hosts: []string{"both.one.test"}, key: rsaKey()}.noun(z, "custom", 0))
	h.put(b, proxied(z, "deep.www.one.test"))
	for name, sni := range map[string]string{"wildcard": "www.one.test", "two candidates": "both.one.test", "local": "deep.www.one.test", "unknown": "two.test"} {
		b.Run(name, func(b *testing.B) {
			hi := hello(sni)
			b.ReportAllocs()
			for b.Loop() {
				h.Certificate(hi)
			}
		})
	}
}

// BenchmarkPrepare is one changed zone among 20,000; the metric is what a compiled zone holds.
func BenchmarkPrepare(b *testing.B) {
	var zones []string
	for i := range 20000 {
		zones = append(zones, fmt.Sprintf("zone-%d.test", i))
	}
	snap := producttest.Snapshot(1, zones...)
	shared := leaf{hosts: []string{"shared.test"}}.noun(snap.ZoneByName("zone-0.test"), "acme", 0)
	var changes []spec.Change
	for _, z := range snap.Zones {
		n := *shared
		n.ID, n.ZoneID, n.Hosts = spec.NewID(), z.Zone.ID, []string{z.Zone.Name, "*." + z.Zone.Name}
		changes = append(changes, spec.Change{Key: n.Key(), Noun: &n})
	}
	snap = snap.With(2, changes)
	c := must(certs.New(certs.Options{State: newMemory(snap), Dir: b.TempDir()}))
	before := heap()
	must(c.Prepare(b.Context(), snap)).Commit()
	held := float64(heap()-before) / 20000
	z := snap.ZoneByName("zone-77.test")
	for b.Loop() {
		b.StopTimer()
		r := proxied(z, "www.zone-77.test")
		snap = snap.With(snap.Version+1, []spec.Change{{Key: r.Key(), Noun: r}})
		b.StartTimer()
		must(c.Prepare(b.Context(), snap)).Commit()
	}
	b.ReportMetric(held, "B/zone")
}

func verifyLeaf(leaf *x509.Certificate, roots *x509.CertPool, host string) error {
	_, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots})
	return err
}
