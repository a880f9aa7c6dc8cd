package certs_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/certs"
	"selvage/spec"
)

const customPath = "/zones/{zone_id}/custom_certificates"

// body returns an upload in JSON, with more fields if extra is not empty.
func body(chain, key, extra string) string {
	return fmt.Sprintf(`{"certificate":%s,"private_key":%s%s}`, must(json.Marshal(chain)), must(json.Marshal(key)), extra)
}

// issuedChain returns leaf and intermediate in that order, the leaf's key, and the root.
func issuedChain(hosts ...string) (leafPEM, middlePEM, key string) {
	ca := func(name string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name, Organization: []string{"Test Trust"}},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	}
	rootKey, middleKey := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	root, middle := ca("root"), ca("middle")
	middleDER := must(x509.CreateCertificate(rand.Reader, middle, root, &middleKey.PublicKey, rootKey))
	template := &x509.Certificate{SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: hosts[0]}, DNSNames: hosts, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der := must(x509.CreateCertificate(rand.Reader, template, middle, ecKey().Public(), middleKey))
	return pemOf("CERTIFICATE", der), pemOf("CERTIFICATE", middleDER), pemOf("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(ecKey())))
}

func TestUpload(t *testing.T) {
	chain, key := leaf{hosts: []string{"one.test", "www.one.test"}}.make()
	rsaChain, rsaText := leaf{hosts: []string{"one.test"}, key: rsaKey()}.make()
	issued, middle, issuedKey := issuedChain("one.test")
	sec1 := pemOf("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}) + pemOf("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(ecKey().(*ecdsa.PrivateKey))))
	pkcs1 := pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey().(*rsa.PrivateKey)))
	with := func(l leaf) string { c, k := l.make(); return body(c, k, "") }
	_, edKey, _ := ed25519.GenerateKey(rand.Reader)
	hosts := []string{"one.test"}
	many := make([]string, 101)
	for i := range many {
		many[i] = fmt.Sprintf("h%d.one.test", i)
	}
	tests := []struct {
		name string
		body string
		code int    // 0 accepts, -1 any
		says string // in the error, or in the answer
	}{
		{"ecdsa", body(chain, key, ""), 0, `"hosts":["one.test","www.one.test"]`},
		{"rsa", body(rsaChain, rsaText, ""), 0, `"signature":"SHA256WithRSA"`},
		{"pkcs1", body(rsaChain, pkcs1, ""), 0, ""},
		{"sec1 after parameters", body(chain, sec1, ""), 0, ""},
		{"chain", body(issued+middle, issuedKey, `,"bundle_method":"force"`), 0, `"issuer":"Test Trust"`},
		{"text around", body("subject=one\n"+chain, key, ""), 0, ""},
		{"some hosts outside", with(leaf{hosts: []string{"one.test", "two.test"}}), 0, ""},
		{"sni_custom", body(chain, key, `,"type":"sni_custom"`), 0, ""},
		{"chain in the wrong order", body(middle+issued, issuedKey, ""), 1002, "did not sign"},
		{"another's key", body(chain, rsaText, ""), 1002, "does not belong"},
		{"expired", with(leaf{hosts: hosts, to: -time.Minute}), 1002, "expired on"},
		{"not yet valid", with(leaf{hosts: hosts, from: 2 * time.Hour}), 1002, "not valid before"},
		{"outside of the zone", with(leaf{hosts: []string{"two.test", "one.test.two.test"}}), 1002, "none of which"},
		{"no names", with(leaf{}), 1002, "no subject alternative names"},
		{"many names", with(leaf{hosts: many}), 1002, "101 names"},
		{"an authority", with(leaf{edit: func(c *x509.Certificate) { c.IsCA = true }}), 1002, "an authority's"},
		{"for clients", with(leaf{hosts: hosts, edit: func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }}), 1002, "serverAuth"},
		{"rsa 1024", body(chain, weakRSA, ""), 1002, "1024 bits"},
		{"p-521", with(leaf{hosts: hosts, key: must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))}), 1434, "P-521"},
		{"ed25519", with(leaf{hosts: hosts, key: edKey}), 1434, "RSA and ECDSA"},
		{"no PEM", body("hello", key, ""), 1002, "not PEM"},
		{"empty", body("", "", ""), 1002, "not PEM"},
		{"key as certificate", body(key, key, ""), 1002, "only CERTIFICATE"},
		{"certificate as key", body(chain, chain, ""), 1002, "private key is not PEM"},
		{"broken DER", body(pemOf("CERTIFICATE", []byte("broken")), key, ""), 1002, "cannot be read"},
		{"broken key", body(chain, pemOf("PRIVATE KEY", []byte("broken")), ""), 1002, "cannot be read"},
		{"encrypted key", body(chain, pemOf("ENCRYPTED PRIVATE KEY", []byte("x")), ""), 1002, "openssl pkey"},
		{"text after", body(chain+"more", key, ""), 1002, "text after certificate 1"},
		{"too long a chain", body(strings.Repeat(chain, 11), key, ""), 1002, "more than 10"},
		{"too large", body(strings.Repeat("a", 65<<10), key, ""), -1, "the limit is 65536"},
		{"too large a key", body(chain, strings.Repeat("a", 17<<10), ""), -1, "the limit is 16384"},
		{"legacy", body(chain, key, `,"type":"legacy_custom"`), -1, "sni_custom"},
		{"staging", body(chain, key, `,"deploy":"staging"`), -1, "production"},
		{"geo", body(chain, key, `,"geo_restrictions":{"label":"eu"}`), -1, "cannot restrict"},
		{"csr", body(chain, key, `,"custom_csr_id":"7"`), -1, "signing requests"},
		{"bundle", body(chain, key, `,"bundle_method":"best"`), -1, "ubiquitous"},
		{"unknown field", body(chain, key, `,"keyless":1`), -1, "keyless"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := open(t, certs.Options{}, "one.test")
			reply, err := try(h, "POST", customPath, "one.test", test.body)
			if test.code == 0 {
				checkUploaded(t, h, reply, err, test.says)
				return
			}
			all := fault.All(err)
			if len(all) == 0 || !strings.Contains(err.Error(), test.says) || test.code > 0 && all[0].Code != test.code {
				t.Fatalf("got %v (%+v), want code %d saying %q", err, all, test.code, test.says)
			}
			if n := len(h.zone(t, "one.test").Certificates); n != 0 {
				t.Errorf("%d certificates are stored", n)
			}
		})
	}
}

