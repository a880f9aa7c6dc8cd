package queues_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"selvage/engine/isolate"
	"selvage/engine/state"
	"selvage/product"
	"selvage/product/producttest"
	"selvage/product/queues"
)

func TestProduct(t *testing.T) {
	producttest.Run(t, func(t *testing.T) product.Product {
		data := state.NewShared(t.TempDir(), state.Options{})
		must(t, data.Open())
		t.Cleanup(func() { data.Close("over") })
		p, err := queues.New(queues.Options{State: newDesk(t).state, DB: data})
		must(t, err)
		return p
	})
}

func TestRefusals(t *testing.T) {
	d := newDesk(t)
	id, dead := d.make("work"), d.make("dead")
	d.script("w", "fetch", "queue")
	d.script("deaf", "fetch")
	d.ok("POST", d.in("/"+id+"/consumers"), `{"type":"http_pull","dead_letter_queue":"dead"}`)
	long := strings.Repeat("x", 129_000)
	many := strings.TrimSuffix(strings.Repeat(`{"body":1},`, 101), ",")
	for _, tt := range []struct {
		method, path, body string
		status, code       int
	}{
		{"POST", "", `{"queue_name":"work"}`, 400, 11009},
		{"POST", "", `{"queue_name":"Work!"}`, 400, 11003},
		{"POST", "", `{}`, 400, 11003},
		{"POST", "", `{`, 400, 10026},
		{"PATCH", "/" + id, `{"queue_name":1}`, 400, 10026},
		{"PATCH", "/" + id, `{"queue_name":""}`, 400, 11003},
		{"POST", "", `{"queue_name":"x","settings":{"delivery_delay":86401}}`, 400, 100128},
		{"POST", "", `{"queue_name":"x","settings":{"message_retention_period":59}}`, 400, 100128},
		{"POST", "", `{"queue_name":"x","settings":{"message_retention_period":0}}`, 400, 100128},
		{"POST", "", `{"queue_name":"x","settings":{"message_retention_period":1209601}}`, 400, 100128},
		{"PATCH", "/" + id, `{"settings":{"delivery_delay":-1}}`, 400, 100128},
		{"GET", "/" + strings.Repeat("0", 32), ``, 404, 11000},
		{"DELETE", "/nothing", ``, 404, 11000},
		{"DELETE", "/" + dead, ``, 400, 11005},
		{"POST", "/" + id + "/consumers", `{"type":"worker","script_name":"w"}`, 400, 11004},
		{"POST", "/" + dead + "/consumers", `{"type":"worker","script_name":"none"}`, 404, 10007},
		{"POST", "/" + dead + "/consumers", `{"type":"worker","script_name":"deaf"}`, 400, 11001},
		{"POST", "/" + dead + "/consumers", `{"type":"email"}`, 400, 0},
		{"POST", "/" + dead + "/consumers", `{"type":1}`, 400, 10026},
		{"POST", "/" + dead + "/consumers", `{"type":"worker","script_name":"w","settings":{"batch_size":101}}`, 400, 100127},
		{"POST", "/" + dead + "/consumers", `{"type":"worker","script_name":"w","settings":{"max_retries":101}}`, 400, 100127},
		{"POST", "/" + dead + "/consumers", `{"type":"worker","script_name":"w","settings":{"max_wait_time_ms":60001}}`, 400, 100127},
		{"POST", "/" + dead + "/consumers", `{"type":"worker","script_name":"w","settings":{"max_concurrency":251}}`, 400, 100127},
		{"POST", "/" + dead + "/consumers", `{"type":"worker","script_name":"w","dead_letter_queue":"none"}`, 400, 11000},
		{"POST", "/" + dead + "/consumers", `{"type":"worker","script_name":"w","dead_letter_queue":"dead"}`, 400, 0},
		{"PUT", "/" + id + "/consumers/none", `{"type":"http_pull"}`, 404, 11000},
		{"POST", "/" + id + "/messages", `{"body":"` + long + `"}`, 400, 10204},
		{"POST", "/" + id + "/messages", `{"body":"x","content_type":"xml"}`, 400, 10203},
		{"POST", "/" + id + "/messages", `{"body":"x","content_type":"v8"}`, 400, 10203},
		{"POST", "/" + id + "/messages", `{"body":1,"content_type":"text"}`, 400, 10207},
		{"POST", "/" + id + "/messages", `{"body":"%","content_type":"bytes"}`, 400, 10207},
		{"POST", "/" + id + "/messages", `{"body":"x","delay_seconds":86401}`, 400, 10203},
		{"POST", "/" + id + "/messages", `{"content_type":"text"}`, 400, 10207},
		{"POST", "/" + id + "/messages", `{"body":1,"colour":"red"}`, 400, 10207},
		{"POST", "/" + id + "/messages", `{"body":`, 400, 10208},
		{"POST", "/" + strings.Repeat("0", 32) + "/messages", `{"body":1}`, 404, 10104},
		{"POST", "/" + strings.Repeat("0", 32) + "/messages/pull", `{}`, 404, 10104},
		{"POST", "/" + id + "/messages/batch", `{"messages":[]}`, 400, 10206},
		{"POST", "/" + id + "/messages/batch", `{"messages":[` + many + `]}`, 400, 10206},
		{"POST", "/" + id + "/messages/pull", `{"batch_size":101}`, 400, 10207},
		{"POST", "/" + id + "/messages/pull", `{"visibility_timeout_ms":43200001}`, 400, 10207},
		{"POST", "/" + dead + "/messages/pull", `{}`, 400, 0},
		{"POST", "/" + id + "/messages/ack", `{"retries":[{"lease_id":"x","delay_seconds":86401}]}`, 400, 10203},
		{"POST", "/" + id + "/purge", `{}`, 400, 10207},
	} {
		g := d.call(tt.method, d.in(tt.path), tt.body)
		if g.Success || g.Status != tt.status || tt.code != 0 && g.Errors[0].Code != tt.code {
			t.Errorf("%s %s %.90s: %d %.200s; want %d and code %d", tt.method, tt.path, tt.body, g.Status, g.Body, tt.status, tt.code)
		}
	}
	if n := d.backlog(id); n != "0" {
		t.Errorf("%s messages came of what was refused", n)
	}
	if g := d.ok("POST", d.in("/"+id+"/messages/ack"), `{"acks":[{"lease_id":"AAAA"}]}`); g.at("ackCount") != "0" || !strings.Contains(g.Body, "not a lease_id") {
		t.Errorf("a made-up lease: %s", g.Body)
	}
}

