package certs_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"
	"github.com/miekg/dns"

	"selvage/edge"
	"selvage/product"
	"selvage/product/certs"
	"selvage/product/producttest"
	"selvage/spec"
)

// buildPebble builds the ACME server that clients/pebble pins, once for all tests, into Go's build
// cache.
var buildPebble = sync.OnceValues(func() (string, error) {
	cmd := exec.Command("go", "-C", "../../clients/pebble", "tool", "-n", "pebble")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build pebble: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
})

// pebble is a running ACME server.
type pebble struct {
	directory string
	manage    string
	caFile    string // of the server's own certificate
	client    *http.Client
	stop      func()
}

// validator says where pebble finds what it validates.
type validator struct {
	dns         string // address of the DNS server
	http, https int    // ports
	eab         map[string]string
}

func startPebble(t *testing.T, v validator) *pebble {
	t.Helper()
	path, err := buildPebble()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	roots := writeServerCertificate(t, dir)
	p := &pebble{
		caFile: filepath.Join(dir, "cert.pem"),
		client: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: 10 * time.Second},
	}
	t.Cleanup(p.client.CloseIdleConnections)
	listen, manage := freeAddress(t), freeAddress(t)
	p.directory, p.manage = "https://"+listen+"/dir", "https://"+manage
	config := map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": manage,
		"certificate": filepath.Join(dir, "cert.pem"), "privateKey": filepath.Join(dir, "key.pem"),
		"httpPort": v.http, "tlsPort": v.https, "keyAlgorithm": "ecdsa",
		"externalAccountBindingRequired": v.eab != nil, "externalAccountMACKeys": v.eab,
		"retryAfter": map[string]int{"authz": 1, "order": 1},
	}}
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "config.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-config", file, "-dnsserver", v.dns, "-strict")
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0")
	log := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.stop = sync.OnceFunc(func() { cmd.Process.Kill(); cmd.Wait() })
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("pebble said:\n%s", log)
		}
	})
	eventually(t, "pebble answers", func() bool {
		resp, err := p.client.Get(p.directory)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return p
}

// roots returns the authority that pebble issues from.
func (p *pebble) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	resp, err := p.client.Get(p.manage + "/roots/0")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatalf("pebble's root is %q", text)
	}
	return pool
}

func writeServerCertificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "acme server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, text := range map[string][]byte{"cert.pem": cert, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return pool
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// eventually waits for what another process or goroutine brings about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("gave up waiting until %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// front is what the node's DNS and edge are to an ACME server: the records of the state, the phase,
// the TLS configuration.
type front struct {
	dns         string
	http, https int
	lie         atomic.Bool // answer every TXT query wrong
}

func serveFront(t *testing.T, c *atomic.Pointer[certs.Certs], state *memory) *front {
	t.Helper()
	f := &front{}
	f.serveDNS(t, state)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { servePhase(c.Load(), w, r) })
	plain, secure := listen(t), listen(t)
	f.http, f.https = portOf(plain), portOf(secure)
	srv := &http.Server{Handler: handler}
	t.Cleanup(func() { srv.Close() })
	go srv.Serve(plain)
	go srv.Serve(tls.NewListener(secure, &tls.Config{GetConfigForClient: func(hi *tls.ClientHelloInfo) (*tls.Config, error) {
		config := c.Load().TLS()
		if own, err := config.GetConfigForClient(hi); own != nil || err != nil {
			return own, err
		}
		return config, nil
	}}))
	return f
}

func servePhase(c *certs.Certs, w http.ResponseWriter, r *http.Request) {
	host, _, _ := strings.Cut(r.Host, ":")
	ex := &edge.Exchange{Request: edge.Request{Method: r.Method, Host: host, Path: r.URL.Path}}
	err := c.Phase().Handle(r.Context(), ex, func(context.Context, *edge.Exchange) error {
		ex.Respond(404, edge.Header{}, []byte("the origin knows nothing"))
		return nil
	})
	if err != nil {
		http.Error(w, err.Error(), 500)
		return
	}
	defer ex.Response.Close()
	w.WriteHeader(ex.Response.Status)
	io.Copy(w, ex.Response.Body)
}

