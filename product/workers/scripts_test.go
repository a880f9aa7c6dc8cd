package workers_test

import (
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"testing"
)

func TestDownload(t *testing.T) {
	d := newDesk(t, nil)
	d.deploy("w", meta, esm("index.js", hello), esm(`odd "name".js`, "export {}"), file{"a.wasm", "application/wasm", "\x00asm\x01\x00\x00\x00"})
	for _, path := range []string{"scripts/w", "scripts/w/content", "scripts/w/content/v2", "services/w/environments/production/content/v2"} {
		g := d.do("GET", path, "")
		_, params, err := mime.ParseMediaType(g.Header.Get("Content-Type"))
		if err != nil || g.Header.Get("Cf-Entrypoint") != "index.js" {
			t.Fatalf("%s: %v, %v", path, g.Header, err)
		}
		form, err := multipart.NewReader(strings.NewReader(g.Body), params["boundary"]).ReadForm(1 << 20)
		must(t, err)
		if len(form.File) != 3 || form.File["a.wasm"][0].Header.Get("Content-Type") != "application/wasm" {
			t.Fatalf("%s: %v", path, form.File)
		}
		f, err := form.File["index.js"][0].Open()
		must(t, err)
		if text, _ := io.ReadAll(f); string(text) != hello {
			t.Errorf("%s: %q", path, text)
		}
		f.Close()
	}
	script := "addEventListener('fetch', e => e.respondWith(new Response('hi')))"
	if g := d.call("PUT", "scripts/s", "application/javascript", strings.NewReader(script)); !g.Success || g.at(t, "has_modules") != "false" {
		t.Fatalf("upload of a bare script: %s", g.Body)
	}
	if g := d.do("GET", "scripts/s", ""); g.Body != script || g.Header.Get("Content-Type") != "application/javascript" {
		t.Errorf("download: %q %v", g.Body, g.Header)
	}
	refusal(t, d.do("GET", "scripts/none", ""), 10007, "none")
	refusal(t, d.do("GET", "services/w/environments/staging", ""), 10090, "staging")
}

func TestServiceWorkerParts(t *testing.T) {
	d := newDesk(t, nil)
	d.deploy("s", `{"body_part":"w.js","compatibility_date":"2026-11-01","bindings":[{"type":"text_blob","name":"T","part":"T"},{"type":"wasm_module","name":"M","part":"M"}]}`,
		file{"w.js", "application/javascript", "addEventListener('fetch', e => e.respondWith(new Response(T)))"}, file{"T", "text/plain", "text"}, file{"M", "application/wasm", "\x00asm\x01\x00\x00\x00"})
	if v := d.account().VersionsOf("s")[0]; !v.ServiceWorker || len(v.Modules) != 3 {
		t.Errorf("version %+v", v)
	}
}

func TestReplaceContent(t *testing.T) {
	d := newDesk(t, nil)
	d.deploy("w", `{"main_module":"index.js","compatibility_date":"2026-11-01","compatibility_flags":["nodejs_compat"],"bindings":[{"type":"plain_text","name":"A","text":"a"}]}`, esm("index.js", hello))
	if g := d.upload("PUT", "scripts/w/content", `{"main_module":"main.js"}`, esm("main.js", hello+"//")); !g.Success || g.at(t, "entry_point") != "main.js" {
		t.Fatalf("content: %s", g.Body)
	}
	got := d.ok("GET", "scripts/w/settings", "")
	if got.at(t, "bindings.0.text") != "a" || got.at(t, "compatibility_flags") != `["nodejs_compat"]` || got.at(t, "compatibility_date") != "2026-11-01" {
		t.Errorf("settings: %s", got.Body)
	}
}