func TestBinding(t *testing.T) {
	d := newDesk(t)
	id := d.make("work")
	c := d.bound(d.owner.AccountID, "work")
	if status, _, body := post(t, c, "/message", `{"a":1}`, "X-Msg-Fmt", "json", "X-Msg-Delay-Secs", "3"); status != 200 || !strings.Contains(body, `"backlogCount":1,"backlogBytes":7,`) {
		t.Errorf("a message: %d %s", status, body)
	}
	two := fmt.Sprintf(`{"messages":[{"body":%q,"contentType":"bytes"},{"body":%q,"delaySecs":5}]}`, base64.StdEncoding.EncodeToString([]byte{0, 255}), "AA==")
	if status, _, body := post(t, c, "/batch", two, "CF-Queue-Batch-Count", "2"); status != 200 || !strings.Contains(body, `"backlogCount":3`) {
		t.Errorf("a batch: %d %s", status, body)
	}
	for name, tt := range map[string]struct {
		path, body, code string
		status           int
		fields           []string
	}{
		"large":    {"/message", strings.Repeat("x", 128_001), "10204", 413, nil},
		"format":   {"/message", "x", "10203", 400, []string{"X-Msg-Fmt", "xml"}},
		"not json": {"/message", "{", "10203", 400, []string{"X-Msg-Fmt", "json"}},
		"delay":    {"/message", "x", "10203", 400, []string{"X-Msg-Delay-Secs", "86401"}},
		"no delay": {"/message", "x", "10202", 400, []string{"X-Msg-Delay-Secs", "soon"}},
		"many":     {"/batch", "{}", "10206", 413, []string{"CF-Queue-Batch-Count", "101"}},
		"none":     {"/batch", "{}", "10206", 400, nil},
		"garbage":  {"/batch", "[", "10207", 400, nil},
		"together": {"/batch", batchOf(3, 100_000), "10205", 413, nil},
		"path":     {"/else", "x", "15000", 405, nil},
	} {
		if status, code, body := post(t, c, tt.path, tt.body, tt.fields...); status != tt.status || code != tt.code {
			t.Errorf("%s: %d %s %s, want %d %s", name, status, code, body, tt.status, tt.code)
		}
	}
	if n := d.backlog(id); n != "3" {
		t.Errorf("%s messages, want 3", n)
	}
	d.ok("PATCH", "/accounts/"+d.owner.AccountID+"/selvage/quotas", `{"queues_bytes":20,"queues_queues":1}`)
	if status, code, _ := post(t, c, "/message", strings.Repeat("x", 20)); status != 429 || code != "10251" {
		t.Errorf("over the quota: %d %s", status, code)
	}
	if g := d.call("POST", d.in(""), `{"queue_name":"second"}`); g.Success || !strings.Contains(g.Body, "queues_queues") {
		t.Errorf("a queue over the quota: %s", g.Body)
	}
	d.ok("DELETE", d.in("/"+id), "")
	if status, code, _ := post(t, c, "/message", "x"); status != 404 || code != "10104" {
		t.Errorf("a deleted queue: %d %s", status, code)
	}
}