func (f *front) serveDNS(t *testing.T, state *memory) {
	t.Helper()
	ln := listen(t)
	f.dns = ln.Addr().String()
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		name := strings.ToLower(strings.TrimSuffix(q.Question[0].Name, "."))
		switch q.Question[0].Qtype {
		case dns.TypeA:
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(127, 0, 0, 1)})
		case dns.TypeTXT:
			for _, value := range f.texts(state.Snapshot(), name) {
				m.Answer = append(m.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{value}})
			}
		}
		w.WriteMsg(m)
	})
	srv := &dns.Server{Listener: ln, Handler: handler}
	go srv.ActivateAndServe()
	t.Cleanup(func() { srv.Shutdown() })
}

func (f *front) texts(s *spec.Snapshot, name string) []string {
	var values []string
	for _, z := range s.Zones {
		for _, r := range z.Records {
			if r.Type == "TXT" && r.Name == name {
				values = append(values, strings.Trim(r.Content, `"`))
			}
		}
	}
	if f.lie.Load() {
		return []string{"not what you asked for"}
	}
	return values
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

func portOf(ln net.Listener) int { return ln.Addr().(*net.TCPAddr).Port }

// running is a Certs that orders from an ACME server.
type running struct {
	house
	front *front
	acme  *pebble
	dir   string

	config certs.ACME
	live   *atomic.Pointer[certs.Certs]
	stop   func() // the Certs that runs
}

// run starts everything: state, front, pebble, and a Certs that runs until the test ends.
func run(t *testing.T, v validator, a certs.ACME, zones ...string) *running {
	t.Helper()
	h := open(t, certs.Options{}, zones...) // without ACME: what serves the challenges has to be there first
	live := &atomic.Pointer[certs.Certs]{}
	live.Store(h.Certs)
	f := serveFront(t, live, h.state)
	v.dns = f.dns
	if v.http == 0 {
		v.http = f.http
	}
	if v.https == 0 {
		v.https = f.https
	}
	p := startPebble(t, v)
	a.Directory, a.Email, a.Agree, a.CAFile = p.directory, "ops@example.test", true, p.caFile
	r := &running{house: h, front: f, acme: p, dir: t.TempDir(), config: a, live: live}
	r.restart(t, a)
	return r
}

// restart opens a Certs on the same state and folder and runs it until the test ends, or stop is
// called.
func (r *running) restart(t *testing.T, a certs.ACME) {
	t.Helper()
	c, err := certs.New(certs.Options{State: r.state, Dir: r.dir, ACME: a})
	if err != nil {
		t.Fatal(err)
	}
	r.state.mu.Lock()
	r.state.product = c
	r.state.mu.Unlock()
	r.Certs = c
	r.live.Store(c)
	r.put(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	t.Cleanup(r.stop)
}

// issued waits for the certificate of a pack.
func (r *running) issued(t *testing.T, zone, pack string) *spec.Certificate {
	t.Helper()
	var found *spec.Certificate
	eventually(t, "a certificate is issued for "+zone, func() bool {
		for _, c := range r.zone(t, zone).Certificates {
			if c.PackID == pack {
				found = c
			}
		}
		return found != nil
	})
	return found
}

// verify does a handshake and checks the certificate as a browser would that trusts roots.
func (r *running) verify(t *testing.T, host string, roots *x509.CertPool) *x509.Certificate {
	t.Helper()
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", r.front.https), &tls.Config{ServerName: host, RootCAs: roots})
	if err != nil {
		t.Fatalf("handshake for %s: %v", host, err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

func TestACMEByDNS(t *testing.T) {
	r := run(t, validator{}, certs.ACME{}, "one.test")
	z := r.zone(t, "one.test")
	cert := r.issued(t, "one.test", z.Zone.ID)
	roots := r.acme.roots(t)
	for _, host := range []string{"one.test", "www.one.test", "anything.one.test"} {
		leaf := r.verify(t, host, roots)
		if got := leaf.DNSNames; len(got) != 2 {
			t.Errorf("the certificate for %s has the names %v", host, got)
		}
	}
	if left := r.front.texts(r.state.Snapshot(), "_acme-challenge.one.test"); len(left) != 0 {
		t.Errorf("challenge records are left: %v", left)
	}
	pack := r.zone(t, "one.test").Packs[0]
	life := cert.ExpiresOn.Sub(cert.UploadedOn)
	if pack.RenewOn.Before(cert.UploadedOn.Add(life/3)) || pack.RenewOn.After(cert.ExpiresOn) {
		t.Errorf("renewal is planned on %v for a certificate from %v to %v", pack.RenewOn, cert.UploadedOn, cert.ExpiresOn)
	}

	t.Run("renewal", func(t *testing.T) {
		p := *pack
		p.RenewOn = time.Now().Add(-time.Minute)
		r.put(t, &p)
		eventually(t, "the certificate is renewed", func() bool {
			cs := r.zone(t, "one.test").Certificates
			return len(cs) == 1 && cs[0].ID != cert.ID
		})
		r.verify(t, "one.test", roots)
	})
	t.Run("a restart keeps the account", func(t *testing.T) {
		r.stop()
		r.restart(t, r.config)
		r.put(t, producttest.Snapshot(1, "two.test").ZoneByName("two.test").Zone)
		two := r.zone(t, "two.test").Zone
		r.put(t, &spec.Record{ID: spec.NewID(), ZoneID: two.ID, Name: "two.test", Type: "A", Content: "192.0.2.1", TTL: 1, Proxied: true})
		r.issued(t, "two.test", two.ID)
		keys, err := filepath.Glob(filepath.Join(r.dir, "acme", "*.pem"))
		if err != nil || len(keys) != 1 {
			t.Fatalf("account keys: %v, %v", keys, err)
		}
		if info, err := os.Stat(keys[0]); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the account key is %v, %v", info.Mode(), err)
		}
	})
	t.Run("switching Universal SSL off takes the certificate away", func(t *testing.T) {
		call(t, r.house, "PATCH", "/zones/{zone_id}/ssl/universal/settings", "one.test", `{"enabled":false}`)
		if n := len(r.zone(t, "one.test").Certificates); n != 0 {
			t.Errorf("%d certificates are left", n)
		}
		r.verify(t, "one.test", localRoots(t, r.dir))
	})
}

func TestACMEByHTTP(t *testing.T) {
	r := run(t, validator{}, certs.ACME{}, "one.test")
	id := order(t, r.house, "one.test", `["one.test","www.one.test"]`, "http")
	cert := r.issued(t, "one.test", id)
	if got := strings.Join(cert.Hosts, " "); got != "one.test www.one.test" {
		t.Errorf("hosts = %s", got)
	}
	leaf := r.verify(t, "www.one.test", r.acme.roots(t))
	if err := leaf.VerifyHostname("other.one.test"); err == nil {
		t.Error("www.one.test got a wildcard: exact names go first")
	}
}

func TestACMEByALPN(t *testing.T) {
	closed, port := freeAddress(t), 0
	fmt.Sscanf(closed, "127.0.0.1:%d", &port)
	r := run(t, validator{http: port}, certs.ACME{}, "one.test")
	id := order(t, r.house, "one.test", `["www.one.test"]`, "http")
	r.issued(t, "one.test", id)
	r.verify(t, "www.one.test", r.acme.roots(t))
}

func TestACMEExternalAccount(t *testing.T) {
	const id, mac = "kid-1", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	r := run(t, validator{eab: map[string]string{id: mac}}, certs.ACME{EABKeyID: id, EABMACKey: mac}, "one.test")
	r.issued(t, "one.test", r.zone(t, "one.test").Zone.ID)
}

func TestACMEWrongChallenge(t *testing.T) {
	r := run(t, validator{}, certs.ACME{}, "one.test")
	r.front.lie.Store(true)
	id := order(t, r.house, "one.test", `["a.one.test"]`, "txt")
	eventually(t, "the failure can be read", func() bool {
		for _, p := range r.zone(t, "one.test").Packs {
			if p.ID == id && p.Failures > 0 {
				return strings.Contains(p.LastError, "a.one.test") && p.NextTry.After(time.Now().Add(3*time.Minute)) && p.NextTry.Before(time.Now().Add(8*time.Minute))
			}
		}
		return false
	})
	r.verify(t, "b.one.test", localRoots(t, r.dir))
	got := call(t, r.house, "GET", "/zones/{zone_id}/ssl/certificate_packs/"+id, "one.test", "")
	if !strings.Contains(got, `"status":"pending_validation"`) || !strings.Contains(got, "next try") {
		t.Errorf("pack = %s", got)
	}

	r.front.lie.Store(false)
	call(t, r.house, "PATCH", "/zones/{zone_id}/ssl/certificate_packs/"+id, "one.test", "{}")
	r.issued(t, "one.test", id)
}

func TestACMEServerAway(t *testing.T) {
	r := run(t, validator{}, certs.ACME{}, "one.test")
	r.issued(t, "one.test", r.zone(t, "one.test").Zone.ID)
	r.acme.stop()
	id := order(t, r.house, "one.test", `["deep.www.one.test"]`, "txt")
	eventually(t, "the failure can be read", func() bool {
		for _, p := range r.zone(t, "one.test").Packs {
			if p.ID == id && p.LastError != "" {
				return p.Failures == 0 && strings.Contains(p.LastError, "cannot be reached")
			}
		}
		return false
	})
	if got := r.names(t, hello("www.one.test")); len(got) != 2 {
		t.Errorf("while the server is away www.one.test gets %v", got)
	}
}

// order posts an order and returns its ID.
func order(t *testing.T, h house, zone, hosts, method string) string {
	t.Helper()
	got := call(t, h, "POST", "/zones/{zone_id}/ssl/certificate_packs/order", zone,
		`{"type":"advanced","hosts":`+hosts+`,"validation_method":"`+method+`","validity_days":90,"certificate_authority":"lets_encrypt"}`)
	var v struct{ ID string }
	if err := json.Unmarshal([]byte(got), &v); err != nil || v.ID == "" {
		t.Fatalf("order = %s", got)
	}
	return v.ID
}

func localRoots(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return pool
}

// call calls a route as the API would and returns the result in JSON.
func call(t *testing.T, h house, method, path, zone, body string) string {
	t.Helper()
	reply, err := try(h, method, path, zone, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	text, err := json.Marshal(reply.Result)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// try is call for what may fail. path may hold values in the place of names.
func try(h house, method, path, zone, body string) (product.Reply, error) {
	path, query, _ := strings.Cut(path, "?")
	for _, r := range h.Routes() {
		params, ok := match(r.Path, path)
		if r.Method != method || !ok {
			continue
		}
		c := &product.Call{Actor: spec.Actor{Via: "api"}, Params: params, Query: parseQuery(query), Body: strings.NewReader(body),
			Allowed: func(product.Permission, string, string) bool { return true }}
		if strings.Contains(r.Path, "{zone_id}") {
			c.Zone = h.state.Snapshot().ZoneByName(zone)
		}
		return r.Handle(context.Background(), c)
	}
	return product.Reply{}, fmt.Errorf("no route %s %s", method, path)
}

// A zone whose delegation does not reach us is validated by HTTP in the second try, and a zone that
// is not ours to answer for in the first.
func TestUniversalByHTTP(t *testing.T) {
	r := run(t, validator{}, certs.ACME{}, "one.test")
	partial := *r.zone(t, "one.test").Zone
	partial.ID, partial.Name, partial.Type = spec.NewID(), "partial.test", "partial"
	r.front.lie.Store(true)
	r.put(t, &partial, &spec.Record{ID: spec.NewID(), ZoneID: partial.ID, Name: "shop.partial.test", Type: "A", Content: "192.0.2.1", TTL: 1, Proxied: true})
	if got := r.issued(t, "partial.test", partial.ID).Hosts; strings.Join(got, " ") != "shop.partial.test" {
		t.Errorf("the partial zone's certificate is for %v", got)
	}
	id := r.zone(t, "one.test").Zone.ID
	eventually(t, "the first try failed", func() bool {
		packs := r.zone(t, "one.test").Packs
		return len(packs) == 1 && packs[0].Failures == 1
	})
	call(t, r.house, "PATCH", "/zones/{zone_id}/ssl/certificate_packs/"+id, "one.test", "{}")
	if got := r.issued(t, "one.test", id).Hosts; strings.Join(got, " ") != "one.test www.one.test" {
		t.Errorf("the second try's certificate is for %v", got)
	}
	r.verify(t, "www.one.test", r.acme.roots(t))
}

func TestBackoff(t *testing.T) {
	limited := fmt.Errorf("order: %w", acme.Problem{Type: acme.ProblemTypeRateLimited})
	for _, test := range []struct {
		failures int
		cause    error
		want     time.Duration
	}{
		{1, nil, 5 * time.Minute}, {2, nil, 10 * time.Minute}, {5, nil, 80 * time.Minute},
		{1, limited, time.Hour}, {9, nil, 1280 * time.Minute}, {10, nil, 24 * time.Hour}, {1000, nil, 24 * time.Hour},
	} {
		for range 100 {
			got := certs.Backoff(test.failures, test.cause)
			if got < test.want*3/4 || got > test.want*5/4 {
				t.Fatalf("after %d failures (%v) a pack waits %v, want %v give or take a quarter", test.failures, test.cause, got, test.want)
			}
		}
	}
}

// A server that wants certificates back at once, as before a mass revocation, gets its way; one that
// answers with nonsense does not.
func TestRenewalInformation(t *testing.T) {
	r := run(t, validator{}, certs.ACME{}, "one.test")
	id := r.zone(t, "one.test").Zone.ID
	cert := r.issued(t, "one.test", id)
	planned := r.zone(t, "one.test").Packs[0].RenewOn
	want := func(answer string) {
		t.Helper()
		body := must(json.Marshal(map[string]string{"Certificate": cert.Chain, "ARIResponse": answer}))
		resp, err := r.acme.client.Post(r.acme.manage+"/set-renewal-info/", "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("set-renewal-info answers %s", resp.Status)
		}
		r.AskNow(cert.ID)
	}
	want("nonsense")
	window := func(from, to time.Duration) string {
		return fmt.Sprintf(`{"suggestedWindow":{"start":%q,"end":%q}}`, time.Now().Add(from).UTC().Format(time.RFC3339), time.Now().Add(to).UTC().Format(time.RFC3339))
	}
	want(window(24*time.Hour, 48*time.Hour))
	eventually(t, "the renewal is brought forward", func() bool {
		p := r.zone(t, "one.test").Packs[0]
		return p.RenewOn.Before(time.Now().Add(48*time.Hour)) && p.RenewOn.Before(planned)
	})
	if got := r.zone(t, "one.test").Certificates[0].ID; got != cert.ID {
		t.Error("the certificate was renewed before its time")
	}
	want(window(-2*time.Hour, -time.Hour))
	eventually(t, "the certificate is renewed", func() bool {
		cs := r.zone(t, "one.test").Certificates
		return len(cs) == 1 && cs[0].ID != cert.ID
	})
}
