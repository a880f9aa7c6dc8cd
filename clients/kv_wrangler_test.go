package clients

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWranglerKV has two versions of wrangler do to KV what people do with them.
func TestWranglerKV(t *testing.T) {
	n := startNode(t)
	for i, w := range wranglers {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			testWranglerKV(t, newProject(t, n, w.folder, "kv-oracle", fmt.Sprint("kv", i)))
		})
	}
}

func testWranglerKV(t *testing.T, p *project) {
	title := p.name + " title"
	out := p.wrangler(t, "kv", "namespace", "create", title)
	id := namespaceIn(t, p, title)
	if !strings.Contains(out, id) {
		t.Errorf("create does not show the ID %s:\n%s", id, out)
	}
	p.refused(t, []string{"already exists"}, "kv", "namespace", "create", title)
	p.rewrite(t, "wrangler.jsonc", "ID_HERE", id)
	kv := func(args ...string) []string {
		return append(append([]string{"kv"}, args...), "--binding", "KV", "--remote")
	}
	wrangler := func(args ...string) string { t.Helper(); return p.wrangler(t, kv(args...)...) }

	wrangler("key", "put", "plain", "a value")
	wrangler("key", "put", "with/slash and é", "another", "--metadata", `{"a":[1,"ü"]}`, "--ttl", "600")
	file := filepath.Join(p.dir, "bytes.bin")
	content := bytes.Repeat([]byte{0, 255, 10, 13}, 50_000)
	write(t, file, content)
	wrangler("key", "put", "bytes", "--path", file)
	if got := wrangler("key", "get", "plain", "--text"); !strings.Contains(got, "a value") {
		t.Errorf("get shows %q", got)
	}
	if got := wrangler("key", "get", "with/slash and é", "--text"); !strings.Contains(got, "another") {
		t.Errorf("get shows %q", got)
	}
	if got := wrangler("key", "get", "bytes"); !strings.Contains(got, string(content)) {
		t.Errorf("get of bytes shows %d bytes", len(got))
	}
	p.refused(t, []string{"404"}, kv("key", "get", "none")...)
	p.refused(t, []string{"60"}, kv("key", "put", "short", "x", "--ttl", "5")...)
	var keys []struct {
		Name       string
		Expiration int64
		Metadata   map[string]any
	}
	p.listed(t, &keys, kv("key", "list")...)
	if len(keys) != 3 || keys[2].Name != "with/slash and é" || keys[2].Expiration == 0 || fmt.Sprint(keys[2].Metadata["a"]) != "[1 ü]" {
		t.Errorf("list shows %+v", keys)
	}
	p.listed(t, &keys, kv("key", "list", "--prefix", "pl")...)
	if len(keys) != 1 || keys[0].Name != "plain" {
		t.Errorf("list of a prefix shows %+v", keys)
	}
	wrangler("key", "delete", "plain")
	p.refused(t, []string{"404"}, kv("key", "get", "plain")...)
	testWranglerBulk(t, p, kv)

	p.wrangler(t, "deploy")
	got := p.n.ask(t, "POST", p.host(t), "/", `[["get","with/slash and é"],["put","from the Worker","seen by wrangler"]]`)
	if got.body != `["another","undefined"]` {
		t.Errorf("the Worker says %d %q", got.status, got.body)
	}
	if got := wrangler("key", "get", "from the Worker", "--text"); !strings.Contains(got, "seen by wrangler") {
		t.Errorf("get shows %q", got)
	}
	p.wrangler(t, "delete", "--force")
	if p.wrangle == "wrangler" {
		p.wrangler(t, "kv", "namespace", "rename", "--namespace-id", id, "--new-name", title+" renamed")
		if namespaceIn(t, p, title+" renamed") != id {
			t.Error("the namespace was not renamed")
		}
	}
	p.wrangler(t, "kv", "namespace", "delete", "--namespace-id", id, "--skip-confirmation")
	if status, _ := p.n.try(t, "GET", "/accounts/"+p.n.AccountID+"/storage/kv/namespaces/"+id, nil); status != 404 {
		t.Errorf("the deleted namespace answers %d", status)
	}
}

// testWranglerBulk puts, gets and deletes 2,500 keys.
func testWranglerBulk(t *testing.T, p *project, kv func(...string) []string) {
	var pairs []map[string]any
	var names []string
	for i := range 2500 {
		name := fmt.Sprintf("bulk-%04d", i)
		pairs = append(pairs, map[string]any{"key": name, "value": "value " + name, "metadata": map[string]any{"i": i}})
		names = append(names, name)
	}
	pairs[7]["value"], pairs[7]["base64"] = "//79", true
	file := filepath.Join(p.dir, "pairs.json")
	writeJSON(t, file, pairs)
	p.wrangler(t, kv("bulk", "put", file)...)
	var keys []struct{ Name string }
	p.listed(t, &keys, kv("key", "list", "--prefix", "bulk-")...)
	if len(keys) != 2500 || keys[2499].Name != "bulk-2499" {
		t.Errorf("%d keys after a bulk put of 2500", len(keys))
	}
	writeJSON(t, file, names[10:60])
	if out := p.wrangler(t, kv("bulk", "get", file)...); !strings.Contains(out, `"value bulk-0059"`) {
		t.Errorf("bulk get shows %.1000s", out)
	}
	writeJSON(t, file, names)
	p.wrangler(t, kv("bulk", "delete", file, "--force")...)
	p.listed(t, &keys, kv("key", "list", "--prefix", "bulk-")...)
	if len(keys) != 0 {
		t.Errorf("%d keys after a bulk delete", len(keys))
	}
}

// namespaceIn returns the ID of the namespace of a title, as wrangler lists it.
func namespaceIn(t *testing.T, p *project, title string) string {
	t.Helper()
	var all []struct{ ID, Title string }
	p.listed(t, &all, "kv", "namespace", "list")
	for _, one := range all {
		if one.Title == title {
			return one.ID
		}
	}
	t.Fatalf("no namespace %q in %v", title, all)
	return ""
}

// listed runs wrangler and reads the list that it prints.
func (p *project) listed(t *testing.T, into any, args ...string) {
	t.Helper()
	out := p.wrangler(t, args...)
	at := strings.IndexByte(out, '[')
	if at < 0 {
		t.Fatalf("wrangler %s prints no list:\n%s", strings.Join(args, " "), out)
	}
	if err := json.NewDecoder(strings.NewReader(out[at:])).Decode(into); err != nil {
		t.Fatalf("wrangler %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func writeJSON(t *testing.T, file string, v any) {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, data)
}