func batchOf(n, size int) string {
	one := fmt.Sprintf(`{"body":%q}`, base64.StdEncoding.EncodeToString(make([]byte, size)))
	return `{"messages":[` + strings.TrimSuffix(strings.Repeat(one+",", n), ",") + `]}`
}

// TestTenants has the owner name another account's queue at every endpoint and as a binding.
func TestTenants(t *testing.T) {
	d := newDesk(t)
	mine := d.make("work")
	theirs := "/accounts/" + d.other + "/queues"
	foreign := d.ok("POST", theirs, `{"queue_name":"secret"}`).at("queue_id")
	d.ok("POST", theirs+"/"+foreign+"/consumers", `{"type":"http_pull"}`)
	d.ok("POST", theirs+"/"+foreign+"/messages", `{"body":"hidden","content_type":"text"}`)
	consumer := d.ok("GET", theirs+"/"+foreign+"/consumers", "")
	var list []struct{ Consumer_id string }
	must(t, json.Unmarshal(consumer.Result, &list))
	d.ok("POST", d.in("/"+mine+"/consumers"), `{"type":"http_pull"}`)
	for _, r := range d.queues.Routes() {
		path := strings.NewReplacer("{account_id}", d.owner.AccountID, "{queue_id}", foreign, "{consumer_id}", list[0].Consumer_id).Replace(r.Path)
		if strings.Contains(r.Path, "{queue_id}") {
			if g := d.call(r.Method, path, `{"queue_name":"stolen","type":"http_pull","body":"x","messages":[{"body":1}],"delete_messages_permanently":true}`); g.Success || strings.Contains(g.Body, "hidden") {
				t.Errorf("%s %s answers %d %s", r.Method, path, g.Status, g.Body)
			}
			for _, body := range []string{"", "{}", `{"body":"x"}`, `{"messages":[{"body":1}]}`, `{"delete_messages_permanently":true}`, `{"queue_name":"stolen"}`, `{"type":"http_pull"}`} {
				if g := d.call(r.Method, path, body); g.Success || strings.Contains(g.Body, "hidden") {
					t.Errorf("%s %s with %s answers %d %s", r.Method, path, body, g.Status, g.Body)
				}
			}
		}
	}
	if g := d.ok("GET", d.in("?name=secret"), ""); string(g.Result) != "[]" {
		t.Errorf("the listing shows %s", g.Body)
	}
	if status, code, _ := post(t, d.bound(d.owner.AccountID, "secret"), "/message", "x"); status != 404 || code != "10104" {
		t.Errorf("a binding to another's queue: %d %s", status, code)
	}
	pulled := d.ok("POST", theirs+"/"+foreign+"/messages/pull", `{}`)
	var m struct {
		Messages []struct{ Body, Lease_id string }
	}
	must(t, json.Unmarshal(pulled.Result, &m))
	if len(m.Messages) != 1 || m.Messages[0].Body != "hidden" {
		t.Fatalf("the other account pulls %s", pulled.Body)
	}
	if g := d.ok("POST", d.in("/"+mine+"/messages/ack"), fmt.Sprintf(`{"acks":[{"lease_id":%q}]}`, m.Messages[0].Lease_id)); g.at("ackCount") != "0" {
		t.Errorf("another's lease: %s", g.Body)
	}
	if g := d.ok("POST", theirs+"/"+foreign+"/messages/ack", fmt.Sprintf(`{"acks":[{"lease_id":%q}]}`, m.Messages[0].Lease_id)); g.at("ackCount") != "1" {
		t.Errorf("its own lease: %s", g.Body)
	}
}

