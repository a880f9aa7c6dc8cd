package hyperdrive_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"selvage/product"
	"selvage/product/hyperdrive"
	"selvage/product/hyperdrive/pgtest"
	"selvage/product/producttest"
	"selvage/spec"
)

func TestProduct(t *testing.T) {
	producttest.Run(t, func(t *testing.T) product.Product {
		p, err := hyperdrive.New(hyperdrive.Options{})
		must(t, err)
		return p
	})
}

func TestConfigs(t *testing.T) {
	pg := pgtest.Start(t)
	d := newDesk(t, hyperdrive.Options{})
	a := d.config("one", pg.Port, "")
	const path = "A/hyperdrive/configs"
	origin := fmt.Sprintf(`{"scheme":"postgres","host":"127.0.0.1","port":%d,"database":"postgres","user":"owner","password":%q}`, pg.Port, pgtest.Password)
	with := func(old, other string) string { return strings.Replace(origin, old, other, 1) }
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	closed.Close()
	_, free, _ := net.SplitHostPort(closed.Addr().String())
	for _, c := range []struct {
		method, path, body string
		status, code       int
		says               string
	}{
		{"POST", path, `{"name":"one","origin":` + origin + `}`, 0, 2017, "already"},
		{"POST", path, `{"name":"","origin":` + origin + `}`, 400, 2007, "name"},
		{"POST", path, `{"name":"x","origin":` + with(`"password"`, `"pass"`) + `}`, 400, 0, "origin.pass"},
		{"POST", path, `{"name":"x","origin":` + with(pgtest.Password, "wrong") + `}`, 400, 2013, "credentials"},
		{"POST", path, `{"name":"x","origin":` + with(`"database":"postgres"`, `"database":"nowhere"`) + `}`, 400, 2014, "does not exist"},
		{"POST", path, `{"name":"x","origin":` + with(fmt.Sprint(pg.Port), free) + `}`, 400, 2011, "refuses connections"},
		{"POST", path, `{"name":"x","origin":` + with("127.0.0.1", "no.such.host.invalid") + `}`, 400, 2008, "does not resolve"},
		{"POST", path, `{"name":"x","origin":` + with("postgres\"", "oracle\"") + `}`, 400, 2007, "scheme"},
		{"POST", path, `{"name":"x","origin":` + strings.Replace(with("postgres\"", "mysql\""), fmt.Sprint(pg.Port), free, 1) + `}`, 400, 2011, "refuses connections"},
		{"POST", path, `{"name":"x","mtls":{"sslmode":"require"},"origin":` + origin + `}`, 400, 2012, "TLS"},
		{"POST", path, `{"name":"x","mtls":{"sslmode":"REQUIRED"},"origin":` + origin + `}`, 400, 2007, "sslmode"},
		{"POST", path, `{"name":"x","mtls":{"ca_certificate_id":"x"},"origin":` + origin + `}`, 0, 0, "ca_certificate_id"},
		{"POST", path, `{"name":"x","origin":{"scheme":"postgres","host":"h","database":"d","user":"u","password":"p","access_client_id":"x","access_client_secret":"y"}}`, 0, 0, "Access"},
		{"POST", path, `{"name":"x","origin_connection_limit":4,"origin":` + origin + `}`, 400, 2007, "origin_connection_limit"},
		{"POST", path, `{"name":"x","caching":{"max_age":3601},"origin":` + origin + `}`, 400, 2007, "max_age"},
		{"GET", path + "/" + strings.Repeat("0", 32), "", 404, 2006, "no Hyperdrive configuration"},
		{"PATCH", path + "/" + a.ID, `{"origin":{"password":"wrong"}}`, 400, 2013, "credentials"},
		{"PUT", path + "/" + a.ID, `{"name":"one"}`, 400, 2007, "scheme"},
	} {
		g := d.call(c.method, c.path, c.body)
		if g.Success || c.status != 0 && g.Status != c.status || c.code != 0 && g.Errors[0].Code != c.code || !strings.Contains(g.Body, c.says) {
			t.Errorf("%s %s %s\n= %d %s; want %d, code %d, %q", c.method, c.path, c.body, g.Status, g.Body, c.status, c.code, c.says)
		}
	}
	shown := d.call("GET", path+"/"+a.ID, "").Body + d.call("GET", path, "").Body
	if strings.Contains(shown, "password") || strings.Contains(shown, "sécret") || strings.Contains(shown, "sealed") || strings.Contains(shown, "access\"") {
		t.Errorf("secrets are shown: %s", shown)
	}
	d.ok("PATCH", path+"/"+a.ID, `{"name":"two","caching":{"max_age":7}}`, nil)
	if g := d.call("GET", path+"/"+a.ID, ""); !strings.Contains(g.Body, `"name":"two"`) || !strings.Contains(g.Body, `"max_age":7,"stale_while_revalidate":15`) {
		t.Errorf("after PATCH: %s", g.Body)
	}
	d.ok("PUT", path+"/"+a.ID, `{"name":"three","origin":`+origin+`,"origin_connection_limit":7}`, nil)
	c := a.connect("")
	one(t, c, "SELECT 'x'")
	before := a.password
	d.ok("POST", "A/selvage/hyperdrive/configs/"+a.ID+"/credentials", "", nil)
	if _, err := pgx.Connect(t.Context(), a.dsn("")); err == nil {
		t.Errorf("the old password %s still works", before)
	}
	d.ok("DELETE", path+"/"+a.ID, "", nil)
	if _, err := ask(c, "SELECT 'y'"); err == nil {
		t.Error("a deleted configuration still works")
	}
}

