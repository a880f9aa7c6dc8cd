package certs_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"iter"
	"maps"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"selvage/product"
	"selvage/product/certs"
	"selvage/product/producttest"
	"selvage/spec"
)

// memory is a State without a disk that rolls every change out to one product.
type memory struct {
	snap    atomic.Pointer[spec.Snapshot]
	mu      sync.Mutex // held during updates
	product product.Product
}

func newMemory(snap *spec.Snapshot) *memory {
	m := &memory{}
	m.snap.Store(snap)
	return m
}

func (m *memory) Snapshot() *spec.Snapshot { return m.snap.Load() }

func (m *memory) Update(ctx context.Context, _ spec.Actor, fn func(tx product.Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	tx := &memoryTx{snap: m.Snapshot()}
	if err := fn(tx); err != nil {
		return err
	}
	next := tx.snap.With(tx.snap.Version+1, tx.changes)
	m.snap.Store(next)
	if m.product == nil {
		return nil
	}
	c, err := m.product.Prepare(ctx, next)
	if err != nil {
		return err
	}
	c.Commit()
	return nil
}

type memoryTx struct {
	snap    *spec.Snapshot
	changes []spec.Change
}

func (t *memoryTx) Snapshot() *spec.Snapshot { return t.snap }

func (t *memoryTx) Get(key spec.Key) (spec.Noun, error) {
	z := t.snap.Zones[key.Scope]
	if z == nil {
		return nil, nil
	}
	for _, p := range z.Packs {
		if p.Key() == key {
			return p, nil
		}
	}
	return nil, nil
}

func (t *memoryTx) List(spec.Kind, string) iter.Seq2[spec.Noun, error] {
	return func(func(spec.Noun, error) bool) {}
}

func (t *memoryTx) Put(n spec.Noun) error {
	if err := n.Key(); err == (spec.Key{}) {
		panic("noun without a key")
	}
	if v, ok := n.(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			return err
		}
	}
	t.changes = append(t.changes, spec.Change{Key: n.Key(), Noun: n})
	return nil
}

func (t *memoryTx) Delete(key spec.Key) error {
	t.changes = append(t.changes, spec.Change{Key: key})
	return nil
}

// house is a Certs with its State.
type house struct {
	*certs.Certs
	state *memory
}

func open(t testing.TB, o certs.Options, zones ...string) house {
	t.Helper()
	state := newMemory(producttest.Snapshot(1, zones...))
	o.State = state
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	c, err := certs.New(o)
	if err != nil {
		t.Fatal(err)
	}
	h := house{c, state}
	state.product = c
	h.put(t)
	return h
}

// put stores nouns and rolls them out.
func (h house) put(t testing.TB, nouns ...spec.Noun) {
	t.Helper()
	err := h.state.Update(t.Context(), spec.Actor{}, func(tx product.Tx) error {
		for _, n := range nouns {
			if err := tx.Put(n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (h house) zone(t testing.TB, name string) *spec.ZoneConfig {
	t.Helper()
	z := h.state.Snapshot().ZoneByName(name)
	if z == nil {
		t.Fatalf("no zone %s", name)
	}
	return z
}

// roots returns a pool with the local CA.
func (h house) roots(t testing.TB) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(h.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return pool
}

// hello is what a modern client says.
func hello(name string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName:        name,
		SupportedVersions: []uint16{tls.VersionTLS13, tls.VersionTLS12},
		SignatureSchemes:  []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256, tls.PKCS1WithSHA256},
		CipherSuites:      []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		SupportedCurves:   []tls.CurveID{tls.X25519, tls.CurveP256},
		SupportedPoints:   []uint8{0},
		SupportedProtos:   []string{"h2", "http/1.1"},
	}
}

// names returns the names of what a handshake gets, nil if nothing.
func (h house) names(t testing.TB, hi *tls.ClientHelloInfo) []string {
	t.Helper()
	cert, err := h.Certificate(hi)
	if err != nil {
		t.Fatal(err)
	}
	if cert == nil {
		return nil
	}
	return cert.Leaf.DNSNames
}

func TestContract(t *testing.T) {
	producttest.Run(t, func(t *testing.T) product.Product {
		return open(t, certs.Options{}).Certs
	})
}

func TestRoutesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range open(t, certs.Options{}).Routes() {
		if k := r.Method + " " + r.Path; seen[k] {
			t.Errorf("%s stands there twice", k)
		} else {
			seen[k] = true
		}
	}
	if len(seen) == 0 {
		t.Error("no routes")
	}
	_ = slices.Sorted(maps.Keys(seen))
}

// match tells whether path fits a route's pattern, and returns what stands in the place of names.
func match(pattern, path string) (map[string]string, bool) {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return nil, false
	}
	params := map[string]string{}
	for i := range want {
		if strings.HasPrefix(want[i], "{") {
			params[strings.Trim(want[i], "{}")] = got[i]
		} else if want[i] != got[i] {
			return nil, false
		}
	}
	return params, true
}

func parseQuery(s string) url.Values {
	q, err := url.ParseQuery(s)
	if err != nil {
		panic(err)
	}
	return q
}

// delete removes a noun and rolls that out.
func (h house) delete(t testing.TB, key spec.Key) {
	t.Helper()
	err := h.state.Update(t.Context(), spec.Actor{}, func(tx product.Tx) error { return tx.Delete(key) })
	if err != nil {
		t.Fatal(err)
	}
}

// heap returns the bytes in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
