package clients

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestR2Wrangler has two versions of wrangler do with buckets and objects what people do with them.
func TestR2Wrangler(t *testing.T) {
	n := startNode(t)
	for i, w := range wranglers {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, n, w.folder, "callee", []string{"r2-new", "r2-old"}[i])
			p.buckets(t)
			p.objects(t)
			if i == 0 { // what the versions send does not differ; each command costs a second
				p.bucketRules(t)
				p.bucketNames(t)
				p.bucketQueues(t)
			}
			p.wrangler(t, "r2", "object", "delete", p.name+"/dir/large.bin", "--remote")
			p.wrangler(t, "r2", "bucket", "delete", p.name)
			p.refused(t, []string{"10006"}, "r2", "bucket", "info", p.name)
		})
	}
}

// expectIn runs wrangler and looks for what it has to say.
func (p *project) expectIn(t *testing.T, want []string, args ...string) {
	t.Helper()
	out := p.wrangler(t, args...)
	for _, text := range want {
		if !strings.Contains(out, text) {
			t.Errorf("wrangler %s does not say %q:\n%s", strings.Join(args, " "), text, out)
		}
	}
}

func (p *project) buckets(t *testing.T) {
	p.expectIn(t, []string{"Created bucket"}, "r2", "bucket", "create", p.name)
	p.expectIn(t, []string{"Created bucket"}, "r2", "bucket", "create", p.name+"-eu", "-J", "eu", "-s", "InfrequentAccess")
	p.refused(t, []string{"10004"}, "r2", "bucket", "create", p.name)
	p.expectIn(t, []string{p.name + "\n"}, "r2", "bucket", "list")
	p.expectIn(t, []string{p.name, "object_count:", "0", "Standard"}, "r2", "bucket", "info", p.name)
	p.expectIn(t, []string{p.name + "-eu", "InfrequentAccess"}, "r2", "bucket", "info", p.name+"-eu", "-J", "eu")
	p.expectIn(t, []string{"InfrequentAccess"}, "r2", "bucket", "update", "storage-class", p.name, "-s", "InfrequentAccess")
	p.wrangler(t, "r2", "bucket", "update", "storage-class", p.name, "-s", "Standard")
	p.wrangler(t, "r2", "bucket", "delete", p.name+"-eu", "-J", "eu")
	p.refused(t, []string{"does not offer"}, "r2", "bucket", "sippy", "get", p.name)
	p.refused(t, []string{"does not offer"}, "r2", "bucket", "catalog", "get", p.name)
}

func (p *project) objects(t *testing.T) {
	large := make([]byte, 30<<20)
	rand.Read(large)
	file, back := filepath.Join(p.dir, "large.bin"), filepath.Join(p.dir, "back.bin")
	if err := os.WriteFile(file, large, 0o600); err != nil {
		t.Fatal(err)
	}
	p.wrangler(t, "r2", "object", "put", p.name+"/dir/large.bin", "--remote", "--file", file, "--content-type", "application/x-large", "--cache-control", "max-age=5", "--content-language", "de", "-s", "InfrequentAccess")
	p.wrangler(t, "r2", "object", "get", p.name+"/dir/large.bin", "--remote", "--file", back)
	if got, err := os.ReadFile(back); err != nil || !bytes.Equal(got, large) {
		t.Errorf("the object came back with %d bytes of %d, %v", len(got), len(large), err)
	}
	listed := p.n.list(t, "/accounts/"+p.n.AccountID+"/r2/buckets/"+p.name+"/objects")
	if !strings.Contains(listed, `"application/x-large"`) || !strings.Contains(listed, `"InfrequentAccess"`) || !strings.Contains(listed, `"contentLanguage":"de"`) {
		t.Errorf("listed %s", listed)
	}
	p.refused(t, []string{"does not exist"}, "r2", "object", "get", p.name+"/none", "--remote", "--file", back)
	p.refused(t, []string{"not empty"}, "r2", "bucket", "delete", p.name)
	p.expectIn(t, []string{"object_count:", "1"}, "r2", "bucket", "info", p.name)
	if p.wrangle == "wrangler" {
		var list []map[string]string
		for _, name := range []string{"a", "b", "c"} {
			list = append(list, map[string]string{"key": "bulk/" + name, "file": file})
		}
		data, _ := json.Marshal(list)
		manifest := filepath.Join(p.dir, "bulk.json")
		if err := os.WriteFile(manifest, data, 0o600); err != nil {
			t.Fatal(err)
		}
		p.wrangler(t, "r2", "bulk", "put", p.name, "--remote", "--filename", manifest)
		for _, name := range []string{"a", "b", "c"} {
			p.wrangler(t, "r2", "object", "delete", p.name+"/bulk/"+name, "--remote")
		}
	}
}

