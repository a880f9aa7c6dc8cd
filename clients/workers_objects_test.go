package clients

import (
	"strings"
	"testing"
	"time"
)

// testObjects has wrangler migrate a class of Durable Objects that keeps something.
func testObjects(t *testing.T, p *project) {
	p.wrangler(t, "deploy")
	add := func(word string) string {
		t.Helper()
		return p.n.ask(t, "POST", p.host(t), "/add", word).body
	}
	if got := add("a"); got != `{"class":"First","words":["a"],"rang":0}` {
		t.Errorf("the object answers %s", got)
	}
	p.get(t, "/alarm")
	within(t, 10*time.Second, "the alarm", func() bool { return strings.HasSuffix(p.get(t, "/").body, `"rang":1}`) })

	// Without a migration a class cannot go: what it keeps would be lost by mistake.
	p.rewrite(t, "index.js", "class First", "class Second")
	p.rewrite(t, "wrangler.jsonc", `"class_name": "First"`, `"class_name": "Second"`)
	p.refused(t, []string{"Second"}, "deploy")
	p.expect(t, "/", `{"class":"First","words":["a"],"rang":1}`)

	p.rewrite(t, "wrangler.jsonc", `["First"] }`, `["First"] }, { "tag": "v2", "renamed_classes": [{ "from": "First", "to": "Second" }] }`)
	p.wrangler(t, "deploy")
	if got := add("b"); got != `{"class":"Second","words":["a","b"],"rang":1}` {
		t.Errorf("the object of the renamed class answers %s", got)
	}

	p.rewrite(t, "index.js", "class Second", "class Third")
	p.rewrite(t, "wrangler.jsonc", `"class_name": "Second"`, `"class_name": "Third"`)
	p.rewrite(t, "wrangler.jsonc", `"Second" }] }`, `"Second" }] }, { "tag": "v3", "deleted_classes": ["Second"], "new_sqlite_classes": ["Third"] }`)
	p.wrangler(t, "deploy")
	if got := add("c"); got != `{"class":"Third","words":["c"],"rang":0}` {
		t.Errorf("the object of the new class answers %s", got)
	}
	p.wrangler(t, "delete", "--force")
}
