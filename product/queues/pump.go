package queues

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"selvage/engine/isolate"
	"selvage/foundation/fault"
	"selvage/product/queues/backlog"
	"selvage/spec"
)

const (
	// batchBytes is the most bytes of bodies in a batch, unless one message alone has more.
	batchBytes = 1 << 20
	// autoConcurrency is the most batches of a queue under way if its consumer names no number.
	autoConcurrency = 32
	maxPause        = time.Minute // before a Worker that cannot be asked is tried again
)

// pump delivers a queue to its Worker.
type pump struct {
	s       *pumps
	ref     queueRef
	wake    chan struct{} // there may be messages
	changed chan struct{} // the configuration may be another
	freed   chan struct{} // a batch has ended
	batches sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	running int        // batches under way
	limit   int        // of batches under way: grows with success, shrinks with failures
	pause   time.Duration
	until   time.Time // before which the Worker is not tried
}

func (u *pump) poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// run delivers until there is nothing left to deliver or ctx ends. Batches under way then have a
// moment to end.
func (u *pump) run(ctx context.Context) {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(grace, end) })
	defer stop()
	defer u.batches.Wait()
	for ctx.Err() == nil {
		wait, left := u.step(ctx, life)
		if left {
			return
		}
		if wait < 0 {
			continue
		}
		u.await(ctx, wait)
	}
	u.s.mu.Lock()
	delete(u.s.active, u.ref)
	u.s.mu.Unlock()
}

// await returns when something has happened, or after a while.
func (u *pump) await(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-u.wake:
	case <-u.freed:
	case <-u.changed:
		u.mu.Lock()
		u.pause, u.until = 0, time.Time{}
		u.mu.Unlock()
	}
}

// step starts a batch if there is one, and says how long to wait for another; negative: not at all. It
// tells whether the pump has left.
func (u *pump) step(ctx, life context.Context) (wait time.Duration, left bool) {
	p := u.s.p
	t := p.current.Load()
	if !t.pumped(u.ref.account, u.ref.id) {
		return u.rest()
	}
	if wait, ok := u.mayStart(t.consumer(u.ref.account, u.ref.id)); !ok {
		return wait, false
	}
	store, err := p.backlog()
	if err != nil {
		return storePause, false
	}
	q, err := store.Queue(u.ref.account, u.ref.id)
	if err != nil {
		return u.rest()
	}
	c := t.consumer(u.ref.account, u.ref.id)
	w := backlog.Wanted{Count: c.Settings.BatchSize, Bytes: batchBytes, Policy: t.policy(u.ref.account, u.ref.id)}
	o, err := q.Look(w)
	if err != nil {
		p.log.Error("messages cannot be read", "account", u.ref.account, "queue", u.ref.id, "error", err)
		return maxPause, false
	}
	now := p.o.Clock.Now()
	switch full := o.Since.Add(time.Duration(c.Settings.MaxWait) * time.Millisecond); {
	case o.Ready == 0 && o.Next.IsZero():
		return u.rest()
	case o.Ready == 0:
		return max(o.Next.Sub(now), 0), false
	case !o.Full && full.After(now):
		return full.Sub(now), false
	}
	if err := u.start(ctx, life, q, w, o); err != nil {
		if ctx.Err() == nil {
			p.log.Error("messages cannot be delivered", "account", u.ref.account, "queue", u.ref.id, "error", err)
		}
		return storePause, false
	}
	return -1, false
}

// rest leaves if no batch is under way, and waits for one otherwise.
func (u *pump) rest() (time.Duration, bool) {
	u.mu.Lock()
	running := u.running
	u.mu.Unlock()
	if running > 0 {
		return maxPause, false
	}
	return -1, u.s.leave(u) || u.drain()
}

// drain takes in what kept the pump from leaving.
func (u *pump) drain() bool {
	select {
	case <-u.wake:
	case <-u.changed:
	default:
	}
	return false
}

// mayStart tells whether one more batch may be under way, or how long to wait.
func (u *pump) mayStart(c *spec.QueueConsumer) (time.Duration, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if wait := u.until.Sub(u.s.p.o.Clock.Now()); wait > 0 {
		return wait, false
	}
	if u.pause > 0 && u.running > 0 { // one batch tries whether the Worker is back
		return maxPause, false
	}
	most := c.Settings.MaxConcurrency
	if most == 0 {
		most = autoConcurrency
	}
	return maxPause, u.running < min(u.limit, most)
}

// start takes a batch and hands it to the Worker, in the background.
func (u *pump) start(ctx, life context.Context, q *backlog.Queue, w backlog.Wanted, o backlog.Outlook) error {
	room, size := u.s.room(u.ref.account), min(int64(o.Bytes), accountBytes)
	if err := room.Acquire(ctx, size); err != nil {
		return err
	}
	d, messages, err := q.Take(w)
	if err != nil || d == nil {
		room.Release(size)
		return err
	}
	u.mu.Lock()
	u.running++
	u.mu.Unlock()
	u.batches.Go(func() {
		u.deliver(life, d, messages)
		u.end(room, size)
	})
	return nil
}

func (u *pump) end(room *semaphore.Weighted, size int64) {
	room.Release(size)
	u.mu.Lock()
	u.running--
	u.mu.Unlock()
	u.poke(u.freed)
}

