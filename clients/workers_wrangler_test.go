package clients

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestWrangler has two versions of wrangler do to one node what people do with them.
func TestWrangler(t *testing.T) {
	n := startNode(t)
	n.addSite(t, "site.test", 9)
	newProject(t, n, "wrangler", "callee", "callee").wrangler(t, "deploy")
	for i, w := range wranglers {
		short := fmt.Sprintf("w%d", i)
		for name, do := range map[string]func(*testing.T, *project){
			"everything": testDeploy, "service": testServiceWorker, "split": testVersions, "secret": testSecrets, "tailed": testTail, "objects": testObjects,
		} {
			program, ok := map[string]string{"secret": "split"}[name]
			if !ok {
				program = name
			}
			t.Run(w.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				do(t, newProject(t, n, w.folder, program, short+"-"+name))
			})
		}
		t.Run(w.name+"/refusals", func(t *testing.T) {
			t.Parallel()
			testRefusals(t, n, w.folder)
		})
	}
}

// testDeploy deploys one of everything, changes it, and deletes it.
func testDeploy(t *testing.T, p *project) {
	p.rewrite(t, "wrangler.jsonc", "LIMIT_ID", map[string]string{"wrangler": "1001", "wrangler-4.86": "1002"}[p.wrangle])
	p.rewrite(t, "wrangler.jsonc", "DATASET", strings.ReplaceAll(p.name, "-", "_"))
	if out := p.wrangler(t, "whoami"); !strings.Contains(out, p.n.AccountID) {
		t.Errorf("wrangler whoami does not show account %s:\n%s", p.n.AccountID, out)
	}
	out := p.wrangler(t, "deploy")
	version := versionIn(t, out, "Current Version ID:")
	for _, want := range []string{"www.site.test/" + p.name + "/*", p.name + ".site.test (custom domain)", "schedule: */30 * * * *"} {
		if !strings.Contains(out, want) {
			t.Errorf("wrangler deploy does not show %q:\n%s", want, out)
		}
	}
	p.bindings(t)
	p.assets(t)
	p.n.call(t, "POST", "/accounts/"+p.n.AccountID+"/selvage/workers/scripts/"+p.name+"/schedules/run", map[string]any{"cron": "*/30 * * * *"})
	p.expect(t, "/counter?cron", "2")
	if v := p.get(t, "/version").decoded(t); v["id"] != version || v["timestamp"] == "" {
		t.Errorf("version metadata = %v, want ID %s", v, version)
	}
	for host, path := range map[string]string{"www.site.test": "/" + p.name + "/x", p.name + ".site.test": "/x"} {
		if got := p.n.ask(t, "GET", host, path, ""); got.body != "first "+p.name+" "+path {
			t.Errorf("GET %s%s = %d %q", host, path, got.status, got.body)
		}
	}
	if got := p.n.curl(t, p.n.HTTPS, p.name+".site.test", "/x"); got != "first "+p.name+" /x" {
		t.Errorf("the custom domain over HTTPS: %q", got)
	}

	p.rewrite(t, "index.js", "first "+p.name, "second "+p.name)
	p.rewrite(t, "wrangler.jsonc", `"*/30 * * * *"`, `"15 3 * * 1"`)
	if second := versionIn(t, p.wrangler(t, "deploy"), "Current Version ID:"); second == version {
		t.Errorf("the second deploy has the first one's version ID %s", version)
	}
	p.expect(t, "/x", "second "+p.name+" /x")
	p.expect(t, "/counter?a", "3")

	p.rewrite(t, "wrangler.jsonc", "www.site.test/"+p.name+"/*", "site.test/"+p.name+"-moved/*")
	if out := p.wrangler(t, "triggers", "deploy"); !strings.Contains(out, "-moved/*") {
		t.Errorf("wrangler triggers deploy does not show the new route:\n%s", out)
	}
	if got := p.n.ask(t, "GET", "site.test", "/"+p.name+"-moved/x", ""); !strings.HasPrefix(got.body, "second ") {
		t.Errorf("the moved route answers %d %q", got.status, got.body)
	}
	if got := p.n.ask(t, "GET", "www.site.test", "/"+p.name+"/x", ""); strings.HasPrefix(got.body, "second ") {
		t.Errorf("the route that was taken away still answers %q", got.body)
	}

	p.types(t)
	host := p.host(t)
	p.wrangler(t, "delete", "--force")
	if got := p.n.ask(t, "GET", host, "/x", ""); strings.HasPrefix(got.body, "second ") {
		t.Errorf("the deleted Worker still answers %q", got.body)
	}
}