func (p *project) bucketRules(t *testing.T) {
	write := func(name, content string) string {
		file := filepath.Join(p.dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	b := []string{"r2", "bucket"}
	do := func(want []string, args ...string) { p.expectIn(t, want, append(b[:2:2], args...)...) }
	do(nil, "cors", "set", p.name, "--file", write("cors.json", `{"rules":[{"allowed":{"origins":["https://a.test"],"methods":["GET"]},"maxAgeSeconds":60}]}`), "--force")
	do([]string{"https://a.test", "GET"}, "cors", "list", p.name)
	do(nil, "cors", "delete", p.name, "--force")
	do([]string{"Default Multipart Abort Rule"}, "lifecycle", "list", p.name)
	do([]string{"Added lifecycle rule"}, "lifecycle", "add", p.name, "expire-logs", "logs/", "--expire-days", "7", "--force")
	do([]string{"expire-logs", "logs/", "after 7 days"}, "lifecycle", "list", p.name)
	do(nil, "lifecycle", "add", p.name, "cold", "", "--ia-transition-date", "2030-01-01", "--force")
	do(nil, "lifecycle", "remove", p.name, "--name", "expire-logs")
	do(nil, "lifecycle", "set", p.name, "--file", write("life.json", `{"rules":[{"id":"one","enabled":true,"conditions":{"prefix":"x/"},"abortMultipartUploadsTransition":{"condition":{"type":"Age","maxAge":86400}}}]}`), "--force")
	do([]string{"one", "x/"}, "lifecycle", "list", p.name)
	do([]string{"Added lock rule"}, "lock", "add", p.name, "keep", "kept/", "--retention-days", "1", "--force")
	do([]string{"keep", "kept/"}, "lock", "list", p.name)
	small := write("small.txt", "locked")
	p.wrangler(t, "r2", "object", "put", p.name+"/kept/a", "--remote", "--file", small)
	p.refused(t, []string{"403"}, "r2", "object", "delete", p.name+"/kept/a", "--remote")
	do(nil, "lock", "remove", p.name, "--name", "keep")
	p.wrangler(t, "r2", "object", "delete", p.name+"/kept/a", "--remote")
}

func (p *project) bucketNames(t *testing.T) {
	zone := p.n.call(t, "POST", "/zones", map[string]any{"name": p.name + ".test", "account": map[string]any{"id": p.n.AccountID}})["id"].(string)
	host := "cdn." + p.name + ".test"
	p.expectIn(t, nil, "r2", "bucket", "domain", "add", p.name, "--domain", host, "--zone-id", zone, "--min-tls", "1.2", "--force")
	p.expectIn(t, []string{host, "active", "1.2"}, "r2", "bucket", "domain", "list", p.name)
	p.expectIn(t, []string{host, "active"}, "r2", "bucket", "domain", "get", p.name, "--domain", host)
	p.wrangler(t, "r2", "bucket", "domain", "update", p.name, "--domain", host, "--min-tls", "1.3")
	if got := p.n.ask(t, "GET", host, "/dir/large.bin", ""); got.status != 200 || len(got.body) != 30<<20 || got.header.Get("Content-Type") != "application/x-large" {
		t.Errorf("GET %s = %d, %d bytes, %v", host, got.status, len(got.body), got.header)
	}
	p.wrangler(t, "r2", "bucket", "domain", "remove", p.name, "--domain", host, "--force")
	if got := p.n.ask(t, "GET", host, "/dir/large.bin", ""); got.status == 200 {
		t.Errorf("the domain that was removed answers %d", got.status)
	}
	p.wrangler(t, "r2", "bucket", "dev-url", "enable", p.name, "--force")
	out := p.wrangler(t, "r2", "bucket", "dev-url", "get", p.name)
	_, rest, _ := strings.Cut(out, "https://")
	name, _, _ := strings.Cut(rest, ".r2.localhost")
	if got := p.n.ask(t, "GET", name+".r2.localhost", "/dir/large.bin", "", "Range", "bytes=0-9"); got.status != 206 || len(got.body) != 10 {
		t.Errorf("GET at the dev URL %q = %d, %d bytes\n%s", name, got.status, len(got.body), out)
	}
	p.wrangler(t, "r2", "bucket", "dev-url", "disable", p.name, "--force")
}

func (p *project) bucketQueues(t *testing.T) {
	p.wrangler(t, "queues", "create", p.name+"-queue")
	p.expectIn(t, nil, "r2", "bucket", "notification", "create", p.name, "--event-type", "object-create", "--queue", p.name+"-queue", "--prefix", "dir/")
	p.expectIn(t, []string{p.name + "-queue", "dir/", "PutObject"}, "r2", "bucket", "notification", "list", p.name)
	p.wrangler(t, "r2", "bucket", "notification", "delete", p.name, "--queue", p.name+"-queue")
}

// list returns the body of a listing.
func (n *node) list(t *testing.T, path string) string {
	t.Helper()
	_, envelope := n.try(t, "GET", path, nil)
	text, err := json.Marshal(envelope)
	if err != nil || envelope["success"] != true {
		t.Fatalf("GET %s: %s %v", path, text, err)
	}
	return string(text)
}
