package node_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestQueueToWorker(t *testing.T) {
	r := newQueueRig(up(t, t.TempDir()), `{"batch_size":3,"max_wait_time_ms":200,"max_retries":1}`)
	r.post("/types", "")
	want := []string{`work#1 "bytes 1,2,255"`, `work#1 "map 7"`, `work#1 "words"`, `work#1 {"a":[1]}`}
	if got := r.await(4); !slices.Equal(got, want) {
		t.Errorf("the content types arrived as %q, want %q", got, want)
	}
	r.awaitEmpty(r.queue)
	if sizes := fmt.Sprint(len(r.book()[0].Messages), len(r.book()[1].Messages)); sizes != "3 1" {
		t.Errorf("batches of %s, want 3 1", sizes)
	}
	var metrics map[string]any
	if err := json.Unmarshal([]byte(r.get("/metrics").body), &metrics); err != nil || metrics["backlogCount"] != 0.0 {
		t.Errorf("metrics() = %v, %v", metrics, err)
	}
	var worker struct {
		References struct {
			Queues []struct {
				ID   string `json:"queue_id"`
				Name string `json:"queue_name"`
			}
		}
	}
	r.must("GET", "/workers/workers/worker", "", &worker)
	names := map[string]string{}
	for _, q := range worker.References.Queues {
		names[q.ID] = q.Name
	}
	if want := map[string]string{r.queue: "work", r.dead: "dead"}; !maps.Equal(names, want) {
		t.Errorf("the Worker consumes %v, want %v", names, want)
	}
	// Explicit acknowledgements hold although the handler throws; the rest is tried again, once.
	r.post("/batch", `[{"does":"ack"},{"does":"throw"},{"does":"plain"}]`)
	r.await(4 + 3 + 2 + 2)
	r.awaitEmpty(r.queue)
	r.awaitEmpty(r.dead)
	counts := map[string]int{}
	for _, l := range lines(r.book())[:] {
		counts[l]++
	}
	for l, n := range map[string]int{
		`work#1 {"does":"ack"}`: 1, `work#2 {"does":"ack"}`: 0,
		`work#1 {"does":"throw"}`: 1, `work#2 {"does":"throw"}`: 1, `work#2 {"does":"plain"}`: 1, `dead#1 {"does":"plain"}`: 1,
	} {
		if counts[l] != n {
			t.Errorf("%s was delivered %d times, want %d; all: %v", l, counts[l], n, counts)
		}
	}
	r.get("/") // what the dead letter that throws does is its own queue's
}

func TestQueueVerdicts(t *testing.T) {
	r := newQueueRig(up(t, t.TempDir()), `{"batch_size":10,"max_wait_time_ms":100,"max_retries":5}`)
	for _, tt := range []struct{ batch, want string }{
		{`[{"does":"retry","n":1},{"n":2}]`, "1:many 2:1"},
		{`[{"does":"ackAll","n":3},{"does":"throw","n":4}]`, "3:1 4:1"},
		{`[{"does":"ack","n":5},{"does":"retryAll","n":6}]`, "5:1 6:many"},
	} {
		before := len(lines(r.book()))
		r.post("/batch", tt.batch)
		want := 2
		if strings.Contains(tt.want, "many") {
			want = 7 + 1 // one acked at once, one tried six times and then a dead letter
		}
		r.await(before + want)
		r.awaitEmpty(r.queue)
		tries := map[string]int{}
		for _, d := range r.book() {
			for _, m := range d.Messages {
				var b struct{ N int }
				if err := json.Unmarshal(m.Body, &b); err == nil && d.Queue == "work" {
					tries[fmt.Sprint(b.N)]++
				}
			}
		}
		for _, w := range strings.Fields(tt.want) {
			n, times, _ := strings.Cut(w, ":")
			if got := tries[n]; times == "1" && got != 1 || times == "many" && got != 6 {
				t.Errorf("after %s message %s was delivered %d times, want %s", tt.batch, n, got, times)
			}
		}
	}
}

