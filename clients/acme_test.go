package clients

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudflare/cloudflare-go/v6"
	"github.com/cloudflare/cloudflare-go/v6/custom_certificates"
	"github.com/cloudflare/cloudflare-go/v6/option"
	"github.com/cloudflare/cloudflare-go/v6/origin_ca_certificates"
	"github.com/cloudflare/cloudflare-go/v6/shared"
	"github.com/cloudflare/cloudflare-go/v6/ssl"
)

// TestACME has a whole node get certificates from Pebble, Let's Encrypt's test server, which asks
// the node's own DNS and connects to the node's own listeners.
func TestACME(t *testing.T) {
	dir := t.TempDir()
	address := "127.0.0.1:" + freePort(t)
	serverCertificate(t, dir)
	n := startNode(t, "--acme-directory", "https://"+address+"/dir", "--acme-email", "ops@site.test", "--acme-agree", "--acme-ca-file", filepath.Join(dir, "cert.pem"))
	roots := startPebble(t, n, dir, address)
	zone := n.addSite(t, "site.test", origin(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "here") })))

	// Universal SSL: DNS-01, with a wildcard.
	curlTrusting(t, n, roots, "www.site.test")
	if got := run(t, nil, "openssl", "s_client", "-connect", "127.0.0.1:"+port(t, n.HTTPS), "-servername", "anything.site.test",
		"-verify_return_error", "-verify_hostname", "anything.site.test", "-CAfile", roots, "-brief"); !strings.Contains(got, "Verification: OK") {
		t.Errorf("openssl says:\n%s", got)
	}
	host, dnsPort, _ := net.SplitHostPort(n.DNS)
	if left := run(t, nil, "dig", "@"+host, "-p", dnsPort, "+short", "TXT", "_acme-challenge.site.test"); strings.TrimSpace(left) != "" {
		t.Errorf("challenge records are left: %s", left)
	}

	// An order of one's own by the SDK: HTTP-01 or TLS-ALPN-01, two levels below.
	n.call(t, "POST", "/zones/"+zone+"/dns_records", map[string]any{"type": "A", "name": "a.deep.site.test", "content": "127.0.0.1", "proxied": true, "ttl": 1})
	client := cloudflare.NewClient(option.WithBaseURL(n.API), option.WithAPIToken(n.Token))
	pack, err := client.SSL.CertificatePacks.New(t.Context(), ssl.CertificatePackNewParams{
		ZoneID: cloudflare.F(zone), Type: cloudflare.F(ssl.CertificatePackNewParamsTypeAdvanced), Hosts: cloudflare.F([]ssl.HostParam{"a.deep.site.test"}),
		ValidationMethod: cloudflare.F(ssl.CertificatePackNewParamsValidationMethodHTTP), ValidityDays: cloudflare.F(ssl.CertificatePackNewParamsValidityDays90),
		CertificateAuthority: cloudflare.F(ssl.CertificatePackNewParamsCertificateAuthorityLetsEncrypt),
	})
	if err != nil {
		t.Fatal(err)
	}
	curlTrusting(t, n, roots, "a.deep.site.test")
	got, err := client.SSL.CertificatePacks.Get(t.Context(), pack.ID, ssl.CertificatePackGetParams{ZoneID: cloudflare.F(zone)})
	if err != nil || got.Status != ssl.StatusActive || len(got.Certificates) != 1 {
		t.Errorf("the pack is %+v, %v", got, err)
	}
	if _, err := client.SSL.CertificatePacks.Delete(t.Context(), pack.ID, ssl.CertificatePackDeleteParams{ZoneID: cloudflare.F(zone)}); err != nil {
		t.Error(err)
	}
	setting, err := client.SSL.Universal.Settings.Edit(t.Context(), ssl.UniversalSettingEditParams{ZoneID: cloudflare.F(zone), UniversalSSLSettings: ssl.UniversalSSLSettingsParam{Enabled: cloudflare.F(false)}})
	if err != nil || setting.Enabled {
		t.Errorf("Universal SSL off: %+v, %v", setting, err)
	}
	if text := n.curl(t, n.HTTPS, "www.site.test", "/"); text != "here" {
		t.Errorf("with the local CA again: %q", text)
	}
}

// curlTrusting fetches from host until the certificate is one that roots vouch for.
func curlTrusting(t *testing.T, n *node, roots, host string) {
	t.Helper()
	p := port(t, n.HTTPS)
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		out, err := try(t, nil, "curl", "-sS", "--max-time", "20", "--cacert", roots, "--resolve", host+":"+p+":127.0.0.1", "https://"+host+":"+p+"/")
		if err == nil && out == "here" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has no certificate of the ACME server: %v\n%s\nthe node said:\n%s", host, err, out, n.log)
		}
	}
}

// startPebble builds and runs the pinned Pebble and returns the file of the root it issues from.
func startPebble(t *testing.T, n *node, dir, address string) string {
	t.Helper()
	program := strings.TrimSpace(run(t, nil, "go", "-C", "pebble", "tool", "-n", "pebble"))
	httpPort, _ := strconv.Atoi(port(t, n.HTTP))
	tlsPort, _ := strconv.Atoi(port(t, n.HTTPS))
	manage := "127.0.0.1:" + freePort(t)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": address, "managementListenAddress": manage, "certificate": filepath.Join(dir, "cert.pem"), "privateKey": filepath.Join(dir, "key.pem"),
		"httpPort": httpPort, "tlsPort": tlsPort, "keyAlgorithm": "ecdsa", "retryAfter": map[string]int{"authz": 1, "order": 1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-strict", "-config", file, "-dnsserver", n.DNS)
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0")
	start(t, cmd, address)
	roots := filepath.Join(dir, "roots.pem")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		_, err := try(t, nil, "curl", "-sS", "--cacert", filepath.Join(dir, "cert.pem"), "-o", roots, "https://"+manage+"/roots/0")
		if err == nil {
			return roots
		}
		if time.Now().After(deadline) {
			t.Fatal("pebble does not give its root")
		}
	}
}

