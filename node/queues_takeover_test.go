package node_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// TestQueueWhileTakenOver replaces the node three times while a Worker sends to a queue and the same queue is
// delivered to it: no message is refused, and each that was acknowledged is delivered.
func TestQueueWhileTakenOver(t *testing.T) {
	t.Parallel()
	const takeovers, more = 3, 50
	r := newQueueRig(up(t, t.TempDir()), `{"batch_size":5,"max_wait_time_ms":50,"max_retries":100}`)
	var acked noted
	var producers sync.WaitGroup
	end := make(chan struct{})
	for producer := range 3 {
		producers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-end:
					return
				default:
				}
				name := fmt.Sprintf("%d-%d", producer, i)
				a, err := r.do("POST", "/send", strings.NewReader(fmt.Sprintf("%q", name)))
				if err != nil || a.status != 200 {
					t.Errorf("message %s was refused: %d %.200s %v", name, a.status, a.body, err)
					return
				}
				acked.add(name)
			}
		})
	}
	await := func(what string, n int, count func() int) {
		t.Helper()
		eventually(t, func() error {
			if got := count(); got < n && !t.Failed() {
				return fmt.Errorf("%d messages were %s, want %d", got, what, n)
			}
			return nil
		})
	}
	sent := func() int { return len(acked.all()) }
	delivered := func() int { return len(lines(r.book())) }
	for range takeovers {
		await("sent", sent()+more, sent)
		await("delivered", delivered()+more, delivered)
		old := r.process
		r.process = up(t, old.dir, "--takeover")
		r.node.Store(r.process)
		if err := old.wait(); err != nil {
			t.Errorf("the node that was taken over: %v\n%s", err, old.log)
		}
	}
	await("sent", sent()+more, sent)
	close(end)
	producers.Wait()
	r.awaitEmpty(r.queue)
	seen, twice := map[string]bool{}, 0
	for _, d := range r.book() {
		for _, m := range d.Messages {
			if seen[string(m.Body)] {
				twice++
			}
			seen[string(m.Body)] = true
		}
	}
	missing := 0
	for _, name := range acked.all() {
		if !seen[fmt.Sprintf("%q", name)] {
			missing++
		}
	}
	if missing > 0 {
		t.Errorf("%d of %d messages that were acknowledged were not delivered\n%s", missing, sent(), r.process.log)
	}
	t.Logf("%d messages were acknowledged and delivered through %d takeovers, %d of them twice", sent(), takeovers, twice)
}
