package queues

import (
	"time"

	"selvage/product/queues/backlog"
	"selvage/spec"
)

// table is the queues of a snapshot. Immutable; its next version shares what did not change.
type table struct {
	from     *spec.Snapshot
	accounts map[string]*accountQueues
}

// accountQueues is the queues of an account.
type accountQueues struct {
	from      *spec.AccountStorage
	byName    map[string]*spec.Queue
	consumers map[string]*spec.QueueConsumer // by the ID of their queue
}

func newTable(from *spec.Snapshot) *table {
	return &table{from: from, accounts: map[string]*accountQueues{}}
}

// with returns the table of next.
func (t *table) with(next *spec.Snapshot) *table {
	made := newTable(next)
	for id, storage := range next.Storage {
		if old := t.accounts[id]; old != nil && old.from == storage {
			made.accounts[id] = old
		} else if len(storage.Queues) > 0 {
			made.accounts[id] = newAccountQueues(storage)
		}
	}
	return made
}

func newAccountQueues(from *spec.AccountStorage) *accountQueues {
	a := &accountQueues{from: from, byName: make(map[string]*spec.Queue, len(from.Queues)), consumers: make(map[string]*spec.QueueConsumer, len(from.Consumers))}
	for _, q := range from.Queues {
		a.byName[q.Name] = q
	}
	for _, c := range from.Consumers {
		a.consumers[c.QueueID] = c
	}
	return a
}

// queue returns a queue by its ID, nil if there is none.
func (t *table) queue(accountID, queueID string) *spec.Queue {
	if a := t.accounts[accountID]; a != nil {
		return a.from.Queues[queueID]
	}
	return nil
}

// named returns a queue by its name, nil if there is none.
func (t *table) named(accountID, name string) *spec.Queue {
	if a := t.accounts[accountID]; a != nil {
		return a.byName[name]
	}
	return nil
}

// consumer returns who takes a queue's messages, nil if nobody does.
func (t *table) consumer(accountID, queueID string) *spec.QueueConsumer {
	if a := t.accounts[accountID]; a != nil {
		return a.consumers[queueID]
	}
	return nil
}

// policy says what becomes of a queue's messages whose delivery failed. Without a consumer they stay.
func (t *table) policy(accountID, queueID string) backlog.Policy {
	p := backlog.Policy{MaxRetries: spec.MaxQueueRetries}
	if q := t.queue(accountID, queueID); q != nil {
		p.Retention = q.Settings.Kept()
	}
	c := t.consumer(accountID, queueID)
	if c == nil {
		return p
	}
	p.MaxRetries, p.RetryDelay = c.Settings.MaxRetries, time.Duration(c.Settings.RetryDelay)*time.Second
	if c.DeadLetter != "" {
		p.DeadLetter = "(none)"
		if q := t.named(accountID, c.DeadLetter); q != nil {
			p.DeadLetter = q.ID
		}
	}
	return p
}
