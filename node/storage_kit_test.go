package node_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
)

// storedIn are the products that the tests' Worker for stored things knows.
var storedIn = []string{"kv", "r2", "d1", "objects", "queues"}

// numbers stores numbers in each product through a Worker and remembers which were acknowledged.
type numbers struct {
	t    testing.TB
	site *site
	made map[string]string // IDs of what the Worker is bound to

	next  [8]atomic.Int64               // by index in storedIn
	mu    sync.Mutex                    // guards the fields below
	ack   func(product string, i int64) // told of each; nil: nobody
	acked map[string][]int64
	lost  []string // writes that failed
}

// deployNumbers makes a namespace, a bucket, a database and a queue, and deploys the Worker that is bound
// to them.
func deployNumbers(t testing.TB, p *process) *numbers {
	t.Helper()
	source, err := os.ReadFile("testdata/storage/storage.js")
	if err != nil {
		t.Fatal(err)
	}
	account := "/accounts/" + p.AccountID
	var kv struct{ ID string }
	var d1 struct{ UUID string }
	var queue struct {
		ID string `json:"queue_id"`
	}
	if err := errors.Join(
		p.call("POST", account+"/storage/kv/namespaces", `{"title":"numbers"}`, &kv),
		p.call("POST", account+"/r2/buckets", `{"name":"numbers"}`, nil),
		p.call("POST", account+"/d1/database", `{"name":"numbers"}`, &d1),
		p.call("POST", account+"/queues", `{"queue_name":"numbers"}`, &queue),
	); err != nil {
		t.Fatal(err)
	}
	bindings := fmt.Sprintf(`"bindings":[{"type":"kv_namespace","name":"KV","namespace_id":%q},{"type":"r2_bucket","name":"BUCKET","bucket_name":"numbers"},
		{"type":"d1","name":"DB","id":%q},{"type":"queue","name":"QUEUE","queue_name":"numbers"},{"type":"durable_object_namespace","name":"OBJECTS","class_name":"Numbers"}]`, kv.ID, d1.UUID)
	if err := p.upload("numbers", string(source), bindings, `"migrations":{"new_tag":"v1","steps":[{"new_sqlite_classes":["Numbers"]}]}`); err != nil {
		t.Fatalf("%v\n%s", err, p.log)
	}
	if err := p.call("POST", account+"/queues/"+queue.ID+"/consumers", `{"type":"worker","script_name":"numbers","settings":{"batch_size":100,"max_wait_time_ms":200,"max_retries":100}}`, nil); err != nil {
		t.Fatal(err)
	}
	n := &numbers{t: t, site: siteOf(t, p, "numbers"), acked: map[string][]int64{}, made: map[string]string{"kv": kv.ID, "d1": d1.UUID, "queues": queue.ID}}
	n.site.expect("/setup", 200, "ready")
	return n
}

// write stores numbers in a product until stop is closed. A write that fails counts as lost and is not
// tried again.
func (n *numbers) write(product int, stop <-chan struct{}) {
	name := storedIn[product]
	for {
		select {
		case <-stop:
			return
		default:
		}
		i := n.next[product].Add(1)
		status, body, err := n.site.ask(fmt.Sprintf("/put/%s/%d", name, i))
		n.mu.Lock()
		if err == nil && status == http.StatusOK {
			n.acked[name] = append(n.acked[name], i)
			if n.ack != nil {
				n.ack(name, i)
			}
		} else {
			n.lost = append(n.lost, fmt.Sprintf("%s %d: status %d %.200s %v", name, i, status, body, err))
		}
		n.mu.Unlock()
	}
}

// start writes to all products, and returns what ends that.
func (n *numbers) start(clients int) (stop func()) {
	var writers sync.WaitGroup
	end := make(chan struct{})
	for product := range storedIn {
		for range clients {
			writers.Go(func() { n.write(product, end) })
		}
	}
	return func() {
		close(end)
		writers.Wait()
	}
}

// acknowledged returns what was acknowledged so far.
func (n *numbers) acknowledged() map[string][]int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := map[string][]int64{}
	for product, list := range n.acked {
		all[product] = append([]int64{}, list...)
	}
	return all
}

// check asks for what was acknowledged. What was sent to a queue has to come within a while.
func (n *numbers) check(acked map[string][]int64) {
	n.t.Helper()
	for product, list := range acked {
		missing := 0
		if product == "queues" {
			eventually(n.t, func() error {
				for _, i := range list {
					if status, body, err := n.site.ask(fmt.Sprintf("/has/%s/%d", product, i)); err != nil || body != "true" {
						return fmt.Errorf("message %d, which was acknowledged, did not come: status %d %.200s %v", i, status, body, err)
					}
				}
				return nil
			})
			continue
		}
		for _, i := range list {
			if status, body, err := n.site.ask(fmt.Sprintf("/has/%s/%d", product, i)); err != nil || status != 200 || body != "true" {
				if missing++; missing < 4 {
					n.t.Errorf("%s lacks %d, which was acknowledged: status %d %.200s %v", product, i, status, body, err)
				}
			}
		}
		if missing > 3 {
			n.t.Errorf("%s lacks %d of %d", product, missing, len(list))
		}
	}
}

// more waits until so many more numbers are acknowledged in all.
func (n *numbers) more(count int) {
	n.t.Helper()
	total := func() (all int) {
		for _, list := range n.acknowledged() {
			all += len(list)
		}
		return all
	}
	before := total()
	eventually(n.t, func() error {
		if now := total(); now < before+count {
			return fmt.Errorf("%d numbers more, want %d", now-before, count)
		}
		return nil
	})
}

// enough waits until each product has so many more numbers.
func (n *numbers) enough(more int) {
	n.t.Helper()
	before := n.acknowledged()
	eventually(n.t, func() error {
		now := n.acknowledged()
		for _, product := range storedIn {
			if len(now[product]) < len(before[product])+more {
				n.mu.Lock()
				defer n.mu.Unlock()
				return fmt.Errorf("%s has %d numbers; lost are %.500v", product, len(now[product]), n.lost)
			}
		}
		return nil
	})
}