// worker takes down what it is delivered.
type worker struct {
	mu      sync.Mutex
	batches [][]isolate.QueueMessage
	running atomic.Int32
	most    atomic.Int32
}

func (w *worker) note(batch isolate.QueueBatch) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.batches = append(w.batches, batch.Messages)
	return len(w.batches)
}

func (w *worker) bodies() (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.batches {
		for _, m := range b {
			all = append(all, fmt.Sprintf("%s#%d", m.Body, m.Attempts))
		}
	}
	return all
}

var done = isolate.Outcome{Outcome: "ok", Queue: json.RawMessage(`{"outcome":"ok"}`)}

func TestConcurrency(t *testing.T) {
	d := newDesk(t)
	d.script("w", "queue")
	id := d.make("work")
	d.ok("POST", d.in("/"+id+"/consumers"), `{"type":"worker","script_name":"w","settings":{"batch_size":2,"max_wait_time_ms":0,"max_concurrency":3}}`)
	w, release := &worker{}, make(chan struct{})
	d.workers(func(ctx context.Context, _, _ string, batch isolate.QueueBatch) (isolate.Outcome, error) {
		now := w.running.Add(1)
		defer w.running.Add(-1)
		w.most.Store(max(w.most.Load(), now))
		if w.note(batch) > 4 { // so many that the limit has grown
			select {
			case <-release:
			case <-ctx.Done():
			}
		}
		return done, nil
	})
	d.run()
	for range 3 {
		d.ok("POST", d.in("/"+id+"/messages/batch"), `{"messages":[`+strings.TrimSuffix(strings.Repeat(`{"body":1},`, 10), ",")+`]}`)
	}
	within(t, "three batches at once", func() bool { return w.running.Load() == 3 })
	close(release)
	within(t, "the end", func() bool { return d.backlog(id) == "0" })
	if most := w.most.Load(); most != 3 {
		t.Errorf("%d batches at once, want 3", most)
	}
}

func TestWorkerThatFails(t *testing.T) {
	d := newDesk(t)
	d.script("w", "queue")
	id, dead := d.make("work"), d.make("dead")
	d.ok("POST", d.in("/"+id+"/consumers"), `{"type":"worker","script_name":"w","dead_letter_queue":"dead","settings":{"batch_size":1,"max_wait_time_ms":0,"max_retries":3}}`)
	d.run()
	d.ok("POST", d.in("/"+id+"/messages"), `{"body":"m","content_type":"text"}`)
	w := &worker{}
	d.workers(func(ctx context.Context, _, _ string, batch isolate.QueueBatch) (isolate.Outcome, error) {
		switch w.note(batch) {
		case 1: // does not answer
			<-ctx.Done()
			return isolate.Outcome{}, ctx.Err()
		case 2: // loops
			return isolate.Outcome{}, &isolate.Stopped{Reason: isolate.ReasonCPU, Culprit: true}
		case 3: // does not start: no fault of the message
			return isolate.Outcome{}, &isolate.Stopped{Reason: isolate.ReasonStart}
		}
		return isolate.Outcome{Outcome: "exception", Queue: json.RawMessage(`{"outcome":"exception"}`)}, nil
	})
	d.rollout()
	within(t, "the dead letter", func() bool { return d.backlog(dead) == "1" })
	if got, want := fmt.Sprint(w.bodies()), "[m#1 m#2 m#3 m#3 m#4]"; got != want {
		t.Errorf("delivered %s, want %s", got, want)
	}
	if n := d.backlog(id); n != "0" {
		t.Errorf("%s messages are left", n)
	}
	if g := d.ok("POST", d.in("/"+dead+"/messages/preview"), `{}`); !strings.Contains(g.Body, `"body":"m"`) {
		t.Errorf("the dead letter is %s", g.Body)
	}
}

