package cli_test

import (
	"strings"
	"testing"
)

func TestKV(t *testing.T) {
	const root = "/accounts/A/storage/kv/namespaces"
	const one = `{"id":"1","title":"sessions","key_count":2,"size_bytes":2048}`
	a := newAPI(t, map[string]string{
		"GET " + root: "[" + one + "]", "GET " + root + "/1": one, "POST " + root: one, "DELETE " + root + "/1": "null",
		"GET " + root + "/1/keys": `[{"name":"user:1","metadata":{"a":1}}]`, "PUT " + root + "/1/values/user:1": "null", "POST " + root + "/1/bulk/delete": "null",
	})
	for _, c := range []struct {
		line []string
		says string
	}{
		{[]string{"list"}, "sessions"}, {[]string{"create", "sessions"}, `"kv_namespaces"`}, {[]string{"keys", "sessions", "--prefix", "user:"}, `{"a":1}`},
		{[]string{"put", "sessions", "user:1", "value", "--ttl", "2m"}, ""}, {[]string{"remove", "1", "user:1", "user:2"}, ""}, {[]string{"delete", "sessions"}, "--yes"}, {[]string{"delete", "sessions", "--yes"}, "deleted"},
		{[]string{"get", "none", "k"}, `there is no KV namespace "none"`}, {[]string{"put", "sessions", "user:1"}, "--file"},
	} {
		_, out, errs := a.run(t.Context(), append([]string{"kv"}, c.line...)...)
		if out += errs; !strings.Contains(out, c.says) {
			t.Errorf("kv %q prints %q, want %q", c.line, out, c.says)
		}
	}
	seen := strings.Join(a.seen, "\n")
	for _, want := range []string{`values/user:1 value`, `bulk/delete ["user:1","user:2"]`} {
		if !strings.Contains(seen, want) {
			t.Errorf("the API was not asked %q:\n%s", want, seen)
		}
	}
}
