package backlog_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"selvage/product/queues/backlog"
)

// model is what a queue must hold: bodies and how often each was delivered in vain.
type model struct {
	r       *rig
	rand    *rand.Rand
	waiting map[string]int
	dead    map[string]bool
	bytes   int64
	next    int
	out     []taken
}

type taken struct {
	d *backlog.Delivery
	m []backlog.Message
}

func random(t *testing.T, seed uint64) {
	r := newRig(t)
	r.policy = backlog.Policy{MaxRetries: 3, DeadLetter: deadID}
	m := &model{r: r, rand: rand.New(rand.NewPCG(seed, 1)), waiting: map[string]int{}, dead: map[string]bool{}}
	for range 150 {
		switch n := m.rand.IntN(20); {
		case n < 8:
			m.send()
		case n < 12:
			m.take()
		case n < 17:
			m.settle()
		case n < 18:
			r.pass(time.Duration(m.rand.IntN(20)) * time.Second)
		default:
			m.restart()
		}
		m.check()
	}
	m.finish()
}

func (m *model) send() {
	var drafts []backlog.Draft
	for range 1 + m.rand.IntN(5) {
		body := fmt.Sprintf("%d-", m.next)
		m.next++
		if m.rand.IntN(5) == 0 {
			body += strings.Repeat("z", 3000)
		}
		m.waiting[body] = 0
		m.bytes += int64(len(body))
		drafts = append(drafts, backlog.Draft{Format: backlog.Text, Body: []byte(body), Delay: time.Duration(m.rand.IntN(3)) * 7 * time.Second})
	}
	if _, err := m.r.queue(queueID).Send(drafts, noLimit); err != nil {
		m.r.t.Fatal(err)
	}
}

func (m *model) take() {
	d, got := m.r.take(queueID, 1+m.rand.IntN(6), 0)
	for _, one := range got {
		failed, ok := m.waiting[string(one.Body)]
		if !ok || one.Attempts != failed+1 {
			m.r.t.Fatalf("delivered %.20q for the %d. time; it failed %d times, known: %v", one.Body, one.Attempts, failed, ok)
		}
	}
	if d != nil {
		m.out = append(m.out, taken{d, got})
	}
}

func (m *model) settle() {
	if len(m.out) == 0 {
		return
	}
	i := m.rand.IntN(len(m.out))
	b := m.out[i]
	m.out = append(m.out[:i], m.out[i+1:]...)
	var verdicts []backlog.Verdict
	for _, one := range b.m {
		v := []backlog.Verdict{ack, retry, {Retry: true, Delay: 5 * time.Second}, back}[m.rand.IntN(4)]
		verdicts = append(verdicts, v)
		switch {
		case v.Retry:
			m.fail(string(one.Body))
		case !v.Back:
			m.forget(string(one.Body))
		}
	}
	m.r.settle(b.d, verdicts...)
}

func (m *model) fail(body string) {
	if m.waiting[body]++; m.waiting[body] > m.r.policy.MaxRetries {
		m.forget(body)
		m.dead[body] = true
	}
}

func (m *model) forget(body string) {
	delete(m.waiting, body)
	m.bytes -= int64(len(body))
}

// restart fails what is out.
func (m *model) restart() {
	for _, b := range m.out {
		for _, one := range b.m {
			m.fail(string(one.Body))
		}
	}
	m.out = nil
	m.r.reopen()
	m.r.expire()
}

func (m *model) check() {
	m.r.t.Helper()
	m.r.wantStats(queueID, int64(len(m.waiting)), m.bytes)
	if got := m.r.queue(deadID).Stats().Count; got != int64(len(m.dead)) {
		m.r.t.Fatalf("%d dead letters, want %d", got, len(m.dead))
	}
	if m.r.t.Failed() {
		m.r.t.FailNow()
	}
}

// finish takes everything, and finds all that there must be.
func (m *model) finish() {
	m.restart()
	m.r.pass(time.Hour)
	for _, q := range []string{queueID, deadID} {
		for {
			d, got := m.r.take(q, 100, 0)
			if d == nil {
				break
			}
			for _, one := range got {
				if q == deadID {
					delete(m.dead, string(one.Body))
				} else {
					delete(m.waiting, string(one.Body))
				}
			}
			m.r.settle(d, make([]backlog.Verdict, len(got))...)
		}
	}
	if len(m.waiting)+len(m.dead) > 0 {
		m.r.t.Errorf("lost %v and %v", m.waiting, m.dead)
	}
	m.r.wantStats(queueID, 0, 0)
}
