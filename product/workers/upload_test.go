package workers_test

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"selvage/product"
)

func TestDeploy(t *testing.T) {
	d := newDesk(t, nil)
	refusal(t, d.do("GET", "services/w", ""), 10090, "no Worker w")
	refusal(t, d.do("GET", "scripts/w/secrets", ""), 10007, "does not exist")
	g := d.deploy("w", with(`"bindings":[{"type":"plain_text","name":"A","text":"a"},{"type":"json","name":"J","json":{"x":[1]}},{"type":"secret_text","name":"S","text":"hunter2"},
		{"type":"version_metadata","name":"V"},{"type":"ratelimit","name":"R","namespace_id":"1","simple":{"limit":5,"period":60}},{"type":"service","name":"SELF","service":"w"}],
		"keep_bindings":["secret_text","secret_key"],"code_update_strategy":{"mode":"deferred","max_delay":300},"limits":{"cpu_ms":50},"placement":{"mode":"smart"},
		"annotations":{"workers/message":"first","workers/tag":"v1"},"logpush":true,"observability":{"enabled":true},"package_dependencies":[{"name":"x","packageJsonVersion":"1","installedVersion":"1"}]`),
		esm("index.js", hello), esm("lib/a.js", "export const a = 1"), file{"index.js.map", "application/source-map", "{}"}, file{"t.txt", "text/plain", "text"})
	for path, want := range map[string]string{
		"id": "w", "handlers": `["fetch"]`, "has_modules": "true", "placement_mode": "smart", "last_deployed_from": "wrangler", "logpush": "true", "entry_point": "index.js",
		"observability.enabled": "true", "usage_model": "standard", "limits.cpu_ms": "50",
	} {
		if got := g.at(t, path); got != want {
			t.Errorf("upload: %s = %s, want %s", path, got, want)
		}
	}
	id := g.at(t, "deployment_id")
	if len(id) != 32 || g.at(t, "startup_time_ms") == "" || len(g.at(t, "etag")) != 64 {
		t.Errorf("upload answered %s", g.Body)
	}
	versions := d.ok("GET", "scripts/w/versions", "")
	version := versions.at(t, "items.0.id")
	if strings.ReplaceAll(version, "-", "") != id || versions.at(t, "items.0.number") != "1" || versions.at(t, "items.0.annotations.workers/tag") != "v1" {
		t.Errorf("versions: %s", versions.Body)
	}
	v := d.ok("GET", "scripts/w/versions/"+version, "")
	if strings.Contains(v.Body, "hunter2") || !strings.Contains(v.Body, `{"name":"S","type":"secret_text"}`) || v.at(t, "resources.script_runtime.limits.cpu_ms") != "50" {
		t.Errorf("version: %s", v.Body)
	}
	service := d.ok("GET", "services/w", "")
	if service.at(t, "default_environment.environment") != "production" || service.at(t, "default_environment.script.last_deployed_from") != "wrangler" || len(service.at(t, "default_environment.script.tag")) != 32 {
		t.Errorf("service: %s", service.Body)
	}
	deployments := d.ok("GET", "scripts/w/deployments", "")
	if deployments.at(t, "deployments.0.versions.0.version_id") != version || deployments.at(t, "deployments.0.versions.0.percentage") != "100" || deployments.at(t, "deployments.0.author_email") == "" {
		t.Errorf("deployments: %s", deployments.Body)
	}
	if got := d.ok("GET", "workers/w", ""); got.at(t, "subdomain.enabled") != "false" || got.at(t, "name") != "w" {
		t.Errorf("worker: %s", got.Body)
	}
	if got := d.ok("GET", "scripts", ""); got.at(t, "0.id") != "w" {
		t.Errorf("scripts: %s", got.Body)
	}
	stored := d.account().Versions[version]
	if len(stored.SourceMaps) != 1 || len(stored.Modules) != 3 || stored.Modules[0].Name != "index.js" {
		t.Errorf("modules %v, source maps %v", stored.Modules, stored.SourceMaps)
	}
	if stored.CPUMs != 50 || stored.Annotations["workers/triggered_by"] != "upload" {
		t.Errorf("stored %+v", stored)
	}
}

