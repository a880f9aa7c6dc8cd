package node_test

import (
	"bufio"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

// watcher uses every product again and again for as long as its client reads, and says how that ended.
const watcher = `export default { fetch(request, env) {
  const uses = {
    kv: () => env.KV.get("key"),
    r2: () => env.BUCKET.head("key"),
    d1: () => env.DB.prepare("SELECT 1").first(),
    batch: () => env.DB.batch([env.DB.prepare("SELECT 1")]),
    exec: () => env.DB.exec("SELECT 1"),
    queue: () => env.QUEUE.send("message"),
  };
  const { readable, writable } = new TransformStream(), out = writable.getWriter();
  (async () => {
    for (;;) {
      const said = {};
      for (const [name, use] of Object.entries(uses)) said[name] = await use().then(() => "ok", (e) => String(e));
      await out.write(new TextEncoder().encode(JSON.stringify(said) + "\n"));
      await scheduler.wait(100);
    }
  })();
  return new Response(readable);
} }`

// TestScriptsReadWhyTheirDataIsAway kills a node that took over while a script still runs in the one before:
// nobody has the data then, and each product's client throws an error that says so.
func TestScriptsReadWhyTheirDataIsAway(t *testing.T) {
	t.Parallel()
	p := up(t, t.TempDir())
	n := deployNumbers(t, p) // for what it makes
	bindings := strings.NewReplacer("KV-ID", n.made["kv"], "D1-ID", n.made["d1"]).Replace(
		`"bindings":[{"type":"kv_namespace","name":"KV","namespace_id":"KV-ID"},{"type":"r2_bucket","name":"BUCKET","bucket_name":"numbers"},
		{"type":"d1","name":"DB","id":"D1-ID"},{"type":"queue","name":"QUEUE","queue_name":"numbers"}],"compatibility_flags":["queue_expose_error_codes"]`)
	s := p.deploy("watcher", script{source: watcher, meta: bindings})
	req, err := http.NewRequest("GET", p.HTTP, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = s.host
	res, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	said := func() (all map[string]string) {
		if !lines.Scan() {
			t.Fatalf("the script's answer ended: %v\n%s", lines.Err(), p.log)
		}
		if err := json.Unmarshal(lines.Bytes(), &all); err != nil {
			t.Fatalf("%v: %s", err, lines.Bytes())
		}
		return all
	}
	well := map[string]string{"kv": "ok", "r2": "ok", "d1": "ok", "batch": "ok", "exec": "ok", "queue": "ok"}
	if got := said(); !maps.Equal(got, well) {
		t.Fatalf("before: %v", got)
	}
	next := up(t, p.dir, "--takeover")
	if got := said(); !maps.Equal(got, well) {
		t.Errorf("while the node is taken over: %v", got)
	}
	next.stop(syscall.SIGKILL)
	const why = "The node was taken over by a new process, which does not answer: try again."
	want := map[string]string{
		"kv":    "Error: KV GET failed: 503 " + why,
		"r2":    "Error: head: " + why + " (10001)",
		"d1":    "Error: D1_ERROR: " + why,
		"batch": "Error: D1_ERROR: " + why,
		"exec":  "Error: D1_EXEC_ERROR: Error in line 1: SELECT 1: " + why,
		"queue": "Error: " + why + " (15000)",
	}
	for range 20 { // the first may have been under way
		got := said()
		if maps.Equal(got, want) {
			return
		}
		t.Logf("not yet: %v", got)
	}
	t.Errorf("never answered %v\n%s", want, p.log)
}