func TestQueueOfFailingWorker(t *testing.T) {
	r := newQueueRig(up(t, t.TempDir()), `{"batch_size":1,"max_wait_time_ms":0,"max_retries":2,"max_concurrency":1}`)
	r.site = r.deploy("worker", script{source: queueWorker, meta: queueBindings[:strings.Index(queueBindings, `,"migrations"`)] + `,"limits":{"cpu_ms":300}`})
	r.must("POST", "/queues/"+r.queue+"/messages", `{"body":{"does":"loop once"}}`, nil)
	got := r.await(2) // the child is ended for its CPU time, and the message comes again
	if want := []string{`work#1 {"does":"loop once"}`, `work#2 {"does":"loop once"}`}; !slices.Equal(got, want) {
		t.Errorf("delivered %q, want %q", got, want)
	}
	r.awaitEmpty(r.queue)
	// A Worker that is not there any more keeps nobody's messages from waiting.
	if err := r.call("DELETE", "/accounts/"+r.AccountID+"/workers/scripts/worker?force=true", "", nil); err != nil {
		t.Fatal(err)
	}
	r.must("POST", "/queues/"+r.queue+"/messages", `{"body":{"waits":true}}`, nil)
	if n := r.backlog(r.queue); n != 1 {
		t.Errorf("%d messages wait, want 1", n)
	}
	r.site = r.deploy("worker", script{source: queueWorker, meta: queueBindings})
	if got := r.await(1); got[len(got)-1] != `work#1 {"waits":true}` {
		t.Errorf("delivered %q", got)
	}
	r.awaitEmpty(r.queue)
}

func TestPausedQueue(t *testing.T) {
	r := newQueueRig(up(t, t.TempDir()), `{"batch_size":1,"max_wait_time_ms":0}`)
	r.must("PATCH", "/queues/"+r.queue, `{"settings":{"delivery_paused":true}}`, nil)
	r.post("/send", `"held"`)
	r.post("/send?delaySeconds=1", `"late"`)
	if n := r.backlog(r.queue); n != 2 || len(r.book()) != 0 {
		t.Errorf("%d messages wait, want 2; delivered %v", n, r.book())
	}
	r.must("PATCH", "/queues/"+r.queue, `{"settings":{"delivery_paused":false}}`, nil)
	if got := r.await(2); !slices.Equal(got, []string{`work#1 "held"`, `work#1 "late"`}) {
		t.Errorf("delivered %q", got)
	}
}

// TestQueueThroughKills kills the node, and at other times its Workers, while messages are sent and
// delivered: each that was acknowledged is delivered.
func TestQueueThroughKills(t *testing.T) {
	dir := t.TempDir()
	r := newQueueRig(up(t, dir), `{"batch_size":5,"max_wait_time_ms":50,"max_retries":100}`)
	var acked noted
	rounds := 4
	for round := range rounds {
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				name := fmt.Sprintf("%d-%d", round, i)
				if a, err := r.do("POST", "/send", strings.NewReader(fmt.Sprintf("%q", name))); err == nil && a.status == 200 {
					acked.add(name)
				}
			}
		}()
		time.Sleep(time.Duration(400+300*round) * time.Millisecond)
		if round%2 == 0 {
			r.process.stop(syscall.SIGKILL)
		} else if err := r.call("POST", "/accounts/"+r.AccountID+"/selvage/workers/scripts/worker/kill", "{}", nil); err != nil {
			t.Error(err)
		}
		close(stop)
		<-done
		if round%2 == 0 {
			r.process = up(t, dir)
			r.node.Store(r.process)
		}
	}
	r.awaitEmpty(r.queue)
	seen := map[string]bool{}
	for _, d := range r.book() {
		for _, m := range d.Messages {
			seen[string(m.Body)] = true
		}
	}
	for _, name := range acked.all() {
		if !seen[fmt.Sprintf("%q", name)] {
			t.Errorf("message %s was acknowledged and not delivered", name)
		}
	}
	t.Logf("%d messages acknowledged, %d delivered", len(acked.all()), len(seen))
}
