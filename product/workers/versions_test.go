package workers_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"selvage/engine/isolate"
	"selvage/product"
	"selvage/spec"
)

// post uploads a version that is not deployed, and returns its ID.
func (d *desk) post(name, metadata string, files ...file) string {
	d.t.Helper()
	return d.upload("POST", "scripts/"+name+"/versions?bindings_inherit=strict", metadata, files...).at(d.t, "id")
}

func shares(pairs ...any) string {
	var list []string
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, fmt.Sprintf(`{"version_id":"%v","percentage":%v}`, pairs[i], pairs[i+1]))
	}
	return `{"strategy":"percentage","versions":[` + strings.Join(list, ",") + `],"annotations":{"workers/message":"why"},"code_update_strategy":{"mode":"deferred","max_delay":300}}`
}

func TestDeployVersions(t *testing.T) {
	d := newDesk(t, nil)
	d.hello("w")
	first := d.account().Scripts["w"].Latest
	v := d.upload("POST", "scripts/w/versions?bindings_inherit=strict", with(`"annotations":{"workers/tag":"v2"}`), esm("index.js", hello+"// 2"))
	second := v.at(t, "id")
	if v.at(t, "number") != "2" || v.at(t, "startup_time_ms") == "" || v.at(t, "metadata.has_preview") != "false" || v.at(t, "annotations.workers/triggered_by") != "upload" {
		t.Errorf("version: %s", v.Body)
	}
	if in := d.account().Scripts["w"].Deployment; in.Versions[0].VersionID != first {
		t.Errorf("uploading a version deployed it: %v", in)
	}
	g := d.ok("POST", "scripts/w/deployments", shares(first, 90, second, 10))
	if g.at(t, "annotations.workers/message") != "why" || g.at(t, "annotations.workers/triggered_by") != "promotion" || g.at(t, "strategy") != "percentage" {
		t.Errorf("deployment: %s", g.Body)
	}
	d.ok("POST", "scripts/w/deployments", shares(second, 100))
	g = d.ok("POST", "scripts/w/deployments?force=true", shares(first, 100))
	if g.at(t, "annotations.workers/triggered_by") != "rollback" {
		t.Errorf("rollback: %s", g.Body)
	}
	list := d.ok("GET", "scripts/w/deployments", "")
	if list.at(t, "deployments.0.id") != g.at(t, "id") || list.at(t, "deployments.2.versions.1.percentage") != "10" || list.at(t, "deployments.4") != "" || list.at(t, "deployments.3.source") != "wrangler" {
		t.Errorf("deployments: %s", list.Body)
	}
	if one := d.ok("GET", "scripts/w/deployments/"+g.at(t, "id"), ""); one.at(t, "id") != g.at(t, "id") {
		t.Errorf("deployment: %s", one.Body)
	}
	refusal(t, d.do("GET", "scripts/w/deployments/none", ""), 10009, "none")
	for body, says := range map[string]string{
		shares():                       "one or two versions",
		shares(first, 50):              "add up to 100",
		shares(first, 50, first, 50):   "twice",
		shares(first, 150, second, 10): "from 0 to 100",
		shares("none", 100):            "no version none",
		shares("latest", 100):          "no version latest",
		`{"strategy":"canary","versions":[{"version_id":"x","percentage":100}]}`: "canary",
		`{"versions":1}`: "list",
	} {
		if g := d.do("POST", "scripts/w/deployments", body); g.Success || !strings.Contains(g.Body, says) {
			t.Errorf("deployment %s = %s, want %q", body, g.Body, says)
		}
	}
	refusal(t, d.do("POST", "scripts/none/deployments", shares(first, 100)), 10007, "none")
	d.hello("other")
	refusal(t, d.do("POST", "scripts/other/deployments", shares(first, 100)), 10009, "no version")
}

func TestVersionsArePaged(t *testing.T) {
	d := newDesk(t, nil)
	d.hello("w")
	for i := range 12 {
		d.post("w", meta, esm("index.js", fmt.Sprint(hello, "//", i)))
	}
	for query, want := range map[string]string{"": "10 13", "?page=2": "3 3", "?page=3": "0 ", "?per_page=5": "5 13", "?deployable=true": "13 13"} {
		g := d.ok("GET", "scripts/w/versions"+query, "")
		n := 0
		for g.at(t, fmt.Sprintf("items.%d.id", n)) != "" {
			n++
		}
		if got := fmt.Sprint(n, " ", g.at(t, "items.0.number")); got != want || g.Info.TotalCount != 13 {
			t.Errorf("versions%s: %s of %d, want %s of 13", query, got, g.Info.TotalCount, want)
		}
	}
	refusal(t, d.do("GET", "scripts/w/versions?page=0", ""), 1001, "page")
	refusal(t, d.do("GET", "scripts/w/versions/none", ""), 10009, "none")
	if g := d.ok("GET", "scripts/w/versions/latest", ""); g.at(t, "number") != "13" {
		t.Errorf("latest: %s", g.Body)
	}
}