func TestSettings(t *testing.T) {
	d := newDesk(t, nil)
	d.hello("w")
	d.hello("tail")
	g := d.upload("PATCH", "scripts/w/settings", "")
	refusal(t, g, 10021, "metadata")
	g = d.upload("PATCH", "scripts/w/settings", `{"bindings":[{"type":"plain_text","name":"A","text":"a"}],"compatibility_date":"2026-10-01","tags":["t"],"logpush":true}`)
	if g.at(t, "bindings.0.text") != "a" || g.at(t, "compatibility_date") != "2026-10-01" || g.at(t, "tags") != `["t"]` || g.at(t, "annotations.workers/triggered_by") != "settings" {
		t.Errorf("settings: %s", g.Body)
	}
	if w := d.account().Scripts["w"]; w.Versions != 2 || w.Deployment.Versions[0].VersionID != w.Latest {
		t.Errorf("after settings: %+v", w)
	}
	// Without bindings these stay.
	d.ok("PATCH", "scripts/w/settings", `{"compatibility_flags":["nodejs_compat"]}`)
	if got := d.ok("GET", "scripts/w/settings", ""); got.at(t, "bindings.0.name") != "A" || got.at(t, "compatibility_flags") != `["nodejs_compat"]` || got.at(t, "logpush") != "true" {
		t.Errorf("settings: %s", got.Body)
	}
	refusal(t, d.do("PATCH", "scripts/w/settings", `{"main_module":"x"}`), 10021, "no code")
	// Wrangler 4.86 names bindings that stay by name and type only.
	g = d.upload("PATCH", "scripts/w/settings", `{"bindings":[{"type":"secret_text","name":"S","text":"s"},{"type":"plain_text","name":"A"}]}`)
	if g.at(t, "bindings.1.text") != "a" || g.at(t, "bindings.0.name") != "S" {
		t.Errorf("settings: %s", g.Body)
	}

	s := d.ok("PATCH", "scripts/w/script-settings", `{"tail_consumers":[{"service":"tail"}],"logpush":false,"observability":{"enabled":false},"tags":["cf:service=w","cf:environment=production"]}`)
	if s.at(t, "tail_consumers.0.service") != "tail" || s.at(t, "tags.1") != "cf:environment=production" || s.at(t, "logpush") != "false" {
		t.Errorf("script settings: %s", s.Body)
	}
	d.ok("PATCH", "scripts/w/script-settings", `{"tags":null}`)
	if got := d.ok("GET", "scripts/w/script-settings", ""); got.at(t, "tail_consumers.0.service") != "tail" || got.at(t, "observability.enabled") != "false" {
		t.Errorf("script settings: %s", got.Body)
	}
	refusal(t, d.do("PATCH", "scripts/w/script-settings", `{"tail_consumers":[{"service":"none"}]}`), 10021, "none")
	refusal(t, d.do("PATCH", "scripts/w/script-settings", `{"tags":[""]}`), 10021, "tag")
	if w := d.account().Scripts["w"]; w.Versions != 4 {
		t.Errorf("settings of the script made a version: %d", w.Versions)
	}
	if got := d.ok("GET", "scripts?tags=cf:service=w:yes", ""); got.at(t, "0.id") == "tail" {
		t.Errorf("filtered scripts: %s", got.Body)
	}
	p := d.ok("PATCH", "workers/"+d.account().Scripts["w"].ID, `{"subdomain":{"enabled":true},"tail_consumers":[]}`)
	if p.at(t, "subdomain.enabled") != "true" || p.at(t, "tail_consumers") != "[]" || p.at(t, "name") != "w" {
		t.Errorf("worker: %s", p.Body)
	}
	if got := d.ok("GET", "workers", ""); got.at(t, "1.name") != "w" || got.Info.TotalCount != 2 {
		t.Errorf("workers: %s", got.Body)
	}
	if got := d.ok("PUT", "scripts/w/usage-model", `{"usage_model":"standard"}`); got.at(t, "usage_model") != "standard" {
		t.Errorf("usage model: %s", got.Body)
	}
	refusal(t, d.do("PUT", "scripts/w/usage-model", `{"usage_model":"bundled"}`), 1001, "bundled")
}