func checkUploaded(t *testing.T, h house, reply product.Reply, err error, says string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	text := string(must(json.Marshal(reply.Result)))
	if !strings.Contains(text, says) || !strings.Contains(text, `"status":"active"`) {
		t.Errorf("answer is %s, want %s in it", text, says)
	}
	if strings.Contains(text, "PRIVATE KEY") {
		t.Error("the answer holds the private key")
	}
	if got := h.names(t, hello("one.test")); len(got) > 0 && got[0] != "one.test" || len(got) > 1 && got[1] == "*.one.test" {
		t.Errorf("one.test gets %v, not what was uploaded", got)
	}
}

func TestCustomCertificates(t *testing.T) {
	h := open(t, certs.Options{}, "one.test", "two.test")
	chain, key := leaf{hosts: []string{"one.test"}}.make()
	id := idOf(call(t, h, "POST", customPath, "one.test", body(chain, key, "")))

	_, err := try(h, "POST", customPath, "one.test", body(chain, key, ""))
	if all := fault.All(err); fault.KindOf(err) != fault.Conflict || all[0].Code != 1220 {
		t.Errorf("the same again: %v", err)
	}
	if _, err := try(h, "GET", customPath+"/"+id, "two.test", ""); fault.KindOf(err) != fault.NotFound {
		t.Errorf("another zone's certificate: %v", err)
	}
	second, _ := leaf{hosts: []string{"one.test", "b.one.test"}}.make()
	idB := idOf(call(t, h, "POST", customPath, "one.test", body(second, key, "")))

	list := call(t, h, "PUT", customPath+"/prioritize", "one.test", `{"certificates":[{"id":"`+idB+`","priority":7},{"id":"`+id+`","priority":1}]}`)
	if !strings.HasPrefix(list, `[{"id":"`+idB) {
		t.Errorf("after prioritize: %s", list)
	}
	if got := h.names(t, hello("one.test")); len(got) != 2 {
		t.Errorf("one.test gets %v, want the preferred one", got)
	}
	if _, err := try(h, "PUT", customPath+"/prioritize", "one.test", `{"certificates":[{"id":"nope","priority":7}]}`); fault.KindOf(err) != fault.NotFound {
		t.Errorf("prioritize an unknown one: %v", err)
	}

	third, _ := leaf{hosts: []string{"one.test", "c.one.test"}}.make()
	edited := call(t, h, "PATCH", customPath+"/"+idB, "one.test", fmt.Sprintf(`{"certificate":%s}`, must(json.Marshal(third))))
	if idOf(edited) == idB || !strings.Contains(edited, `"priority":7`) || !strings.Contains(edited, "c.one.test") {
		t.Errorf("edited: %s", edited)
	}
	if _, err := try(h, "PATCH", customPath+"/"+id, "one.test", `{"private_key":"x"}`); fault.KindOf(err) != fault.Invalid {
		t.Errorf("a key without a certificate: %v", err)
	}
	if got := call(t, h, "PATCH", customPath+"/"+id, "one.test", `{"bundle_method":"force"}`); idOf(got) != id || !strings.Contains(got, "force") {
		t.Errorf("edited bundle method: %s", got)
	}
	for page, want := range map[string]int{"?page=1&per_page=1": 1, "?page=3&per_page=1": 0, "?status=expired": 0, "": 2} {
		var got []any
		json.Unmarshal([]byte(call(t, h, "GET", customPath+page, "one.test", "")), &got)
		if len(got) != want {
			t.Errorf("list %s has %d entries, want %d", page, len(got), want)
		}
	}
	call(t, h, "DELETE", customPath+"/"+id, "one.test", "")
	if _, err := try(h, "DELETE", customPath+"/"+id, "one.test", ""); fault.KindOf(err) != fault.NotFound {
		t.Errorf("deleted twice: %v", err)
	}
}

