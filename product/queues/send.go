package queues

import (
	"context"
	"encoding/json"
	"time"
	"unicode/utf8"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/queues/backlog"
	"selvage/spec"
)

// Limits of what is sent. A kilobyte is 1,000 bytes here, as in Cloudflare's list of limits.
const (
	maxMessage      = 128_000 // bytes
	maxBatch        = 100     // messages
	maxBatchBytes   = 256_000
	maxBacklogBytes = 25_000_000_000 // of a queue
)

// Message is a message to be sent.
type Message struct {
	ContentType string // json, text, bytes, v8; empty is json
	Source      backlog.Source
	Body        []byte
	Delay       *int // seconds until it may be delivered; nil is the queue's setting
}

// Send puts a message of R2 into a queue, and returns when it is on disk.
func (p *Queues) Send(ctx context.Context, accountID, queueID string, m Message) error {
	q := p.current.Load().queue(accountID, queueID)
	if q == nil {
		return noQueue(queueID)
	}
	m.Source = backlog.FromR2
	_, err := p.send(ctx, q, []Message{m})
	return err
}

func noQueue(id string) error {
	return fault.New(fault.NotFound, "There is no queue %.80q. GET /accounts/{account_id}/queues lists those that there are.", id).WithCode(codeNotFound)
}

// send puts messages into a queue, all or none.
func (p *Queues) send(ctx context.Context, q *spec.Queue, messages []Message) (backlog.Stats, error) {
	if err := ctx.Err(); err != nil {
		return backlog.Stats{}, err
	}
	drafts, size, err := drafts(q, messages)
	if err != nil {
		return backlog.Stats{}, err
	}
	store, err := p.backlog()
	if err != nil {
		return backlog.Stats{}, err
	}
	if err := p.bytesQuota().Check(p.o.State.Snapshot(), q.AccountID, store.Used(q.AccountID), size); err != nil {
		return backlog.Stats{}, recode(err, codeStorageLimit)
	}
	b, err := store.Queue(q.AccountID, q.ID)
	if err != nil {
		return backlog.Stats{}, err
	}
	st, err := b.Send(drafts, maxBacklogBytes)
	if err != nil {
		return st, recode(err, codeStorageLimit)
	}
	p.metrics.count("sent", len(drafts))
	return b.Fresh()
}

// drafts checks messages and brings them into the backlog's form.
func drafts(q *spec.Queue, messages []Message) (list []backlog.Draft, size int64, err error) {
	switch n := len(messages); {
	case n == 0:
		return nil, 0, fault.New(fault.Invalid, "The batch has no message; send 1 to %d.", maxBatch).WithCode(codeBatchCount).At("messages")
	case n > maxBatch:
		return nil, 0, fault.New(fault.TooMuch, "The batch has %d messages, the limit is %d.", n, maxBatch).WithCode(codeBatchCount).At("messages")
	}
	for i := range messages {
		d, err := messages[i].draft(q)
		if err != nil {
			return nil, 0, err
		}
		list = append(list, d)
		size += int64(len(d.Body))
	}
	if len(messages) > 1 && size > maxBatchBytes {
		return nil, 0, fault.New(fault.TooMuch, "The messages of the batch have %d bytes together, the limit is %d.", size, maxBatchBytes).WithCode(codeBatchSize).At("messages")
	}
	return list, size, nil
}

func (m *Message) draft(q *spec.Queue) (d backlog.Draft, err error) {
	d.Body, d.Source = m.Body, m.Source
	if len(m.Body) > maxMessage {
		return d, fault.New(fault.TooMuch, "The message has %d bytes, the limit is %d.", len(m.Body), maxMessage).WithCode(codeMessageSize).At("body")
	}
	kind := m.ContentType
	if kind == "" {
		kind = "json"
	}
	var ok bool
	if d.Format, ok = backlog.ParseFormat(kind); !ok {
		return d, fault.New(fault.Invalid, "The content type %.40q is not known; it is json, text, bytes or v8.", kind).WithCode(codeMetadata).At("content_type")
	}
	if d.Format == backlog.JSON && !json.Valid(m.Body) {
		return d, fault.New(fault.Invalid, "The body is not JSON, as its content type says.").WithCode(codeMetadata).At("body")
	}
	if d.Format == backlog.Text && !utf8.Valid(m.Body) {
		return d, fault.New(fault.Invalid, "The body is not text in UTF-8, as its content type says.").WithCode(codeMetadata).At("body")
	}
	seconds := q.Settings.DeliveryDelay
	if m.Delay != nil {
		seconds = *m.Delay
	}
	if seconds < 0 || seconds > spec.MaxQueueDelay {
		return d, fault.New(fault.Invalid, "The delay is %d seconds; it must be from 0 to %d.", seconds, spec.MaxQueueDelay).WithCode(codeMetadata).At("delay_seconds")
	}
	d.Delay = time.Duration(seconds) * time.Second
	return d, nil
}

// Quotas returns what is counted of each account.
func (p *Queues) Quotas() []product.Quota { return []product.Quota{*p.queuesQuota(), *p.bytesQuota()} }

func (p *Queues) queuesQuota() *product.Quota {
	return &product.Quota{Name: "queues_queues", Summary: "Queues.", Default: 10_000, Used: func(_ context.Context, accountID string) (int64, error) {
		return int64(len(p.o.State.Snapshot().StorageOf(accountID).Queues)), nil
	}}
}

func (p *Queues) bytesQuota() *product.Quota {
	return &product.Quota{Name: "queues_bytes", Summary: "Bytes of messages that are not acknowledged; each queue may hold 25 GB.", Used: func(_ context.Context, accountID string) (int64, error) {
		s, err := p.backlog()
		if err != nil {
			return 0, err
		}
		return s.Used(accountID), nil
	}}
}