func TestUploadIsRefused(t *testing.T) {
	d := newDesk(t, map[string]product.BindingType{})
	main := esm("index.js", hello)
	binding := func(b string) string { return with(`"bindings":[` + b + `]`) }
	tests := []struct {
		metadata string
		files    []file
		code     int
		says     string
	}{
		{"", []file{main}, 10021, "no part called metadata"},
		{`{`, []file{main}, 10021, "Malformed"},
		{`{"main_module":"other.js"}`, []file{main}, 10021, "no part named"},
		{`{}`, []file{main}, 10021, "main_module"},
		{`{}`, nil, 10021, "script or assets"},
		{`{"main_module":"index.js","body_part":"x"}`, []file{main}, 10021, "not both"},
		{with(`"surprise":1`), []file{main}, 10021, "surprise"},
		{with(`"exports":{"A":{"type":"durable-object"}}`), []file{main}, 10021, "migrations"},
		{with(`"containers":[{"class_name":"A"}]`), []file{main}, 10021, "containers"},
		{`{"main_module":"index.js","compatibility_date":"soon"}`, []file{main}, 10021, "no date"},
		{meta, []file{esm("index.js", "a syntax error {")}, 10021, "SyntaxError"},
		{`{"main_module":"index.js","compatibility_date":"2099-01-01"}`, []file{main}, 10021, "compatibility date"},
		{meta, []file{main, main}, 10021, "two parts"},
		{meta, []file{{"index.js", "application/javascript", hello}}, 10021, "no ES module"},
		{meta, []file{main, {"x.py", "text/x-python", "pass"}}, 10021, "Python"},
		{meta, []file{main, {"x", "image/png", "x"}}, 10021, "image/png"},
		{meta, []file{main, esm("../x.js", "")}, 10021, "relative path"},
		{meta, []file{main, esm("/etc/x.js", "")}, 10021, "relative path"},
		{`{"main_module":"index.js","compatibility_date":"2026-11-01","compatibility_flags":["python_workers"]}`, []file{main}, 10021, "JavaScript and WebAssembly only"},
		{`{"main_module":"index.js","compatibility_date":"2026-11-01","compatibility_flags":["unsafe_module"]}`, []file{main}, 10021, "experimental and cannot yet be used in Workers deployed to Cloudflare."},
		{meta, []file{esm("index.js", "export default null")}, 10021, "not of type"},
		{`{"body_part":"index.js"}`, []file{main}, 10021, "application/javascript"},
		{`{"body_part":"w"}`, []file{{"w", "application/javascript", "1"}, main}, 10021, "cannot import"},
		{with(`"limits":{"cpu_ms":1000000}`), []file{main}, 10021, "cpu_ms"},
		{with(`"annotations":{"x":"y"}`), []file{main}, 10021, "annotation"},
		{with(`"tail_consumers":[{"service":"none"}]`), []file{main}, 10021, "tail consumer"},
		{with(`"assets":{"jwt":"nonsense"}`), []file{main}, 10021, "token"},
		{with(`"assets":{}`), []file{main}, 10021, "assets.jwt"},
		{binding(`1`), []file{main}, 10021, "not an object"},
		{binding(`{"type":"plain_text","text":"x"}`), []file{main}, 10021, "not valid"},
		{binding(`{"type":"plain_text","name":"1x","text":"x"}`), []file{main}, 10021, "1x"},
		{binding(`{"type":"plain_text","name":"A","text":1}`), []file{main}, 10021, "must be a string"},
		{binding(`{"type":"plain_text","name":"A","text":"` + strings.Repeat("x", 5121) + `"}`), []file{main}, 10021, "5120"},
		{binding(`{"type":"plain_text","name":"A","txt":"x"}`), []file{main}, 10021, "no field txt"},
		{binding(`{"type":"plain_text","name":"A","text":"x"},{"type":"json","name":"A","json":1}`), []file{main}, 10021, "two bindings"},
		{binding(`{"type":"mtls_certificate","name":"A","certificate_id":"x"}`), []file{main}, 10021, "mtls_certificate"},
		{binding(`{"type":"kv_namespace","name":"A","namespace_id":"x"}`), []file{main}, 10021, "kv_namespace"},
		{binding(`{"type":"service","name":"A"}`), []file{main}, 10021, "service"},
		{binding(`{"type":"service","name":"A","service":"none"}`), []file{main}, 10143, "not found"},
		{binding(`{"type":"service","name":"A","service":"w","entrypoint":"None"}`), []file{main}, 10021, "does not export"},
		{binding(`{"type":"ratelimit","name":"A","namespace_id":"1","simple":{"limit":1,"period":30}}`), []file{main}, 10021, "10 or 60"},
		{binding(`{"type":"ratelimit","name":"A","namespace_id":"1"}`), []file{main}, 10021, "simple"},
		{binding(`{"type":"wasm_module","name":"A","part":"none"}`), []file{main}, 10021, "not sent"},
		{binding(`{"type":"assets","name":"A"}`), []file{main}, 10021, "assets"},
		{binding(`{"type":"inherit","name":"A"}`), []file{main}, 10057, "inherit binding 'A' is invalid"},
		{binding(`{"type":"inherit","name":"A"},{"type":"inherit","name":"B"}`), []file{main}, 10057, "inherit binding 'B' is invalid"},
		{binding(`{"type":"secret_text","name":"A"}`), []file{main}, 10021, "text"},
		{binding(`{"type":"secret_key","name":"A","format":"raw","usages":["sign"],"key_base64":"!"}`), []file{main}, 10021, "Base64"},
		{binding(`{"type":"secret_key","name":"A","format":"pem","usages":["sign"]}`), []file{main}, 10021, "pem"},
		{binding(`{"type":"secret_key","name":"A","format":"raw","usages":["dance"],"key_base64":"AAAA"}`), []file{main}, 10021, "dance"},
		{binding(`{"type":"durable_object_namespace","name":"A","class_name":"X"}`), []file{main}, 10061, "Did you forget"},
		{binding(`{"type":"durable_object_namespace","name":"A","class_name":"X","script_name":"other"}`), []file{main}, 10061, "other"},
	}
	for _, tt := range tests {
		g := d.upload("PUT", "scripts/w?bindings_inherit=strict", tt.metadata, tt.files...)
		if g.Success || g.code() != tt.code || !strings.Contains(g.Body, tt.says) {
			t.Errorf("upload of %.120s = %d, code %d, want %d that says %q: %s", tt.metadata, g.Status, g.code(), tt.code, tt.says, g.Body)
		}
		if strings.Contains(g.Body, "hunter2") {
			t.Errorf("a secret in %s", g.Body)
		}
	}
	if n := len(d.account().Scripts); n != 0 {
		t.Errorf("%d scripts after uploads that were refused", n)
	}
	refusal(t, d.upload("PUT", "scripts/UPPER", meta, main), 10016, "UPPER")
	refusal(t, d.call("PUT", "scripts/w", "text/html", strings.NewReader("x")), 10001, "text/html")
	refusal(t, d.call("PUT", "scripts/w", "multipart/form-data; boundary=x", strings.NewReader("nothing")), 10021, "no part called metadata")
	refusal(t, d.call("PUT", "scripts/w", "multipart/form-data", strings.NewReader("nothing")), 10001, "boundary")
	if ct, body := form(meta, main); true {
		refusal(t, d.call("PUT", "scripts/w", ct, strings.NewReader(string(body[:len(body)-40]))), 10001, "ended too early")
	}
	refusal(t, d.upload("POST", "scripts/w/versions", meta, main), 10007, "does not exist")
}