func TestCustomCertificatesAreCounted(t *testing.T) {
	h := open(t, certs.Options{}, "one.test")
	z := h.zone(t, "one.test")
	one := leaf{hosts: []string{"one.test"}}.noun(z, "custom", 0)
	for range 100 {
		n := *one
		n.ID = spec.NewID()
		h.put(t, &n)
	}
	chain, key := leaf{hosts: []string{"one.test"}}.make()
	_, err := try(h, "POST", customPath, "one.test", body(chain, key, ""))
	if all := fault.All(err); fault.KindOf(err) != fault.TooMuch || all[0].Code != 1212 {
		t.Errorf("the 101st: %v", err)
	}
}

func idOf(text string) string {
	var v struct{ ID string }
	json.Unmarshal([]byte(text), &v)
	return v.ID
}

func TestOrdersAreChecked(t *testing.T) {
	h := open(t, certs.Options{ACME: certs.ACME{Directory: "https://127.0.0.1:1/dir", Agree: true}}, "one.test", "sub.one.test")
	tests := []struct{ hosts, method, says string }{
		{`["one.test"]`, "email", "txt, http"},
		{`[]`, "txt", "0 hosts"},
		{`["two.test"]`, "txt", "not in the zone"},
		{`["a b.one.test"]`, "txt", "not a host name"},
		{`["x.sub.one.test"]`, "txt", "belongs to the zone sub.one.test"},
		{`["*.one.test"]`, "http", "wildcard"},
		{`["*.*.one.test"]`, "txt", "not a host name"},
	}
	for _, test := range tests {
		_, err := try(h, "POST", "/zones/{zone_id}/ssl/certificate_packs/order", "one.test", `{"type":"advanced","hosts":`+test.hosts+`,"validation_method":"`+test.method+`"}`)
		if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), test.says) {
			t.Errorf("order for %s by %s: %v, want %q", test.hosts, test.method, err, test.says)
		}
	}
	id := order(t, h, "one.test", `["WWW.one.test.","*.one.test","www.one.test"]`, "txt")
	got := call(t, h, "GET", "/zones/{zone_id}/ssl/certificate_packs/"+id, "one.test", "")
	if !strings.Contains(got, `"hosts":["*.one.test","www.one.test"]`) || !strings.Contains(got, `"pending_validation"`) {
		t.Errorf("ordered %s", got)
	}
	if got := call(t, h, "GET", "/zones/{zone_id}/ssl/certificate_packs", "one.test", ""); got != "[]" {
		t.Errorf("active packs: %s", got)
	}
	if got := call(t, h, "GET", "/zones/{zone_id}/ssl/certificate_packs?status=all", "one.test", ""); !strings.Contains(got, id) {
		t.Errorf("all packs: %s", got)
	}
	if got := call(t, h, "GET", "/zones/{zone_id}/ssl/certificate_packs/quota", "one.test", ""); got != `{"advanced":{"allocated":100,"used":1}}` {
		t.Errorf("quota: %s", got)
	}
	if got := call(t, h, "GET", "/zones/{zone_id}/ssl/verification", "one.test", ""); !strings.Contains(got, `"certificate_status":"authorizing"`) {
		t.Errorf("verification: %s", got)
	}
	call(t, h, "DELETE", "/zones/{zone_id}/ssl/certificate_packs/"+id, "one.test", "")
	if n := len(h.zone(t, "one.test").Packs); n != 0 {
		t.Errorf("%d packs are left", n)
	}
}

