package node_test

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"
)

// queueWorker sends what it is asked for and takes down, in a Durable Object, what it is delivered. What a
// message's body says is what becomes of it.
const queueWorker = `import { DurableObject } from "cloudflare:workers";
export class Book extends DurableObject {
  async fetch(request) {
    if (request.method === "GET") return Response.json([...(await this.ctx.storage.list({ prefix: "d" })).values()]);
    const note = await request.json();
    const n = ((await this.ctx.storage.get("n")) ?? 0) + 1;
    await this.ctx.storage.put({ n, ["d" + String(n).padStart(8, "0")]: note });
    return new Response("noted");
  }
}
export default {
  async fetch(request, env) {
    const url = new URL(request.url), book = env.BOOK.getByName("book");
    switch (url.pathname) {
      case "/send":
        try {
          const answer = await env.OUT.send(await request.json(), Object.fromEntries([...url.searchParams].map(([k, v]) => [k, isNaN(v) ? v : +v])));
          return Response.json(answer ?? {});
        } catch (e) { return new Response(String(e), { status: 500 }); }
      case "/batch":
        try {
          await env.OUT.sendBatch((await request.json()).map((m) => ({ body: m })));
          return new Response("sent");
        } catch (e) { return new Response(String(e), { status: 500 }); }
      case "/types":
        await env.OUT.sendBatch([
          { body: "words", contentType: "text" }, { body: new Uint8Array([1, 2, 255]), contentType: "bytes" },
          { body: { a: [1] }, contentType: "json" }, { body: new Map([["k", new Date(7)]]), contentType: "v8" }]);
        return new Response("sent");
      case "/metrics":
        return Response.json(await env.OUT.metrics());
    }
    return book.fetch("http://book/");
  },
  async queue(batch, env) {
    const book = env.BOOK.getByName("book");
    const note = { queue: batch.queue, messages: batch.messages.map((m) => ({ id: m.id, attempts: m.attempts, body: m.body instanceof Map ? "map " + m.body.get("k").getTime() : m.body instanceof ArrayBuffer || ArrayBuffer.isView(m.body) ? "bytes " + new Uint8Array(m.body).join() : m.body })) };
    await book.fetch("http://book/", { method: "POST", body: JSON.stringify(note) });
    for (const m of batch.messages) {
      const does = String(m.body?.does ?? "");
      if (does === "retry") m.retry({ delaySeconds: m.body.delay ?? 0 });
      if (does === "ack") m.ack();
      if (does === "ackAll") batch.ackAll();
      if (does === "retryAll") batch.retryAll();
    }
    for (const m of batch.messages) {
      const does = String(m.body?.does ?? "");
      if (does === "throw") throw new Error("as asked");
      if (does === "throw once" && m.attempts === 1) throw new Error("as asked");
      if (does === "loop") for (;;) {}
      if (does === "loop once" && m.attempts === 1) for (;;) {}
      if (does === "hang") await new Promise(() => {});
    }
  },
};`

// queueRig is a node with a queue, its dead-letter queue and a Worker that sends to the first and consumes
// both.
type queueRig struct {
	*process
	*site
	queue, dead string // IDs
}

const queueBindings = `"bindings":[{"type":"queue","name":"OUT","queue_name":"work"},{"type":"durable_object_namespace","name":"BOOK","class_name":"Book"}],"migrations":{"new_tag":"1","new_sqlite_classes":["Book"]}`

// newQueueRig makes one. settings are those of the consumer of the queue called work, as JSON.
func newQueueRig(p *process, settings string) *queueRig {
	p.t.Helper()
	r := &queueRig{process: p}
	r.queue, r.dead = r.makeQueue("work"), r.makeQueue("dead")
	r.site = p.deploy("worker", script{source: queueWorker, meta: queueBindings})
	r.must("POST", "/queues/"+r.queue+"/consumers", fmt.Sprintf(`{"type":"worker","script_name":"worker","dead_letter_queue":"dead","settings":%s}`, settings), nil)
	r.must("POST", "/queues/"+r.dead+"/consumers", `{"type":"worker","script_name":"worker","settings":{"max_wait_time_ms":0}}`, nil)
	return r
}

func (r *queueRig) makeQueue(name string) string {
	var q struct {
		ID string `json:"queue_id"`
	}
	r.must("POST", "/queues", fmt.Sprintf(`{"queue_name":%q}`, name), &q)
	return q.ID
}

// must calls the API of the node's account.
func (r *queueRig) must(method, path, body string, result any) {
	r.process.t.Helper()
	if err := r.call(method, "/accounts/"+r.AccountID+path, body, result); err != nil {
		r.process.t.Fatalf("%v\n%s", err, r.log)
	}
}

// post sends to the Worker.
func (r *queueRig) post(path, body string) {
	r.process.t.Helper()
	if a, err := r.do("POST", path, strings.NewReader(body)); err != nil || a.status != 200 {
		r.process.t.Fatalf("POST %s: %d %s, %v\n%s", path, a.status, a.body, err, r.log)
	}
}

// delivered is a batch as the Worker noted it.
type delivered struct {
	Queue    string
	Messages []struct {
		ID       string
		Attempts int
		Body     json.RawMessage
	}
}

// book returns what the Worker noted so far.
func (r *queueRig) book() (all []delivered) {
	a, err := r.do("GET", "/", nil)
	if err == nil {
		err = json.Unmarshal([]byte(a.body), &all)
	}
	if err != nil {
		r.process.t.Logf("the book: %v: %d %.200s", err, a.status, a.body)
	}
	return all
}

// lines shows what was delivered, a line for each message: QUEUE#ATTEMPTS BODY, sorted.
func lines(all []delivered) []string {
	var list []string
	for _, d := range all {
		for _, m := range d.Messages {
			list = append(list, fmt.Sprintf("%s#%d %s", d.Queue, m.Attempts, m.Body))
		}
	}
	sort.Strings(list)
	return list
}

// await waits until the Worker has noted so many messages, and returns them.
func (r *queueRig) await(n int) []string {
	r.process.t.Helper()
	var got []string
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if got = lines(r.book()); len(got) >= n {
			return got
		}
	}
	r.process.t.Fatalf("%d messages were delivered, want %d: %q\n%s", len(got), n, got, r.log)
	return nil
}

// backlog returns how many messages a queue has.
func (r *queueRig) backlog(id string) int {
	var m struct {
		Count int `json:"backlog_count"`
	}
	r.must("GET", "/queues/"+id+"/metrics", "", &m)
	return m.Count
}

// awaitEmpty waits until nothing is left in a queue.
func (r *queueRig) awaitEmpty(id string) {
	r.process.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); r.backlog(id) > 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.process.t.Fatalf("%d messages are left in the queue %s\n%s", r.backlog(id), id, r.log)
		}
	}
}

// noted is names that were acknowledged, gathered by many.
type noted struct {
	mu    sync.Mutex
	names []string
}

func (n *noted) add(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names = append(n.names, name)
}

func (n *noted) all() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string{}, n.names...)
}
