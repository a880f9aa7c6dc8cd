package backlog_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"selvage/engine/state"
	"selvage/foundation/clock"
	"selvage/product/queues/backlog"
)

const (
	account = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	queueID = "00000000000000000000000000000001"
	deadID  = "00000000000000000000000000000002"
	noLimit = 1 << 40
)

// rig is a store over a filesystem in memory, with a clock of its own.
type rig struct {
	*backlog.Store
	t      *testing.T
	fs     vfs.FS
	db     *state.DB
	policy backlog.Policy

	mu      sync.Mutex // guards the fields below
	now     time.Time
	counts  map[string]int
	signals map[string]int
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, fs: vfs.NewMem(), policy: backlog.Policy{MaxRetries: 2, Retention: time.Hour}, now: time.UnixMilli(1_700_000_000_000), counts: map[string]int{}, signals: map[string]int{}}
	r.open()
	t.Cleanup(func() { r.db.Close() })
	return r
}

func (r *rig) open() {
	r.t.Helper()
	var err error
	if r.db, err = state.Open("q", state.Options{FS: r.fs}); err != nil {
		r.t.Fatal(err)
	}
	r.Store, err = backlog.Open(r.db, backlog.Options{
		Clock: clock.Fixed(func() time.Time { r.mu.Lock(); defer r.mu.Unlock(); return r.now }), Policy: func(string, string) backlog.Policy { return r.policy },
		Count:  func(what string, n int) { r.mu.Lock(); defer r.mu.Unlock(); r.counts[what] += n },
		Signal: func(_, q string) { r.mu.Lock(); defer r.mu.Unlock(); r.signals[q]++ },
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// reopen closes the store and opens it again, as a restart does.
func (r *rig) reopen() {
	r.t.Helper()
	if err := r.db.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.open()
}

func (r *rig) pass(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

func (r *rig) queue(id string) *backlog.Queue {
	r.t.Helper()
	q, err := r.Queue(account, id)
	if err != nil {
		r.t.Fatal(err)
	}
	return q
}

func (r *rig) send(id string, bodies ...string) {
	r.t.Helper()
	for _, b := range bodies {
		r.sendLater(id, 0, b)
	}
}

func (r *rig) sendLater(id string, delay time.Duration, body string) {
	r.t.Helper()
	if _, err := r.queue(id).Send([]backlog.Draft{{Format: backlog.Text, Body: []byte(body), Delay: delay}}, noLimit); err != nil {
		r.t.Fatal(err)
	}
}

// take takes up to n messages; visible 0 is for a Worker.
func (r *rig) take(id string, n int, visible time.Duration) (*backlog.Delivery, []backlog.Message) {
	r.t.Helper()
	d, m, err := r.queue(id).Take(backlog.Wanted{Count: n, Bytes: 1 << 20, Visible: visible, Policy: r.policy})
	if err != nil {
		r.t.Fatal(err)
	}
	return d, m
}

func (r *rig) expire() {
	r.t.Helper()
	if _, err := r.Expire(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) settle(d *backlog.Delivery, v ...backlog.Verdict) {
	r.t.Helper()
	if err := d.Settle(v, r.policy); err != nil {
		r.t.Fatal(err)
	}
}

// bodies shows messages as BODY#ATTEMPTS; long bodies by their length.
func bodies(messages []backlog.Message) string {
	var all []string
	for _, m := range messages {
		b := string(m.Body)
		if len(b) > 20 {
			b = fmt.Sprintf("%s*%d", b[:1], len(b))
		}
		all = append(all, fmt.Sprintf("%s#%d", b, m.Attempts))
	}
	return strings.Join(all, " ")
}

func (r *rig) want(what string, got []backlog.Message, want string) {
	r.t.Helper()
	if s := bodies(got); s != want {
		r.t.Errorf("%s: got %q, want %q", what, s, want)
	}
}

func (r *rig) wantStats(id string, count, bytes int64) {
	r.t.Helper()
	if st := r.queue(id).Stats(); st.Count != count || st.Bytes != bytes {
		r.t.Errorf("queue %s has %d messages of %d bytes, want %d of %d", id[31:], st.Count, st.Bytes, count, bytes)
	}
}

var (
	ack   = backlog.Verdict{}
	retry = backlog.Verdict{Retry: true}
	back  = backlog.Verdict{Back: true}
)

func TestTakeAndSettle(t *testing.T) {
	r := newRig(t)
	big := strings.Repeat("x", 100_000)
	r.send(queueID, "a", "b", big, "d")
	r.wantStats(queueID, 4, 100_003)
	d, got := r.take(queueID, 3, 0)
	r.want("first", got, "a#1 b#1 x*100000#1")
	d2, got := r.take(queueID, 3, 0)
	r.want("what is out is not taken again", got, "d#1")
	r.settle(d, ack, retry, retry)
	r.settle(d2, back)
	r.wantStats(queueID, 3, 100_002)
	d, got = r.take(queueID, 9, 0)
	r.want("after a retry", got, "b#2 x*100000#2 d#1")
	r.settle(d, ack, ack, ack)
	r.wantStats(queueID, 0, 0)
	if used := r.Used(account); used != 0 {
		t.Errorf("the account uses %d bytes", used)
	}
	r.settle(d, ack, ack, ack) // again: nothing happens
	r.wantStats(queueID, 0, 0)
}

func TestDelays(t *testing.T) {
	r := newRig(t)
	r.sendLater(queueID, 10*time.Second, "late")
	r.send(queueID, "now")
	d, got := r.take(queueID, 9, 0)
	r.want("at once", got, "now#1")
	r.settle(d, backlog.Verdict{Retry: true, Delay: 30 * time.Second})
	r.pass(10 * time.Second)
	o, err := r.queue(queueID).Look(backlog.Wanted{Count: 5, Bytes: 100})
	if err != nil || o.Ready != 1 || o.Full || o.Next.Sub(r.now) != 20*time.Second {
		t.Errorf("Look = %+v, %v; want one ready and the next in 20 s", o, err)
	}
	_, got = r.take(queueID, 9, 0)
	r.want("after 10 s", got, "late#1")
	r.pass(20 * time.Second)
	_, got = r.take(queueID, 9, 0)
	r.want("after 30 s", got, "now#2")
}

func TestDeadLetters(t *testing.T) {
	r := newRig(t)
	r.policy = backlog.Policy{MaxRetries: 1, DeadLetter: deadID, Retention: time.Hour}
	big := strings.Repeat("y", 50_000)
	r.send(queueID, "a", big)
	var ids []string
	for range 2 {
		d, got := r.take(queueID, 9, 0)
		ids = nil
		for _, m := range got {
			ids = append(ids, m.ID)
		}
		r.settle(d, retry, retry)
	}
	r.wantStats(queueID, 0, 0)
	r.wantStats(deadID, 2, 50_001)
	r.reopen()
	r.wantStats(deadID, 2, 50_001)
	_, got := r.take(deadID, 9, 0)
	r.want("dead letters", got, "a#1 y*50000#1")
	if got[0].ID != ids[0] || got[0].Format != backlog.Text {
		t.Errorf("a dead letter is %s of format %v, was %s of text", got[0].ID, got[0].Format, ids[0])
	}
	if r.counts["dead"] != 2 || r.counts["retried"] != 2 {
		t.Errorf("counted %v", r.counts)
	}
}

func TestTooManyRetriesWithoutDeadLetters(t *testing.T) {
	r := newRig(t)
	r.policy.MaxRetries = 0
	r.send(queueID, "a")
	d, _ := r.take(queueID, 9, 0)
	r.settle(d, retry)
	r.wantStats(queueID, 0, 0)
	r.policy.DeadLetter = strings.Repeat("z", 32) // a queue that is not there
	r.send(queueID, "b")
	d, _ = r.take(queueID, 9, 0)
	r.settle(d, retry)
	r.wantStats(queueID, 1, 1)
}

func TestDeliveriesSurviveRestart(t *testing.T) {
	r := newRig(t)
	r.send(queueID, "worker", "pulled", "waits")
	r.take(queueID, 1, 0)
	_, pulled := r.take(queueID, 1, time.Minute)
	r.reopen()
	r.expire() // the batch that the Worker had failed with the node
	_, got := r.take(queueID, 9, 0)
	r.want("after a restart", got, "worker#2 waits#1")
	done, err := r.queue(queueID).Redeem([]backlog.Lease{pulled[0].Lease}, nil, r.policy)
	if err != nil || done.Acked != 1 {
		t.Errorf("Redeem after a restart = %+v, %v", done, err)
	}
	r.wantStats(queueID, 2, 11)
	for range 3 { // each restart is a failed delivery
		r.reopen()
		r.expire()
		r.take(queueID, 9, 0)
	}
	r.reopen()
	r.expire()
	r.wantStats(queueID, 0, 0)
}

func TestLeases(t *testing.T) {
	r := newRig(t)
	q := r.queue(queueID)
	r.send(queueID, "a", "b", "c", "d")
	_, m := r.take(queueID, 4, 10*time.Second)
	done, err := q.Redeem([]backlog.Lease{m[0].Lease, "nonsense"}, []backlog.Retry{{Lease: m[1].Lease}}, r.policy)
	if err != nil || done.Acked != 1 || done.Retried != 1 || len(done.Warnings) != 1 {
		t.Fatalf("Redeem = %+v, %v", done, err)
	}
	if other, err := r.queue(deadID).Redeem([]backlog.Lease{m[2].Lease}, nil, r.policy); err != nil || other.Acked != 0 {
		t.Errorf("another queue took a lease: %+v, %v", other, err)
	}
	r.pass(11 * time.Second)
	r.expire()
	r.wantStats(queueID, 3, 3)
	// An acknowledgement counts although the lease ran out, delivered again or not.
	if done, err = q.Redeem([]backlog.Lease{m[2].Lease}, nil, r.policy); err != nil || done.Acked != 1 {
		t.Errorf("a late Redeem = %+v, %v", done, err)
	}
	_, again := r.take(queueID, 4, 10*time.Second)
	r.want("after the lease", again, "b#2 d#2")
	if done, err = q.Redeem([]backlog.Lease{m[3].Lease}, []backlog.Retry{{Lease: m[1].Lease}}, r.policy); err != nil || done.Acked != 1 || done.Retried != 0 {
		t.Errorf("Redeem of what another has = %+v, %v", done, err)
	}
	if done, err = q.Redeem([]backlog.Lease{again[0].Lease, again[1].Lease, m[1].Lease}, nil, r.policy); err != nil || done.Acked != 1 {
		t.Errorf("the last Redeem = %+v, %v", done, err)
	}
	r.wantStats(queueID, 0, 0)
}

func TestRetention(t *testing.T) {
	r := newRig(t)
	r.send(queueID, "a", "b")
	r.pass(30 * time.Minute)
	r.send(queueID, "c")
	r.pass(31 * time.Minute)
	_, got := r.take(queueID, 1, 0)
	r.want("only what is young", got, "c#1")
	r.wantStats(queueID, 1, 1)
	r.send(deadID, "x", "y")
	r.pass(2 * time.Hour)
	for more := true; more; {
		var err error
		if more, err = r.queue(deadID).Tidy(time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	r.wantStats(deadID, 0, 0)
	if r.counts["expired"] != 4 {
		t.Errorf("%d expired, want 4", r.counts["expired"])
	}
}

func TestPurgeAndDelete(t *testing.T) {
	r := newRig(t)
	r.send(queueID, "a", strings.Repeat("b", 5000), "c")
	d, _ := r.take(queueID, 1, 0)
	if err := r.queue(queueID).Purge(); err != nil {
		t.Fatal(err)
	}
	r.settle(d, retry)
	r.wantStats(queueID, 0, 0)
	r.send(queueID, "new")
	_, got := r.take(queueID, 9, 0)
	r.want("after a purge", got, "new#1")
	if r.queue(queueID).Purged().IsZero() {
		t.Error("the purge is not noted")
	}
	old := r.queue(queueID)
	if err := r.MarkDeleting(account, queueID); err != nil {
		t.Fatal(err)
	}
	if err := r.Store.Delete(account, queueID); err != nil {
		t.Fatal(err)
	}
	if _, err := old.Send([]backlog.Draft{{Body: []byte("x")}}, noLimit); err == nil {
		t.Error("a deleted queue took a message")
	}
	for pair := range r.db.Scan(state.Prefix([]byte(backlog.Prefix))) {
		if string(pair.Key) != backlog.Prefix+"k" {
			t.Errorf("%x is left of a deleted queue", pair.Key)
		}
	}
}

func TestPeekAndOldest(t *testing.T) {
	r := newRig(t)
	first := r.now
	r.send(queueID, "a")
	r.pass(time.Minute)
	r.send(queueID, "b", "c")
	r.take(queueID, 1, 0)
	got, err := r.queue(queueID).Peek(2, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	r.want("a look", got, "a#0 b#0")
	if st, err := r.queue(queueID).Fresh(); err != nil || !st.Oldest.Equal(first) {
		t.Errorf("the oldest is of %v, want %v (%v)", st.Oldest, first, err)
	}
	if _, err := r.queue(queueID).Send([]backlog.Draft{{Body: make([]byte, 100)}}, 50); err == nil {
		t.Error("a full queue took a message")
	}
}

// TestRandom compares the store with a model: whatever is done, in whatever order, nothing is lost and
// the counters are right, through restarts.
func TestRandom(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { random(t, seed) })
	}
}

func TestFewKeysAreWalked(t *testing.T) {
	r := newRig(t)
	q := r.queue(queueID)
	var drafts []backlog.Draft
	for range 100 {
		drafts = append(drafts, backlog.Draft{Body: []byte("x")})
	}
	for range 60 {
		if _, err := q.Send(drafts, noLimit); err != nil {
			t.Fatal(err)
		}
		d, _ := r.take(queueID, 100, 0)
		r.settle(d, make([]backlog.Verdict, 100)...)
	}
	r.send(queueID, "last")
	r.reopen()
	_, got := r.take(queueID, 9, 0)
	r.want("after many are gone", got, "last#1")
}