// TestSources pulls a message of each source, and one more out of the dead-letter queue.
func TestSources(t *testing.T) {
	d := newDesk(t)
	dead, id := d.make("dead"), d.make("work")
	d.ok("POST", d.in("/"+dead+"/consumers"), `{"type":"http_pull"}`)
	d.ok("POST", d.in("/"+id+"/consumers"), `{"type":"http_pull","settings":{"max_retries":0},"dead_letter_queue":"dead"}`)
	d.ok("POST", d.in("/"+id+"/messages"), `{"body":"api","content_type":"text"}`)
	if status, _, body := post(t, d.bound(d.owner.AccountID, "work"), "/message", "worker", "X-Msg-Fmt", "text"); status != 200 {
		t.Fatalf("the message of a Worker: %d %s", status, body)
	}
	must(t, d.queues.Send(t.Context(), d.owner.AccountID, id, queues.Message{ContentType: "text", Body: []byte("r2" + strings.Repeat(" ", 3000))}))
	for _, queue := range []string{id, dead} {
		var got struct {
			Messages []struct {
				Body     string
				LeaseID  string            `json:"lease_id"`
				Metadata map[string]string `json:"metadata"`
			}
		}
		must(t, json.Unmarshal(d.ok("POST", d.in("/"+queue+"/messages/pull"), `{}`).Result, &got))
		if len(got.Messages) != 3 {
			t.Fatalf("pulled %+v", got)
		}
		for _, m := range got.Messages {
			if source := m.Metadata["CF-sourceMessageSource"]; source != strings.TrimSpace(m.Body) {
				t.Errorf("the message of %.10q comes from %q", m.Body, source)
			}
			d.ok("POST", d.in("/"+queue+"/messages/ack"), `{"retries":[{"lease_id":"`+m.LeaseID+`"}]}`)
		}
	}
}

func TestBatchesWait(t *testing.T) {
	d := newDesk(t)
	d.script("w", "queue")
	id := d.make("work")
	d.ok("POST", d.in("/"+id+"/consumers"), `{"type":"worker","script_name":"w","settings":{"batch_size":4,"max_wait_time_ms":60000}}`)
	w := &worker{}
	d.workers(func(_ context.Context, _, _ string, batch isolate.QueueBatch) (isolate.Outcome, error) {
		w.note(batch)
		return done, nil
	})
	d.run()
	for i := range 7 {
		must(t, d.queues.Send(t.Context(), d.owner.AccountID, id, queues.Message{Body: fmt.Append(nil, i)}))
	}
	within(t, "a full batch", func() bool { return len(w.bodies()) == 4 })
	within(t, "its end", func() bool { return d.backlog(id) == "3" })
	d.ok("PUT", d.in("/"+id+"/consumers/"+consumerID(d, id)), `{"type":"worker","script_name":"w","settings":{"batch_size":3,"max_wait_time_ms":60000}}`)
	within(t, "a batch that is full by now", func() bool { return d.backlog(id) == "0" })
	if got := fmt.Sprint(w.bodies()); got != "[0#1 1#1 2#1 3#1 4#1 5#1 6#1]" {
		t.Errorf("delivered %s", got)
	}
}

func consumerID(d *desk, queue string) string {
	var list []struct{ Consumer_id string }
	must(d.t, json.Unmarshal(d.ok("GET", d.in("/"+queue+"/consumers"), "").Result, &list))
	return list[0].Consumer_id
}

func TestLeasesRunOut(t *testing.T) {
	d := newDesk(t)
	id := d.make("work")
	d.ok("POST", d.in("/"+id+"/consumers"), `{"type":"http_pull"}`)
	d.run()
	d.ok("POST", d.in("/"+id+"/messages"), `{"body":"m","content_type":"text"}`)
	for attempt := 1; attempt <= 3; attempt++ {
		within(t, fmt.Sprintf("attempt %d", attempt), func() bool {
			return strings.Contains(d.ok("POST", d.in("/"+id+"/messages/pull"), `{"visibility_timeout_ms":20}`).Body, fmt.Sprintf(`"attempts":%d`, attempt))
		})
	}
	d.ok("PATCH", d.in("/"+id), `{"settings":{"delivery_paused":true}}`)
	if g := d.call("POST", d.in("/"+id+"/messages/pull"), `{}`); g.Success || g.Errors[0].Code != 10252 || !strings.Contains(g.Body, "queue_delivery_paused") {
		t.Errorf("a paused queue: %d %s", g.Status, g.Body)
	}
	d.ok("POST", d.in("/"+id+"/purge"), `{"delete_messages_permanently":true}`)
	if g := d.ok("GET", d.in("/"+id+"/purge"), ""); g.at("started_at") == "" {
		t.Errorf("after a purge: %s", g.Body)
	}
}
