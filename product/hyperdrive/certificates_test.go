package hyperdrive_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"selvage/product/hyperdrive"
	"selvage/product/hyperdrive/pgtest"
)

func encoded(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// TestCertificates has a database verified by an authority of the account's, and know the account by a
// certificate in place of a password.
func TestCertificates(t *testing.T) {
	pg := pgtest.Start(t)
	server, serverKey := selfSigned(t, "localhost")
	client, clientKey := selfSigned(t, "by_cert")
	other, _ := selfSigned(t, "localhost")
	for name, text := range map[string]string{"server.crt": server, "server.key": serverKey, "client.crt": client} {
		must(t, os.WriteFile(filepath.Join(pg.Data(), name), []byte(text), 0o600))
	}
	pg.Own("server.crt", "server.key", "client.crt")
	pg.Configure("ssl=on", "ssl_ca_file=client.crt")
	direct, err := pgx.Connect(t.Context(), pg.URL())
	must(t, err)
	run(t, direct, "CREATE ROLE by_cert LOGIN")
	direct.Close(context.Background())
	pg.Access("hostssl all by_cert all cert", "host all owner all scram-sha-256")

	d := newDesk(t, hyperdrive.Options{Roots: x509.NewCertPool()})
	type certificate struct {
		ID        string `json:"id"`
		CA        bool   `json:"ca"`
		Issuer    string `json:"issuer"`
		ExpiresOn string `json:"expires_on"`
	}
	var ca, wrong, own certificate
	const path = "A/mtls_certificates"
	d.ok("POST", path, encoded(map[string]any{"name": "db", "certificates": server, "ca": true}), &ca)
	d.ok("POST", path, encoded(map[string]any{"certificates": other, "ca": true}), &wrong)
	d.ok("POST", path, encoded(map[string]any{"name": "me", "certificates": client, "private_key": clientKey, "ca": false}), &own)
	if !ca.CA || ca.Issuer != "CN=localhost" || ca.ExpiresOn == "" || own.CA {
		t.Errorf("uploaded %+v, %+v", ca, own)
	}
	for _, c := range []struct{ body, says string }{
		{encoded(map[string]any{"certificates": "x", "ca": true}), "no certificate in it"},
		{encoded(map[string]any{"certificates": server, "ca": true, "private_key": serverKey}), "private_key"},
		{encoded(map[string]any{"certificates": client, "private_key": serverKey}), "private_key is not"},
		{encoded(map[string]any{"certificates": clientKey, "ca": true}), "PRIVATE KEY"},
		{encoded(map[string]any{"certificates": server, "ca": true, "name": strings.Repeat("n", 256)}), "255 bytes"},
		{encoded(map[string]any{"certificates": strings.Repeat(server, 200), "ca": true}), "the limit is 65536"},
	} {
		if g := d.call("POST", path, c.body); g.Success || !strings.Contains(g.Body, c.says) {
			t.Errorf("an upload that is wrong says %.300s, want %q", g.Body, c.says)
		}
	}
	for query, want := range map[string]int{"": 3, "?ca=true": 2, "?ca=false": 1, "?name=db": 1} {
		var all []certificate
		if d.ok("GET", path+query, "", &all); len(all) != want {
			t.Errorf("%q lists %d certificates, want %d", query, len(all), want)
		}
	}
	if g := d.call("GET", path+"/"+own.ID, ""); !g.Success || strings.Contains(g.Body, "PRIVATE") {
		t.Errorf("shown is %s", g.Body)
	}

	config := func(host, mtls, user string) string {
		return fmt.Sprintf(`{"name":"x","caching":{"disabled":true},"mtls":{%s},"origin":{"scheme":"postgres","host":%q,"port":%d,"database":"postgres","user":%q,"password":%q}}`, mtls, host, pg.Port, user, pgtest.Password)
	}
	full := `"sslmode":"verify-full","ca_certificate_id":"` + ca.ID + `"`
	for _, c := range []struct{ host, mtls, user, says string }{
		{"localhost", `"sslmode":"verify-full"`, "owner", "2012"},
		{"localhost", `"sslmode":"verify-full","ca_certificate_id":"` + wrong.ID + `"`, "owner", "2012"},
		{"127.0.0.1", full, "owner", "2012"},
		{"localhost", `"sslmode":"require","ca_certificate_id":"` + ca.ID + `"`, "owner", "verify-ca or verify-full"},
		{"localhost", `"sslmode":"verify-full","ca_certificate_id":"nowhere"`, "owner", "There is no authority's certificate"},
		{"localhost", `"sslmode":"verify-full","ca_certificate_id":"` + own.ID + `"`, "owner", "There is no authority's certificate"},
		{"localhost", full + `,"mtls_certificate_id":"` + ca.ID + `"`, "owner", "There is no client's certificate"},
		{"localhost", full, "by_cert", "2013"},
	} {
		if g := d.call("POST", "A/hyperdrive/configs", config(c.host, c.mtls, c.user)); g.Success || !strings.Contains(g.Body, c.says) {
			t.Errorf("%+v: %s", c, g.Body)
		}
	}
	a := &account{d: d}
	d.ok("POST", "A/hyperdrive/configs", config("localhost", full+`,"mtls_certificate_id":"`+own.ID+`"`, "by_cert"), a)
	var access struct{ Password string }
	d.ok("GET", "A/selvage/hyperdrive/configs/"+a.ID+"/credentials", "", &access)
	a.password = access.Password
	if got := one(t, a.connect(""), "SELECT current_user || ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"); got != "by_certtrue" {
		t.Errorf("the database sees %q", got)
	}
	if g := d.call("GET", "A/hyperdrive/configs/"+a.ID, ""); !strings.Contains(g.Body, ca.ID) || !strings.Contains(g.Body, own.ID) {
		t.Errorf("the configuration is shown as %s", g.Body)
	}
	if g := d.call("DELETE", path+"/"+ca.ID, ""); g.Success || !strings.Contains(g.Body, "needs this certificate") {
		t.Errorf("a certificate in use was deleted: %d %s", g.Status, g.Body)
	}
	d.ok("PATCH", "A/hyperdrive/configs/"+a.ID, `{"mtls":{"sslmode":"verify-ca"},"origin":{"host":"127.0.0.1"}}`, nil) // the name does not count
	d.ok("DELETE", "A/hyperdrive/configs/"+a.ID, "", nil)
	d.ok("DELETE", path+"/"+ca.ID, "", nil)
	if g := d.call("DELETE", path+"/"+ca.ID, ""); g.Status != 404 {
		t.Errorf("deleted twice: %d %s", g.Status, g.Body)
	}
}