// serverCertificate writes a certificate for loopback, cert.pem and key.pem, that vouches for itself.
func serverCertificate(t *testing.T, dir string) {
	t.Helper()
	key, cert := selfSigned(t, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "acme server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	for name, text := range map[string]string{"cert.pem": cert, "key.pem": key} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// selfSigned returns the key and the certificate in PEM.
func selfSigned(t *testing.T, template *x509.Certificate) (key, cert string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// TestCustomCertificates uploads and prefers certificates with Cloudflare's Go SDK.
func TestCustomCertificates(t *testing.T) {
	n := startNode(t)
	zone := n.addSite(t, "site.test", origin(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "here") })))
	client := cloudflare.NewClient(option.WithBaseURL(n.API), option.WithAPIToken(n.Token))
	upload := func(hosts ...string) (*custom_certificates.CustomCertificate, string) {
		key, cert := selfSigned(t, &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "mine", Organization: []string{"Mine"}}, DNSNames: hosts,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
		c, err := client.CustomCertificates.New(t.Context(), custom_certificates.CustomCertificateNewParams{
			ZoneID: cloudflare.F(zone), Certificate: cloudflare.F(cert), PrivateKey: cloudflare.F(key), Type: cloudflare.F(custom_certificates.CustomCertificateNewParamsTypeSNICustom),
		})
		if err != nil {
			t.Fatal(err)
		}
		return c, cert
	}
	first, cert := upload("www.site.test")
	if first.Status != custom_certificates.CustomCertificateStatusActive || first.Issuer != "Mine" || first.Signature != "ECDSAWithSHA256" || first.ExpiresOn.IsZero() {
		t.Errorf("uploaded %+v", first)
	}
	served := func() string {
		conn, err := tls.Dial("tcp", "127.0.0.1:"+port(t, n.HTTPS), &tls.Config{ServerName: "www.site.test", InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: conn.ConnectionState().PeerCertificates[0].Raw}))
	}
	if served() != cert {
		t.Error("the upload is not served")
	}
	second, cert2 := upload("www.site.test")
	if _, err := client.CustomCertificates.Prioritize.Update(t.Context(), custom_certificates.PrioritizeUpdateParams{
		ZoneID: cloudflare.F(zone), Certificates: cloudflare.F([]custom_certificates.PrioritizeUpdateParamsCertificate{{ID: cloudflare.F(second.ID), Priority: cloudflare.F(5.0)}}),
	}); err != nil {
		t.Fatal(err)
	}
	if served() != cert2 {
		t.Error("the preferred upload is not served")
	}
	count := 0
	pages := client.CustomCertificates.ListAutoPaging(t.Context(), custom_certificates.CustomCertificateListParams{ZoneID: cloudflare.F(zone), PerPage: cloudflare.F(1.0)})
	for pages.Next() {
		count++
	}
	if pages.Err() != nil || count != 2 {
		t.Errorf("%d uploads are listed, %v", count, pages.Err())
	}
	for _, c := range []*custom_certificates.CustomCertificate{first, second} {
		if _, err := client.CustomCertificates.Delete(t.Context(), c.ID, custom_certificates.CustomCertificateDeleteParams{ZoneID: cloudflare.F(zone)}); err != nil {
			t.Error(err)
		}
	}
	if text := n.curl(t, n.HTTPS, "www.site.test", "/"); text != "here" {
		t.Errorf("with the local CA again: %q", text)
	}
}

// TestOriginCA protects the way to an origin with a certificate of the node's origin CA, in the
// mode strict, and revokes it.
func TestOriginCA(t *testing.T) {
	n := startNode(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var served tls.Certificate
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &served, nil }})
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close") // so that every request is a handshake
		io.WriteString(w, "here")
	})}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	zone := n.addSite(t, "site.test", ln.Addr().(*net.TCPAddr).Port)
	n.call(t, "PATCH", "/zones/"+zone+"/settings/ssl", map[string]any{"value": "strict"})

	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "origin"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	client := cloudflare.NewClient(option.WithBaseURL(n.API), option.WithAPIToken(n.Token))
	made, err := client.OriginCACertificates.New(t.Context(), origin_ca_certificates.OriginCACertificateNewParams{
		Csr:         cloudflare.F(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}))),
		Hostnames:   cloudflare.F([]string{"site.test", "*.site.test"}),
		RequestType: cloudflare.F(shared.CertificateRequestTypeOriginECC), RequestedValidity: cloudflare.F(ssl.RequestValidity5475),
	})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(made.Certificate))
	served = tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}
	if got := n.curl(t, n.HTTPS, "www.site.test", "/"); got != "here" {
		t.Fatalf("strict to an origin with our certificate: %q", got)
	}
	list, err := client.OriginCACertificates.List(t.Context(), origin_ca_certificates.OriginCACertificateListParams{ZoneID: cloudflare.F(zone)})
	if err != nil || len(list.Result) != 1 || list.Result[0].ID != made.ID {
		t.Errorf("listed %+v, %v", list, err)
	}
	if _, err := client.OriginCACertificates.Delete(t.Context(), made.ID); err != nil {
		t.Fatal(err)
	}
	if got := n.curl(t, n.HTTPS, "www.site.test", "/", "-o", "/dev/null", "-w", "%{http_code}"); got != "526" {
		t.Errorf("with a revoked certificate the origin is answered with %s, want 526", got)
	}
}