func TestWithoutACME(t *testing.T) {
	h := open(t, certs.Options{}, "one.test")
	_, err := try(h, "POST", "/zones/{zone_id}/ssl/certificate_packs/order", "one.test", `{"type":"advanced","hosts":["one.test"],"validation_method":"txt"}`)
	if fault.KindOf(err) != fault.Unavailable {
		t.Errorf("order without an ACME server: %v", err)
	}
	if got := call(t, h, "GET", "/zones/{zone_id}/ssl/universal/settings", "one.test", ""); got != `{"enabled":true}` {
		t.Errorf("universal settings: %s", got)
	}
}

func FuzzUpload(f *testing.F) {
	chain, key := leaf{hosts: []string{"one.test"}}.make()
	issued, middle, issuedKey := issuedChain("one.test")
	f.Add(chain, key)
	f.Add(issued+middle, issuedKey)
	f.Add(chain+chain, key+key)
	f.Add("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----", "-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----")
	h := open(f, certs.Options{}, "one.test")
	f.Fuzz(func(t *testing.T, chain, key string) {
		reply, err := try(h, "POST", customPath, "one.test", body(chain, key, ""))
		if err != nil {
			if fault.KindOf(err) == fault.Internal {
				t.Fatalf("not a fault for users: %v", err)
			}
			return
		}
		text := string(must(json.Marshal(reply.Result)))
		if c, err := h.Certificate(hello("one.test")); err != nil || c == nil {
			t.Errorf("accepted %s, but the handshake gets %v, %v", text, c, err)
		}
		call(t, h, "DELETE", customPath+"/"+idOf(text), "one.test", "")
	})
}