// TestStrangers: a password opens its own configuration only.
func TestStrangers(t *testing.T) {
	pg := pgtest.Start(t)
	d := newDesk(t, hyperdrive.Options{})
	a, b := d.config("a", pg.Port, ""), d.config("b", pg.Port, "")
	for _, c := range []*account{{d: d, ID: a.ID, password: b.password}, {d: d, ID: b.ID, password: a.password}, {d: d, ID: strings.Repeat("0", 32), password: a.password}, {d: d, ID: "a", password: a.password}, {d: d, ID: a.ID, password: ""}} {
		if conn, err := pgx.Connect(t.Context(), c.dsn("")); err == nil {
			conn.Close(t.Context())
			t.Errorf("%s got in with %q", c.ID, c.password)
		}
	}
	// A script of another account cannot bind to it.
	for _, kind := range d.hd.Bindings() {
		binding := &spec.WorkerBinding{Name: "DB", Type: "hyperdrive", Extra: []byte(`{"id":"` + a.ID + `"}`)}
		if err := kind.Check(t.Context(), d.owner.AccountID, binding); err != nil {
			t.Errorf("its own account cannot bind: %v", err)
		}
		if err := kind.Check(t.Context(), strings.Repeat("b", 32), binding); err == nil {
			t.Error("another account can bind")
		}
		own := kind.Login(product.BindingUser{AccountID: d.owner.AccountID, Script: "s"}, binding)
		for _, other := range []product.BindingUser{{AccountID: d.owner.AccountID, Script: "t"}, {AccountID: strings.Repeat("b", 32), Script: "s"}} {
			if kind.Login(other, binding).Password == own.Password {
				t.Errorf("%v has the same password", other)
			}
		}
	}
}

// TestForbidden: addresses that the operator keeps closed are not dialled.
func TestForbidden(t *testing.T) {
	pg := pgtest.Start(t)
	open := true
	d := newDesk(t, hyperdrive.Options{Permit: func(account string, a netip.AddrPort) error {
		if open && account != "" {
			return nil
		}
		return errors.New("closed")
	}})
	d.config("one", pg.Port, "")
	open = false
	for _, host := range []string{"127.0.0.1", "localhost", "::1"} {
		g := d.call("POST", "A/hyperdrive/configs", fmt.Sprintf(`{"name":"x","origin":{"scheme":"postgres","host":%q,"port":%d,"database":"postgres","user":"owner","password":"x"}}`, host, pg.Port))
		if g.Success || g.Errors[0].Code != 2009 {
			t.Errorf("%s: %s", host, g.Body)
		}
	}
}

// certificate writes a key and a certificate for a name, signed by itself, where PostgreSQL may read
// them, and returns the pool that trusts it.
func certificate(t *testing.T, dir, name string) *x509.CertPool {
	t.Helper()
	cert, key := selfSigned(t, name)
	must(t, os.WriteFile(filepath.Join(dir, "server.crt"), []byte(cert), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "server.key"), []byte(key), 0o600))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(cert))
	return pool
}

// selfSigned makes a certificate for a name, which may sign others, and its key, both as PEM.
func selfSigned(t *testing.T, name string) (certificate, private string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	must(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

func TestTLSAndPasswords(t *testing.T) {
	pg := pgtest.Start(t)
	pool := certificate(t, pg.Data(), "localhost")
	pg.Own("server.crt", "server.key")
	pg.Configure("ssl=on", "password_encryption=md5")
	direct, err := pgx.Connect(t.Context(), pg.URL())
	must(t, err)
	for name, how := range map[string]string{"by_md5": "md5", "by_scram": "scram-sha-256", "by_plain": "md5"} {
		run(t, direct, "SET password_encryption = '"+how+"'")
		run(t, direct, "CREATE ROLE "+name+" LOGIN PASSWORD 'the password'")
	}
	direct.Close(context.Background())
	pg.Access("hostssl all by_md5 all md5", "hostssl all by_scram all scram-sha-256", "hostssl all by_plain all password", "host all owner all scram-sha-256")
	for _, c := range []struct {
		user, host, mode string
		trusted          bool
		code             int // 0: it works
	}{
		{"by_md5", "localhost", "require", false, 0},
		{"by_scram", "localhost", "verify-full", true, 0},
		{"by_plain", "localhost", "verify-full", true, 0},
		{"by_scram", "localhost", "", false, 0},
		{"by_scram", "127.0.0.1", "verify-ca", true, 0},
		{"by_scram", "127.0.0.1", "verify-full", true, 2012},
		{"by_scram", "localhost", "verify-full", false, 2012},
		{"by_scram", "localhost", "verify-ca", false, 2012},
		{"by_scram", "localhost", "disable", false, 2013}, // pg_hba.conf wants TLS
	} {
		o := hyperdrive.Options{Roots: x509.NewCertPool()}
		if c.trusted {
			o.Roots = pool
		}
		d := newDesk(t, o)
		mtls := ""
		if c.mode != "" {
			mtls = `"mtls":{"sslmode":"` + c.mode + `"},`
		}
		g := d.call("POST", "A/hyperdrive/configs", fmt.Sprintf(`{"name":"x",%s"origin":{"scheme":"postgresql","host":%q,"port":%d,"database":"postgres","user":%q,"password":"the password"}}`, mtls, c.host, pg.Port, c.user))
		if g.Success != (c.code == 0) || !g.Success && g.Errors[0].Code != c.code {
			t.Errorf("%+v: %s", c, g.Body)
		}
	}
}
