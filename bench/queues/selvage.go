package main

import (
	"strings"
	"time"

	"selvage/engine/state"
	"selvage/product/queues/backlog"
)

// ours is a queue of a node's store.
type ours struct {
	db *state.DB
	q  *backlog.Queue
}

func openBacklog(dir string) (broker, error) {
	db, err := state.Open(dir, state.Options{CacheBytes: 8 << 20, MemTableBytes: 8 << 20}) // as a node has it
	if err != nil {
		return nil, err
	}
	s, err := backlog.Open(db, backlog.Options{Policy: func(string, string) backlog.Policy { return backlog.Policy{} }})
	if err != nil {
		return nil, err
	}
	q, err := s.Queue(strings.Repeat("a", 32), strings.Repeat("b", 32))
	return &ours{db, q}, err
}

func (o *ours) send(body []byte) error {
	_, err := o.q.Send([]backlog.Draft{{Format: backlog.Bytes, Body: body}}, 1<<40)
	return err
}

// work takes as an HTTP consumer does, with a lease that is written down.
func (o *ours) work(n int) (int, error) {
	d, messages, err := o.q.Take(backlog.Wanted{Count: n, Bytes: 1 << 20, Visible: time.Minute})
	if err != nil || d == nil {
		return 0, err
	}
	return len(messages), d.Settle(make([]backlog.Verdict, len(messages)), backlog.Policy{})
}

func (o *ours) close() { o.db.Close() }