func TestReleasesAtOnceLoseNothing(t *testing.T) {
	d := newDesk(t, nil)
	d.hello("w")
	const uploads, secrets = 6, 6
	var wg sync.WaitGroup
	for i := range uploads {
		wg.Go(func() {
			if g := d.upload("PUT", "scripts/w", meta, esm("index.js", fmt.Sprint(hello, "//", i))); !g.Success {
				t.Errorf("upload: %s", g.Body)
			}
		})
	}
	for i := range secrets {
		wg.Go(func() {
			if g := d.do("PUT", "scripts/w/secrets", fmt.Sprintf(`{"name":"S%d","text":"x","type":"secret_text"}`, i)); !g.Success {
				t.Errorf("secret: %s", g.Body)
			}
		})
	}
	wg.Wait()
	w := d.account().Scripts["w"]
	all := d.account().VersionsOf("w")
	if w.Versions != 1+uploads+secrets || len(all) != w.Versions || all[0].ID != w.Latest || w.Deployment.Versions[0].VersionID != w.Latest {
		t.Fatalf("%d versions, number %d, latest %s, deployed %v", len(all), w.Versions, w.Latest, w.Deployment.Versions)
	}
	for i, v := range all {
		if v.Number != w.Versions-i {
			t.Errorf("version %d has number %d", i, v.Number)
		}
	}
	if n := len(all[0].Bindings); n != secrets {
		t.Errorf("the newest version has %d secrets, want %d", n, secrets)
	}
	if g := d.ok("GET", "scripts/w/deployments", ""); g.at(t, "deployments.0.versions.0.version_id") != w.Latest || g.at(t, fmt.Sprintf("deployments.%d.id", uploads+secrets)) == "" {
		t.Errorf("deployments: %s", g.Body)
	}
}

func TestOldVersionsAreDeleted(t *testing.T) {
	d := newDesk(t, nil)
	d.hello("w")
	first := d.account().Scripts["w"].Latest
	d.hello("x")
	for range 105 {
		d.ok("PATCH", "workers/w/versions/latest", `{"env":{"A":{"type":"plain_text","text":"a"}}}`)
	}
	all := d.account().VersionsOf("w")
	if len(all) != 101 || all[100].ID != first || all[0].Number != 106 || all[99].Number != 7 {
		t.Errorf("%d versions, from %d to %d", len(all), all[0].Number, all[len(all)-1].Number)
	}
	for range 30 {
		d.ok("POST", "scripts/w/deployments", shares(first, 100))
	}
	if g := d.ok("GET", "scripts/w/deployments", ""); g.at(t, "deployments.24.id") == "" || g.at(t, "deployments.25.id") != "" {
		t.Errorf("deployments: %s", g.Body)
	}
	if len(d.account().VersionsOf("x")) != 1 {
		t.Error("versions of another script are gone")
	}
}

func TestBindingsAreKeptAndInherited(t *testing.T) {
	var asked []string
	serve := func(ctx context.Context, _ product.BindingUser, _ *spec.WorkerBinding, l net.Listener) {
		<-ctx.Done()
		l.Close()
	}
	kv := product.BindingType{Type: "kv_namespace", Kind: isolate.KV, Serve: serve, Check: func(_ context.Context, accountID string, b *spec.WorkerBinding) error {
		asked = append(asked, b.NamespaceID)
		return nil
	}}
	d := newDesk(t, map[string]product.BindingType{"kv_namespace": kv})
	d.deploy("w", with(`"bindings":[{"type":"plain_text","name":"A","text":"a"},{"type":"secret_text","name":"S","text":"s"},{"type":"kv_namespace","name":"K","namespace_id":"k1"}]`), esm("index.js", hello))
	names := func() string {
		var all []string
		for _, b := range d.account().Versions[d.account().Scripts["w"].Latest].Bindings {
			all = append(all, b.Name+":"+b.Type)
		}
		return strings.Join(all, " ")
	}
	steps := []struct{ fields, want string }{
		{`"bindings":[]`, "S:secret_text"},
		{`"bindings":[{"type":"plain_text","name":"A","text":"a"},{"type":"kv_namespace","name":"K","namespace_id":"k2","raw":true}],"keep_bindings":["secret_text"]`, "A:plain_text K:kv_namespace S:secret_text"},
		{`"bindings":[],"keep_bindings":["plain_text","json","secret_text"]`, "A:plain_text S:secret_text"},
		{`"bindings":[{"type":"inherit","name":"A"},{"type":"inherit","name":"T","old_name":"S"}],"keep_bindings":[]`, "A:plain_text T:secret_text"},
		{`"bindings":[{"type":"plain_text","name":"T","text":"now a text"}]`, "T:plain_text"},
	}
	for _, s := range steps {
		d.deploy("w", with(s.fields), esm("index.js", hello))
		if got := names(); got != s.want {
			t.Errorf("after %s: %s, want %s", s.fields, got, s.want)
		}
	}
	if g := d.upload("PUT", "scripts/w", with(`"bindings":[{"type":"inherit","name":"NONE"}],"keep_bindings":[]`), esm("index.js", hello)); !g.Success || names() != "" {
		t.Errorf("inherit that is not strict: %s, bindings %q", g.Body, names())
	}
	if fmt.Sprint(asked) != "[k1 k2]" {
		t.Errorf("the product was asked about %v", asked)
	}
}