// bindings asks for an answer of each binding.
func (p *project) bindings(t *testing.T) {
	t.Helper()
	p.expect(t, "/vars", `{"text":"plain","object":{"deep":[1,2]},"words":"words from a text module"}`)
	p.expect(t, "/wasm", "42")
	p.expect(t, "/counter?a", "1")
	p.expect(t, "/counter?a", "2")
	p.expect(t, "/counter?b", "1")
	if got := p.n.ask(t, "POST", p.host(t), "/bound", "a body"); got.body != "callee heard POST /path a body" {
		t.Errorf("the service binding answers %d %q", got.status, got.body)
	}
	p.expect(t, "/rpc", "[6,7,[10,20]]")
	p.expect(t, "/limit?a", `{"success":true}`)
	p.expect(t, "/limit?a", `{"success":true}`)
	p.expect(t, "/limit?a", `{"success":false}`)
	p.expect(t, "/limit?b", `{"success":true}`)
	within(t, 10*time.Second, "an answer from the Cache API", func() bool {
		return p.get(t, "/cached").body == p.get(t, "/cached").body
	})
	if got := p.get(t, "/point?red"); got.status != 204 {
		t.Errorf("GET /point = %d %q", got.status, got.body)
	}
	within(t, 10*time.Second, "the data point's arrival", func() bool {
		return strings.Contains(p.points(t), "?red")
	})
}

// points asks for the data points that the Worker wrote, in the SQL of Analytics Engine.
func (p *project) points(t *testing.T) string {
	t.Helper()
	dataset := "points_" + strings.ReplaceAll(p.name, "-", "_")
	out, _ := try(t, nil, "curl", "-sS", "-H", "Authorization: Bearer "+p.n.Token, "--data",
		"SELECT blob1, blob2, double1, index1 FROM "+dataset+" FORMAT JSON", p.n.API+"/accounts/"+p.n.AccountID+"/analytics_engine/sql")
	return out
}

// assets asks for static assets, with and without the Worker.
func (p *project) assets(t *testing.T) {
	t.Helper()
	got := p.get(t, "/page")
	if got.status != 200 || !strings.Contains(got.body, "an asset") || got.header.Get("X-From") != "headers file" ||
		!strings.HasPrefix(got.header.Get("Content-Type"), "text/html") {
		t.Errorf("GET /page = %d %v %q", got.status, got.header, got.body)
	}
	if got := p.n.ask(t, "GET", p.host(t), "/page", "", "If-None-Match", got.header.Get("Etag")); got.status != 304 {
		t.Errorf("GET /page with its ETag = %d, want 304", got.status)
	}
	if got := p.get(t, "/old"); got.status != 301 || got.header.Get("Location") != "/page" {
		t.Errorf("GET /old = %d %v, want a redirect to /page", got.status, got.header)
	}
	if got := p.get(t, "/asset"); !strings.Contains(got.body, "an asset") {
		t.Errorf("the assets binding answers %d %q", got.status, got.body)
	}
	p.expect(t, "/first/page", "first "+p.name+" /first/page")
}

// types has wrangler write the types of the bindings, which needs no server.
func (p *project) types(t *testing.T) {
	t.Helper()
	p.wrangler(t, "types")
	data, err := os.ReadFile(filepath.Join(p.dir, "worker-configuration.d.ts"))
	if err != nil || !strings.Contains(string(data), "COUNTER") {
		t.Errorf("wrangler types wrote no COUNTER: %v", err)
	}
}

// testServiceWorker deploys the older syntax, twice.
func testServiceWorker(t *testing.T, p *project) {
	p.wrangler(t, "deploy")
	if got := p.n.ask(t, "POST", p.host(t), "/", "hello"); got.body != "a service worker heard hello" {
		t.Errorf("the service worker answers %d %q", got.status, got.body)
	}
	p.wrangler(t, "deploy", "--var", "WHO:another")
	if got := p.n.ask(t, "POST", p.host(t), "/", "hello"); got.body != "another heard hello" {
		t.Errorf("the service worker answers %d %q", got.status, got.body)
	}
}

