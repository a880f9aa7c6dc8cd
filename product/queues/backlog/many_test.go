package backlog_test

import (
	"bytes"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"selvage/engine/state"
	"selvage/product/queues/backlog"
)

// TestManyMessagesAndQueues opens a store of 200,000 messages in one queue and of 2,000 queues of which most
// are empty: that takes memory for the queues and none for the messages, and no goroutines.
func TestManyMessagesAndQueues(t *testing.T) {
	const messages, batch, idle, senders, perQueue = 200_000, 100, 2_000, 10, 4 << 10
	idleID := func(i int) string { return fmt.Sprintf("%032x", 1000+i) }
	r := newRig(t)
	r.policy.Retention = 0 // the store that is opened below has another clock
	var sending sync.WaitGroup
	for range senders {
		sending.Go(func() {
			drafts := make([]backlog.Draft, batch)
			for i := range drafts {
				drafts[i] = backlog.Draft{Format: backlog.Text, Body: bytes.Repeat([]byte("m"), 200)}
			}
			for range messages / batch / senders {
				if _, err := r.queue(queueID).Send(drafts, noLimit); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := 0; i < idle; i += 10 {
		r.send(idleID(i), "one")
	}
	sending.Wait()
	if err := r.db.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.db, err = state.Open("q", state.Options{FS: r.fs}); err != nil {
		t.Fatal(err)
	}
	held, running := inUse(), runtime.NumGoroutine()
	if r.Store, err = backlog.Open(r.db, backlog.Options{Policy: func(string, string) backlog.Policy { return r.policy }}); err != nil {
		t.Fatal(err)
	}
	for i := range idle {
		r.queue(idleID(i))
	}
	if got := inUse() - held; got > idle*perQueue {
		t.Errorf("%d queues and %d messages take %d KiB, want at most %d", idle, messages, got>>10, idle*perQueue>>10)
	}
	if now := runtime.NumGoroutine(); now > running {
		t.Errorf("%d goroutines more run", now-running)
	}
	if st := r.queue(queueID).Stats(); st.Count != messages {
		t.Fatalf("%d messages are there, want %d", st.Count, messages)
	}
	taken := 0
	for range 20 {
		d, got := r.take(queueID, batch, 0)
		r.settle(d, make([]backlog.Verdict, len(got))...)
		taken += len(got)
	}
	if st := r.queue(queueID).Stats(); taken != 20*batch || st.Count != int64(messages-taken) {
		t.Errorf("%d messages were taken and %d are left, of %d", taken, st.Count, messages)
	}
}

// inUse returns the bytes of the heap that are in use.
func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers let go of
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