func TestOriginCertificates(t *testing.T) {
	h := open(t, certs.Options{}, "one.test", "two.test")
	csr := func(key any) string {
		return pemOf("CERTIFICATE REQUEST", must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "ignored.example"}}, key)))
	}
	ask := func(csr, hosts, kind string, days int) string {
		return fmt.Sprintf(`{"csr":%s,"hostnames":%s,"request_type":"%s","requested_validity":%d}`, must(json.Marshal(csr)), hosts, kind, days)
	}
	ec, rs := csr(ecKey()), csr(rsaKey())
	bad := []struct{ body, says string }{
		{ask(ec, `["one.test"]`, "origin-rsa", 7), "has an ecdsa key"},
		{ask(ec, `["one.test"]`, "keyless-certificate", 7), "origin-rsa, origin-ecc"},
		{ask(ec, `["one.test"]`, "origin-ecc", 8), "requested_validity"},
		{ask(ec, `["three.test"]`, "origin-ecc", 7), "Failed to validate requested hostname"},
		{ask(ec, `["*.*.one.test"]`, "origin-ecc", 7), "not a host name"},
		{ask(ec, `[]`, "origin-ecc", 7), "0 hostnames"},
		{ask("x", `["one.test"]`, "origin-ecc", 7), "not PEM"},
		{ask(pemOf("CERTIFICATE REQUEST", []byte("x")), `["one.test"]`, "origin-ecc", 7), "cannot be read"},
	}
	for _, test := range bad {
		if _, err := try(h, "POST", "/certificates", "", test.body); fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%.300s: %v, want %q", test.body, err, test.says)
		}
	}
	var made struct {
		ID          string
		Certificate string
		ExpiresOn   time.Time `json:"expires_on"`
	}
	call(t, h, "POST", "/certificates", "", ask(rs, `["one.test"]`, "origin-rsa", 90))
	must(0, json.Unmarshal([]byte(call(t, h, "POST", "/certificates", "", ask(ec, `["*.one.test","two.test"]`, "origin-ecc", 5475))), &made))
	leaf := parse(made.Certificate)
	for _, host := range []string{"www.one.test", "two.test"} {
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: h.OriginRoots()}); err != nil {
			t.Errorf("the edge does not trust the origin %s: %v", host, err)
		}
	}
	if d := time.Until(made.ExpiresOn); d < 5474*24*time.Hour || d > 5475*24*time.Hour {
		t.Errorf("lives for %v", d)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: "two.test", Roots: h.roots(t)}); err == nil {
		t.Error("the local CA's root vouches for origins")
	}
	var list []any
	must(0, json.Unmarshal([]byte(call(t, h, "GET", "/certificates?zone_id="+h.zone(t, "one.test").Zone.ID, "", "")), &list))
	if len(list) != 2 {
		t.Errorf("%d certificates of one.test, want 2", len(list))
	}
	if h.OriginRevoked(leaf) {
		t.Error("revoked before it was")
	}
	call(t, h, "DELETE", "/certificates/"+made.ID, "", "")
	if !h.OriginRevoked(leaf) {
		t.Error("the edge is not told of the revocation")
	}
	if got := call(t, h, "GET", "/certificates/"+made.ID, "", ""); !strings.Contains(got, "revoked_at") {
		t.Errorf("revoked: %s", got)
	}

	// Someone without rights on two.test sees nothing of it.
	for _, r := range h.Routes() {
		if r.Path != "/certificates/{certificate_id}" && r.Path != "/certificates" {
			continue
		}
		c := &product.Call{Params: map[string]string{"certificate_id": made.ID}, Query: parseQuery("zone_id=" + h.zone(t, "two.test").Zone.ID),
			Body: strings.NewReader(ask(ec, `["two.test"]`, "origin-ecc", 7)), Allowed: func(_ product.Permission, _, zone string) bool { return zone == h.zone(t, "one.test").Zone.ID }}
		if _, err := r.Handle(context.Background(), c); err == nil {
			t.Errorf("%s %s works without the right", r.Method, r.Path)
		}
	}
}

func parse(text string) *x509.Certificate {
	block, _ := pem.Decode([]byte(text))
	return must(x509.ParseCertificate(block.Bytes))
}

// weakRSA is a key of 1,024 bits, which Go does not make any more.
const weakRSA = `-----BEGIN RSA PRIVATE KEY-----
MIICXAIBAAKBgQC0+wpvaNo6RmQsjV/PIArtJSkqCOpfigL7cHSQen8WlWuWNfPC
ioiV7xF90tZRKinhrZK9xv0er/zqgpHmo+zA6FyyVy8F1BiqawJ2SajKLq6OprRV
o8JNMbUmym7nn06R4niR+7bK+KgSxwW35qxEHpOcTQ1Rcw6CnTlNOjED1QIDAQAB
AoGBAJqO/jVxJVW5QdmujtETu2EVaFdGr+oRskRLoLC2fIyr5OquftN4ffcV6Sk8
gt1kFcpu8q/yHb80atlX0wRWoFwafo+Eow0wE6O9dtRM+m7MEHa/3r9ED7z2TAIe
ZoIhBNSLeUH5N1mfUiuUCRn7XKB93+taOlC0K8oBzEaNUpQtAkEA5NOuQbVnq2MW
bn1FteqUYaHLsj2PUQouHS7uNrqhBhEdP9U+ZKx23Vg0CEXVZJWeTijAql/Gxg8Y
1z9pJBe1PwJBAMp41nncm7dHykY2nDU21MMa2Hp85gtet/p2RjbzV/yDc/KkXN5P
cRtrC2GnEivZJZu5N88qbxs1qNdL4wI6nesCQF1WKsIKqJqz9DZlSsYFRTj9sgSm
L4syx9SHjAsu3PeIi5G5/ZU689EdZTvqoDxC+yuOW+gi4QVwqwVBjDV4pikCQCc0
csMx9mzs17v0wxaCwXvt7ND68khtVM6IrFvjjrv0cDUhomHhnBMlDRUhlqEq8N9Q
ZAAXRWBNaZ4WsaQy2XUCQH5nTo9d/qpoccztW8UfAr3TfkcAkAv4n6+qgBfYEwRV
rve9s8a+4h5DVo1wUyoVZh2+8VmZKC/fmd7lYtr1v1Q=
-----END RSA PRIVATE KEY-----
`