// testVersions uploads versions, splits the traffic, and rolls back.
func testVersions(t *testing.T, p *project) {
	one := versionIn(t, p.wrangler(t, "deploy"), "Current Version ID:")
	two := versionIn(t, p.wrangler(t, "versions", "upload", "--var", "WHICH:two", "--tag", "second", "--message", "the second"), "Worker Version ID:")
	if got := p.get(t, "/").decoded(t); got["which"] != "one" {
		t.Errorf("an uploaded version answers: %v", got)
	}
	if got := p.n.ask(t, "GET", two[:8]+"-"+p.host(t), "/", "").decoded(t); got["which"] != "two" {
		t.Errorf("the version's preview answers %v", got)
	}
	var listed []struct {
		ID          string            `json:"id"`
		Annotations map[string]string `json:"annotations"`
	}
	p.json(t, &listed, "versions", "list", "--json")
	if len(listed) != 2 || listed[len(listed)-1].ID != two || listed[len(listed)-1].Annotations["workers/tag"] != "second" {
		t.Errorf("wrangler versions list = %+v", listed)
	}
	if out := p.wrangler(t, "versions", "view", two); !strings.Contains(out, "the second") || !strings.Contains(out, "WHICH") {
		t.Errorf("wrangler versions view:\n%s", out)
	}
	if got := p.n.ask(t, "GET", p.host(t), "/", "", "Cloudflare-Workers-Version-Overrides", p.name+`="`+two+`"`).decoded(t); got["which"] != "one" {
		t.Errorf("a version that is not deployed answers by override: %v", got)
	}

	p.wrangler(t, "versions", "deploy", one+"@50%", two+"@50%", "--yes", "--message", "halves")
	seen := map[any]int{}
	for range 60 {
		seen[p.get(t, "/").decoded(t)["which"]]++
	}
	if seen["one"] < 10 || seen["two"] < 10 || seen["one"]+seen["two"] != 60 {
		t.Errorf("of 60 requests at 50%% each: %v", seen)
	}
	got := p.n.ask(t, "GET", p.host(t), "/", "", "Cloudflare-Workers-Version-Overrides", p.name+`="`+two+`"`).decoded(t)
	if got["which"] != "two" || got["tag"] != "second" || got["version"] != two {
		t.Errorf("the version override answers %v", got)
	}
	for _, command := range []string{"list", "status"} {
		if out := p.wrangler(t, "deployments", command); !strings.Contains(out, one) || !strings.Contains(out, two) || !strings.Contains(out, "50%") {
			t.Errorf("wrangler deployments %s:\n%s", command, out)
		}
	}
	p.wrangler(t, "rollback", one, "--yes", "--message", "back")
	for range 20 {
		if got := p.get(t, "/").decoded(t); got["which"] != "one" || got["version"] != one {
			t.Fatalf("after the rollback to %s: %v", one, got)
		}
	}
}

// json runs a wrangler that prints JSON.
func (p *project) json(t *testing.T, into any, args ...string) {
	t.Helper()
	cmd := p.command(t, args...)
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, into)
	}
	if err != nil {
		t.Fatalf("wrangler %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// testSecrets puts secrets in all ways that wrangler has.
func testSecrets(t *testing.T, p *project) {
	secrets := func() map[string]any {
		t.Helper()
		return p.get(t, "/").decoded(t)["secrets"].(map[string]any)
	}
	p.wrangler(t, "deploy")
	p.wranglerWith(t, "first value", "secret", "put", "SECRET_A")
	if got := secrets(); got["SECRET_A"] != "first value" {
		t.Errorf("after secret put: %v", got)
	}
	p.wranglerWith(t, `{"SECRET_B":"b","SECRET_C":"c"}`, "secret", "bulk")
	if got := secrets(); fmt.Sprint(got) != "map[SECRET_A:first value SECRET_B:b SECRET_C:c]" {
		t.Errorf("after secret bulk: %v", got)
	}
	var listed []map[string]string
	p.json(t, &listed, "secret", "list")
	if len(listed) != 3 || strings.Contains(fmt.Sprint(listed), "first value") {
		t.Errorf("wrangler secret list = %v", listed)
	}
	p.wrangler(t, "deploy")
	if got := secrets(); len(got) != 3 {
		t.Errorf("after another deploy: %v", got)
	}
	p.wranglerWith(t, "y", "secret", "delete", "SECRET_A")
	if got := secrets(); fmt.Sprint(got) != "map[SECRET_B:b SECRET_C:c]" {
		t.Errorf("after secret delete: %v", got)
	}
	version := versionIn(t, p.wranglerWith(t, "later", "versions", "secret", "put", "SECRET_D"), "version")
	if got := secrets(); len(got) != 2 {
		t.Errorf("versions secret put deployed: %v", got)
	}
	p.wrangler(t, "versions", "deploy", version+"@100%", "--yes")
	if got := secrets(); fmt.Sprint(got) != "map[SECRET_B:b SECRET_C:c SECRET_D:later]" {
		t.Errorf("after the deploy of the version with the secret: %v", got)
	}
}

// testRefusals deploys what cannot be, and reads why.
func testRefusals(t *testing.T, n *node, wrangle string) {
	newProject(t, n, wrangle, "broken", "broken").refused(t, []string{"10021", "TypeError", "name"}, "deploy")
	newProject(t, n, wrangle, "syntax", "syntax").refused(t, []string{"10021", "SyntaxError"}, "deploy")
	newProject(t, n, wrangle, "kv", "kv").refused(t, []string{"KV"}, "deploy")
	status, envelope := n.try(t, "GET", "/accounts/"+n.AccountID+"/workers/scripts", nil)
	if text := fmt.Sprint(envelope["result"]); status != 200 || strings.Contains(text, "broken") || strings.Contains(text, "syntax") {
		t.Errorf("after refused deploys there are %v", text)
	}
}