// deliver hands a batch to the Worker and settles it.
func (u *pump) deliver(life context.Context, d *backlog.Delivery, messages []backlog.Message) {
	p := u.s.p
	t := p.current.Load()
	queue, consumer := t.queue(u.ref.account, u.ref.id), t.consumer(u.ref.account, u.ref.id)
	if queue == nil || consumer == nil {
		u.settle(life, d, all(len(messages), backlog.Verdict{Back: true}))
		return
	}
	batch := isolate.QueueBatch{Queue: queue.Name}
	for _, m := range messages {
		batch.Messages = append(batch.Messages, isolate.QueueMessage{ID: m.ID, Timestamp: m.Sent, ContentType: m.Format.String(), Body: m.Body, Attempts: m.Attempts})
	}
	ctx, cancel := context.WithTimeout(life, p.o.BatchTimeout)
	defer cancel()
	begun := time.Now()
	out, err := p.o.deliver(ctx, u.ref.account, consumer.Script, batch)
	p.metrics.batch(out, err, time.Since(begun), len(messages))
	verdicts, untried := judge(life, out, err, messages, time.Duration(consumer.Settings.RetryDelay)*time.Second)
	u.learn(out, err, untried)
	u.settle(life, d, verdicts)
}

func (o *Options) deliver(ctx context.Context, accountID, script string, batch isolate.QueueBatch) (isolate.Outcome, error) {
	if o.Deliver == nil {
		return isolate.Outcome{}, fault.New(fault.NotFound, "No Workers run here.")
	}
	return o.Deliver(ctx, accountID, script, batch)
}

// learn draws conclusions from how a batch went.
func (u *pump) learn(out isolate.Outcome, err error, untried bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case untried:
		u.limit = 1
		u.pause = min(max(2*u.pause, time.Second), maxPause)
		u.until = u.s.p.o.Clock.Now().Add(u.pause)
		if u.pause == time.Second {
			u.s.p.log.Warn("a queue's Worker cannot be asked; its messages wait", "account", u.ref.account, "queue", u.ref.id, "error", err)
		}
		return
	case err != nil || out.Outcome != "ok":
		u.limit = max(u.limit/2, 1)
	default:
		u.limit = min(u.limit+1, spec.MaxQueueConcurrent)
	}
	u.pause, u.until = 0, time.Time{}
}

// settle makes the verdicts durable, however long a full disk takes.
func (u *pump) settle(life context.Context, d *backlog.Delivery, verdicts []backlog.Verdict) {
	p := u.s.p
	for first := true; ; first = false {
		err := d.Settle(verdicts, p.policy(u.ref.account, u.ref.id))
		if err == nil {
			return
		}
		if first {
			p.log.Error("what became of messages cannot be written; trying again", "account", u.ref.account, "queue", u.ref.id, "error", err)
		}
		select {
		case <-life.Done():
			return // they are delivered again when the store is opened again
		case <-time.After(storePause):
		}
	}
}

// result is what the runtime says of a batch.
type result struct {
	Outcome    string `json:"outcome"`
	AckAll     bool   `json:"ackAll"`
	RetryBatch struct {
		Retry        bool `json:"retry"`
		DelaySeconds *int `json:"delaySeconds"`
	} `json:"retryBatch"`
	ExplicitAcks  []string `json:"explicitAcks"`
	RetryMessages []struct {
		ID           string `json:"msgId"`
		DelaySeconds *int   `json:"delaySeconds"`
	} `json:"retryMessages"`
}

// judge says what becomes of each message of a batch. untried tells that the Worker was not asked, by no
// fault of the messages.
func judge(life context.Context, out isolate.Outcome, err error, messages []backlog.Message, delay time.Duration) (verdicts []backlog.Verdict, untried bool) {
	if err != nil {
		if life.Err() != nil {
			return all(len(messages), backlog.Verdict{Back: true}), false
		}
		if failed(err) {
			return all(len(messages), backlog.Verdict{Retry: true, Delay: delay}), false
		}
		return all(len(messages), backlog.Verdict{Back: true}), true
	}
	var r result
	if out.Queue != nil {
		_ = json.Unmarshal(out.Queue, &r) // without a result nothing was acknowledged
	}
	return r.verdicts(messages, out.Outcome == "ok", delay), false
}

// failed tells whether an error is the Worker's, which was asked.
func failed(err error) bool {
	var stopped *isolate.Stopped
	if errors.As(err, &stopped) {
		return stopped.Reason == isolate.ReasonCPU || stopped.Reason == isolate.ReasonMemory || stopped.Reason == isolate.ReasonCrash
	}
	return errors.Is(err, context.DeadlineExceeded)
}

func all(n int, v backlog.Verdict) []backlog.Verdict {
	list := make([]backlog.Verdict, n)
	for i := range list {
		list[i] = v
	}
	return list
}

// verdicts follows Cloudflare's rules: what was said of a message goes before what was said of the
// batch, and that before how the handler ended.
func (r *result) verdicts(messages []backlog.Message, ok bool, delay time.Duration) []backlog.Verdict {
	acked, retried := map[string]bool{}, map[string]*int{}
	for _, id := range r.ExplicitAcks {
		acked[id] = true
	}
	for _, m := range r.RetryMessages {
		retried[m.ID] = m.DelaySeconds
	}
	batch := seconds(r.RetryBatch.DelaySeconds, delay)
	list := make([]backlog.Verdict, len(messages))
	for i, m := range messages {
		own, again := retried[m.ID]
		switch {
		case again:
			list[i] = backlog.Verdict{Retry: true, Delay: seconds(own, batch)}
		case acked[m.ID], r.AckAll:
		case r.RetryBatch.Retry, !ok:
			list[i] = backlog.Verdict{Retry: true, Delay: batch}
		}
	}
	return list
}

// seconds returns a delay that a script named, within bounds, or def.
func seconds(n *int, def time.Duration) time.Duration {
	if n == nil {
		return def
	}
	return time.Duration(min(max(*n, 0), spec.MaxQueueDelay)) * time.Second
}
