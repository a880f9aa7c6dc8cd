package workers_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"selvage/spec"
)

func TestSecrets(t *testing.T) {
	d := newDesk(t, nil)
	const secret = "correct horse battery"
	d.deploy("w", with(`"bindings":[{"type":"plain_text","name":"A","text":"a"}]`), esm("index.js", hello))
	before := d.account().Scripts["w"].Latest
	g := d.ok("PUT", "scripts/w/secrets", `{"name":"S","text":"`+secret+`","type":"secret_text"}`)
	if string(g.Result) != `{"name":"S","type":"secret_text"}` {
		t.Errorf("put answered %s", g.Body)
	}
	w := d.account().Scripts["w"]
	if w.Latest == before || w.Deployment.Versions[0].VersionID != w.Latest || w.Versions != 2 {
		t.Errorf("after a secret: %+v", w)
	}
	d.ok("PUT", "scripts/w/secrets", `{"name":"K","type":"secret_key","format":"raw","usages":["sign","verify"],"algorithm":{"name":"HMAC","hash":"SHA-256"},"key_base64":"c2VjcmV0LWtleS1ieXRlcw=="}`)
	list := d.ok("GET", "scripts/w/secrets", "")
	if list.at(t, "0.name") != "S" || list.at(t, "1.usages") != `["sign","verify"]` || list.at(t, "1.format") != "raw" {
		t.Errorf("secrets: %s", list.Body)
	}
	if one := d.ok("GET", "scripts/w/secrets/S", ""); one.at(t, "type") != "secret_text" {
		t.Errorf("secret: %s", one.Body)
	}
	g = d.ok("PATCH", "scripts/w/secrets-bulk", `{"secrets":{"S":null,"T":{"name":"T","text":"`+secret+`","type":"secret_text"},"U":{"text":"u","type":"secret_text"}}}`)
	if got := d.ok("GET", "scripts/w/secrets", ""); got.at(t, "0.name") != "K" || got.at(t, "1.name") != "T" || got.at(t, "2.name") != "U" || got.at(t, "3.name") != "" {
		t.Errorf("after bulk: %s", got.Body)
	}
	d.ok("DELETE", "scripts/w/secrets/U?url_encoded=true", "")
	d.ok("PUT", "scripts/w/secrets", `{"name":"T","text":"`+secret+`2","type":"secret_text"}`)

	refusal(t, d.do("DELETE", "scripts/w/secrets/U", ""), 10056, "no secret")
	refusal(t, d.do("GET", "scripts/w/secrets/U", ""), 10056, "no secret")
	refusal(t, d.do("DELETE", "scripts/w/secrets/A", ""), 10056, "no secret")
	refusal(t, d.do("PUT", "scripts/w/secrets", `{"name":"A","text":"x","type":"secret_text"}`), 10053, "already in use")
	refusal(t, d.do("PUT", "scripts/w/secrets", `{"name":"X","text":"x","type":"plain_text"}`), 10021, "secret_text")
	refusal(t, d.do("PUT", "scripts/w/secrets", `{"name":"X","text":"`+strings.Repeat("x", 5121)+`","type":"secret_text"}`), 10021, "5120")
	refusal(t, d.do("PUT", "scripts/w/secrets", `{"name":"not a name","text":"x"}`), 10021, "not valid")
	refusal(t, d.do("PATCH", "scripts/w/secrets-bulk", `{"secrets":{"X":{"name":"Y","text":"x","type":"secret_text"}}}`), 10021, "named otherwise")
	refusal(t, d.do("PUT", "scripts/none/secrets", `{"name":"S","text":"x"}`), 10007, "none")

	d.post("w", meta, esm("index.js", hello+"//"))
	refusal(t, d.do("PUT", "scripts/w/secrets", `{"name":"T","text":"x","type":"secret_text"}`), 10215, "isn't currently deployed")
	refusal(t, d.do("PATCH", "scripts/w/settings", `{"compatibility_date":"2026-01-01"}`), 10214, "isn't currently deployed")
	v := d.ok("PATCH", "workers/w/versions/latest", `{"env":{"N":{"type":"secret_text","text":"`+secret+`"},"T":null},"annotations":{"workers/message":"new"}}`)
	if len(v.at(t, "id")) != 36 || d.account().Scripts["w"].Latest != v.at(t, "id") || d.account().Scripts["w"].Deployment.Versions[0].VersionID == v.at(t, "id") {
		t.Errorf("versions secret put: %s", v.Body)
	}
	d.nowhere(secret)
	d.nowhere("c2VjcmV0LWtleS1ieXRlcw")
}

// nowhere checks that a secret is in no answer, not in the log, the audit log or the state.
func (d *desk) nowhere(secret string) {
	d.t.Helper()
	for _, path := range []string{"scripts", "services/w", "scripts/w/settings", "scripts/w/versions", "scripts/w/secrets", "scripts/w/bindings", "workers/w", "scripts/w/deployments"} {
		if g := d.ok("GET", path, ""); strings.Contains(g.Body, secret) {
			d.t.Errorf("%s shows the secret: %s", path, g.Body)
		}
	}
	if strings.Contains(d.log.String(), secret) {
		d.t.Error("the secret is in the log")
	}
	stored, err := json.Marshal(d.account())
	must(d.t, err)
	if strings.Contains(string(stored), secret) {
		d.t.Error("the secret is in the state")
	}
	entries := 0
	for e, err := range d.state.AuditLog(d.t.Context(), spec.AuditQuery{}) {
		must(d.t, err)
		entries++
		text, err := json.Marshal(e)
		must(d.t, err)
		if strings.Contains(string(text), secret) || strings.Contains(string(text), `"sealed"`) {
			d.t.Errorf("the audit log has the secret: %s", text)
		}
	}
	if entries == 0 {
		d.t.Error("no audit entries")
	}
}

func TestRollbackAsksAboutSecrets(t *testing.T) {
	d := newDesk(t, nil)
	d.hello("w")
	first := d.account().Scripts["w"].Latest
	d.ok("PUT", "scripts/w/secrets", `{"name":"B","text":"1"}`)
	d.ok("PUT", "scripts/w/secrets", `{"name":"A","text":"1"}`)
	both := d.account().Scripts["w"].Latest
	d.deploy("w", with(`"keep_bindings":["secret_text","secret_key"]`), esm("index.js", hello+"//"))
	newest := d.account().Scripts["w"].Latest
	// The code changed, the secrets did not: no question.
	d.ok("POST", "scripts/w/deployments", shares(both, 100))
	d.ok("POST", "scripts/w/deployments", shares(newest, 100))
	g := d.do("POST", "scripts/w/deployments", shares(first, 100))
	refusal(t, g, 10220, "The following secrets have changed: A, B\"")
	d.ok("POST", "scripts/w/deployments?force=true", shares(first, 100))
	// Going forward again is no rollback.
	d.ok("POST", "scripts/w/deployments", shares(newest, 100))
}

func TestManySecrets(t *testing.T) {
	d := newDesk(t, nil)
	d.hello("w")
	all := map[string]any{}
	for i := range 150 {
		all[fmt.Sprint("S", i)] = map[string]string{"type": "secret_text", "text": "x"}
	}
	body, _ := json.Marshal(map[string]any{"secrets": all})
	d.ok("PATCH", "scripts/w/secrets-bulk", string(body))
	if n := len(d.account().Versions[d.account().Scripts["w"].Latest].Bindings); n != 150 {
		t.Errorf("%d secrets, want 150", n)
	}
}