// maxScript is the documented limit of a script's modules.
const maxScript = 64 << 20

func TestSizeLimits(t *testing.T) {
	d := newDesk(t, nil)
	noise := make([]byte, 11<<20)
	rand.NewChaCha8([32]byte{1}).Read(noise)
	g := d.upload("PUT", "scripts/w", meta, esm("index.js", hello), file{"a.bin", "application/octet-stream", string(noise)})
	refusal(t, g, 10027, "exceeded the size limit of 10 MiB: its modules have 11.00 MiB")
	// The same size passes where gzip makes it small, and source maps do not count.
	d.deploy("w", meta, esm("index.js", hello), file{"a.txt", "text/plain", strings.Repeat("a", 11<<20)}, file{"index.js.map", "application/source-map", string(noise)})
	half := string(bytes.Repeat([]byte(" "), 8<<20))
	g = d.upload("PUT", "scripts/w", meta, esm("index.js", hello), file{"a.map", "application/source-map", half}, file{"b.map", "application/source-map", half})
	refusal(t, g, 10027, "15 MiB of source maps")
	refusal(t, d.call("PUT", "scripts/w", "application/javascript", bytes.NewReader(make([]byte, maxScript+1))), 10027, "64 MiB together")
	if n := d.account().Scripts["w"].Versions; n != 1 {
		t.Errorf("%d versions after uploads that were refused", n)
	}
}

func TestRefusedUploadIsReadToItsEnd(t *testing.T) {
	d := newDesk(t, nil)
	ct, body := form(strings.Repeat(" ", 3<<20), file{"rest.txt", "text/plain", strings.Repeat("x", 3<<20)})
	rest := bytes.NewReader(body)
	refusal(t, d.call("PUT", "scripts/w", ct, rest), 10027, "metadata")
	if rest.Len() > 0 {
		t.Errorf("%d bytes of a refused upload were not read: clients that are still sending would not see why", rest.Len())
	}
}
