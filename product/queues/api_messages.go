package queues

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/queues/backlog"
	"selvage/spec"
)

const (
	maxBody   = 2 << 20 // bytes of a batch as JSON, where characters may be escaped
	maxAcks   = 1000    // leases in one request
	pullBytes = 4 << 20 // bodies in the answer of a pull

)

func (p *Queues) messageRoutes() []product.Route {
	const path = queuePath + "/messages"
	return []product.Route{
		{Method: "POST", Path: path, Permission: writeQueues, MaxBody: maxBody, Summary: "Send a message to a queue.", Handle: p.push},
		{Method: "POST", Path: path + "/batch", Permission: writeQueues, MaxBody: maxBody, Summary: "Send up to 100 messages to a queue.", Handle: p.pushBatch},
		{Method: "POST", Path: path + "/pull", Permission: writeQueues, Summary: "Take messages from a queue for a while.", Handle: p.pull},
		{Method: "POST", Path: path + "/ack", Permission: writeQueues, Summary: "Acknowledge messages that were pulled, or give them back.", Handle: p.ack},
		{Method: "POST", Path: path + "/preview", Permission: readQueues, Summary: "Show the first messages of a queue without taking them.", Handle: p.preview},
	}
}

// target is find for messages, whose endpoints have codes of their own.
func (p *Queues) target(c *product.Call) (*spec.Queue, error) {
	id := c.Params["queue_id"]
	q := p.o.State.Snapshot().StorageOf(c.Account.ID).Queues[id]
	if q == nil {
		return nil, noQueue(id)
	}
	return q, nil
}

// messageInput is a message as clients send it.
type messageInput struct {
	Body         json.RawMessage `json:"body"`
	ContentType  string          `json:"content_type"`
	DelaySeconds *int            `json:"delay_seconds"`
}

// message reads the body as its content type says: text and bytes (in base64) are JSON strings.
func (in *messageInput) message() (Message, error) {
	m := Message{ContentType: in.ContentType, Source: backlog.FromAPI, Delay: in.DelaySeconds}
	if in.Body == nil {
		return m, fault.New(fault.Invalid, "The message has no body.").WithCode(codeBody).At("body")
	}
	switch in.ContentType {
	case "", "json":
		var b bytes.Buffer
		if err := json.Compact(&b, in.Body); err != nil {
			return m, err
		}
		m.Body = b.Bytes()
		return m, nil
	case "text", "bytes":
		var s string
		if err := json.Unmarshal(in.Body, &s); err != nil {
			return m, fault.New(fault.Invalid, "The body of a message with the content type %s is a string.", in.ContentType).WithCode(codeBody).At("body")
		}
		if m.Body = []byte(s); in.ContentType == "text" {
			return m, nil
		}
		raw, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return m, fault.New(fault.Invalid, "The body of a message with the content type bytes is base64.").WithCode(codeBody).At("body")
		}
		m.Body = raw
		return m, nil
	}
	return m, fault.New(fault.Invalid, "The content type %.40q cannot be sent over HTTP; json, text and bytes can.", in.ContentType).WithCode(codeMetadata).At("content_type")
}

// metricsResult is how full a queue is, as the API shows it. A time of 0 is none.
type metricsResult struct {
	Bytes  int64 `json:"backlog_bytes"`
	Count  int64 `json:"backlog_count"`
	Oldest int64 `json:"oldest_message_timestamp_ms"`
}

func showStats(st backlog.Stats) metricsResult {
	m := runtimeMetrics(st)
	return metricsResult{m.Bytes, m.Count, m.Oldest}
}

func withMetrics(st backlog.Stats) map[string]any {
	return map[string]any{"metadata": map[string]any{"metrics": showStats(st)}}
}

func (p *Queues) push(ctx context.Context, c *product.Call) (product.Reply, error) {
	var in messageInput
	if err := decodeMessages(c, &in); err != nil {
		return product.Reply{}, err
	}
	return p.pushAll(ctx, c, []messageInput{in})
}

func (p *Queues) pushBatch(ctx context.Context, c *product.Call) (product.Reply, error) {
	var in struct {
		Messages     []messageInput `json:"messages"`
		DelaySeconds *int           `json:"delay_seconds"`
	}
	if err := decodeMessages(c, &in); err != nil {
		return product.Reply{}, err
	}
	for i := range in.Messages {
		if in.Messages[i].DelaySeconds == nil {
			in.Messages[i].DelaySeconds = in.DelaySeconds
		}
	}
	return p.pushAll(ctx, c, in.Messages)
}

func (p *Queues) pushAll(ctx context.Context, c *product.Call, in []messageInput) (product.Reply, error) {
	q, err := p.target(c)
	if err != nil {
		return product.Reply{}, err
	}
	messages := make([]Message, len(in))
	for i := range in {
		if messages[i], err = in[i].message(); err != nil {
			return product.Reply{}, err
		}
	}
	st, err := p.send(ctx, q, messages)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: withMetrics(st)}, nil
}

// pulled is a message as it is pulled.
type pulled struct {
	Body        string            `json:"body"`
	ID          string            `json:"id"`
	TimestampMS int64             `json:"timestamp_ms"`
	Attempts    int               `json:"attempts"`
	Metadata    map[string]string `json:"metadata"`
	LeaseID     backlog.Lease     `json:"lease_id,omitempty"`
}

// showMessages writes text as it is, and all else in base64, as Cloudflare does.
func showMessages(messages []backlog.Message) []pulled {
	list := make([]pulled, 0, len(messages))
	for _, m := range messages {
		body := string(m.Body)
		if m.Format != backlog.Text {
			body = base64.StdEncoding.EncodeToString(m.Body)
		}
		list = append(list, pulled{
			Body: body, ID: m.ID, TimestampMS: m.Sent.UnixMilli(), Attempts: m.Attempts, LeaseID: m.Lease,
			Metadata: map[string]string{"CF-Content-Type": m.Format.String(), "CF-sourceMessageSource": m.Source.String()},
		})
	}
	return list
}

// pullable returns a queue that can be pulled from, and its consumer.
func (p *Queues) pullable(c *product.Call) (*spec.Queue, *spec.QueueConsumer, *backlog.Queue, error) {
	q, err := p.target(c)
	if err != nil {
		return nil, nil, nil, err
	}
	consumer := p.current.Load().consumer(q.AccountID, q.ID)
	if consumer == nil || consumer.Type != spec.ConsumerPull {
		return nil, nil, nil, fault.New(fault.Conflict, "The queue %s has no http_pull consumer. Give it one first, as with `wrangler queues consumer http add %s`.", q.Name, q.Name)
	}
	store, err := p.backlog()
	if err != nil {
		return nil, nil, nil, err
	}
	b, err := store.Queue(q.AccountID, q.ID)
	return q, consumer, b, err
}

func (p *Queues) pull(_ context.Context, c *product.Call) (product.Reply, error) {
	var in struct {
		BatchSize    *int `json:"batch_size"`
		VisibilityMS *int `json:"visibility_timeout_ms"`
		Visibility   *int `json:"visibility_timeout"` // in milliseconds, too: the name in Cloudflare's guide
	}
	if err := decodeMessages(c, &in); err != nil {
		return product.Reply{}, err
	}
	q, consumer, b, err := p.pullable(c)
	if err != nil {
		return product.Reply{}, err
	}
	if q.Settings.DeliveryPaused {
		return product.Reply{}, fault.New(fault.Conflict, "queue_delivery_paused: the queue %s is paused. Resume it to pull messages.", q.Name).WithCode(codePaused)
	}
	if in.VisibilityMS == nil {
		in.VisibilityMS = in.Visibility
	}
	count, visible := or(in.BatchSize, consumer.Settings.BatchSize), or(in.VisibilityMS, consumer.Settings.Visibility)
	if count < 1 || count > spec.MaxQueueBatch {
		return product.Reply{}, fault.New(fault.Invalid, "batch_size is %d; it must be from 1 to %d.", count, spec.MaxQueueBatch).WithCode(codeBody).At("batch_size")
	}
	if visible < 1 || visible > spec.MaxQueueVisibility {
		return product.Reply{}, fault.New(fault.Invalid, "visibility_timeout_ms is %d; it must be from 1 to %d.", visible, spec.MaxQueueVisibility).WithCode(codeBody).At("visibility_timeout_ms")
	}
	_, messages, err := b.Take(backlog.Wanted{Count: count, Bytes: pullBytes, Visible: time.Duration(visible) * time.Millisecond, Policy: p.policy(q.AccountID, q.ID)})
	if err != nil {
		return product.Reply{}, err
	}
	p.pumps.lent()
	p.metrics.count("pulled", len(messages))
	st, err := b.Fresh()
	if err != nil {
		return product.Reply{}, err
	}
	result := withMetrics(st)
	result["message_backlog_count"], result["messages"] = st.Count, showMessages(messages)
	return product.Reply{Result: result}, nil
}

// lent has the leases looked at: a new one may end first.
func (s *pumps) lent() {
	select {
	case s.leased <- struct{}{}:
	default:
	}
}

func (p *Queues) ack(_ context.Context, c *product.Call) (product.Reply, error) {
	var in struct {
		Acks []struct {
			LeaseID backlog.Lease `json:"lease_id"`
		} `json:"acks"`
		Retries []struct {
			LeaseID      backlog.Lease `json:"lease_id"`
			DelaySeconds *int          `json:"delay_seconds"`
		} `json:"retries"`
	}
	if err := decodeMessages(c, &in); err != nil {
		return product.Reply{}, err
	}
	if n := len(in.Acks) + len(in.Retries); n > maxAcks {
		return product.Reply{}, fault.New(fault.TooMuch, "There are %d acks and retries, the limit is %d in one request.", n, maxAcks).WithCode(codeBatchCount).At("acks")
	}
	q, consumer, b, err := p.pullable(c)
	if err != nil {
		return product.Reply{}, err
	}
	var acks []backlog.Lease
	for _, a := range in.Acks {
		acks = append(acks, a.LeaseID)
	}
	var retries []backlog.Retry
	for _, r := range in.Retries {
		delay := or(r.DelaySeconds, consumer.Settings.RetryDelay)
		if delay < 0 || delay > spec.MaxQueueDelay {
			return product.Reply{}, fault.New(fault.Invalid, "A delay_seconds is %d; it must be from 0 to %d.", delay, spec.MaxQueueDelay).WithCode(codeMetadata).At("retries")
		}
		retries = append(retries, backlog.Retry{Lease: r.LeaseID, Delay: time.Duration(delay) * time.Second})
	}
	done, err := b.Redeem(acks, retries, p.policy(q.AccountID, q.ID))
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: map[string]any{"ackCount": done.Acked, "retryCount": done.Retried, "warnings": done.Warnings}}, nil
}

func (p *Queues) preview(_ context.Context, c *product.Call) (product.Reply, error) {
	var in struct {
		BatchSize *int `json:"batch_size"`
	}
	if err := decodeMessages(c, &in, "visibility_timeout_ms"); err != nil {
		return product.Reply{}, err
	}
	q, b, err := p.stored(c)
	if err != nil {
		return product.Reply{}, err
	}
	count := or(in.BatchSize, defaultPullBatch)
	if count < 1 || count > spec.MaxQueueBatch {
		return product.Reply{}, fault.New(fault.Invalid, "batch_size is %d; it must be from 1 to %d.", count, spec.MaxQueueBatch).WithCode(codeBody).At("batch_size")
	}
	messages, err := b.Peek(count, pullBytes)
	if err != nil {
		return product.Reply{}, err
	}
	st, err := b.Fresh()
	if err != nil {
		return product.Reply{}, err
	}
	result := withMetrics(st)
	result["queue_name"], result["message_backlog_count"], result["messages"] = q.Name, st.Count, showMessages(messages)
	return product.Reply{Result: result}, nil
}

// stored returns the queue that a call's path names, with its messages.
func (p *Queues) stored(c *product.Call) (*spec.Queue, *backlog.Queue, error) {
	q, err := p.find(c)
	if err != nil {
		return nil, nil, err
	}
	store, err := p.backlog()
	if err != nil {
		return nil, nil, err
	}
	b, err := store.Queue(q.AccountID, q.ID)
	return q, b, err
}

func (p *Queues) showMetrics(_ context.Context, c *product.Call) (product.Reply, error) {
	_, b, err := p.stored(c)
	if err != nil {
		return product.Reply{}, err
	}
	st, err := b.Fresh()
	return product.Reply{Result: showStats(st)}, err
}

func (p *Queues) purge(_ context.Context, c *product.Call) (product.Reply, error) {
	var in struct {
		Permanently *bool `json:"delete_messages_permanently"`
	}
	if err := decode(c, &in); err != nil {
		return product.Reply{}, err
	}
	if in.Permanently == nil || !*in.Permanently {
		return product.Reply{}, fault.New(fault.Invalid, "A purge cannot be undone: confirm it with \"delete_messages_permanently\": true.").WithCode(codeBody).At("delete_messages_permanently")
	}
	q, b, err := p.stored(c)
	if err != nil {
		return product.Reply{}, err
	}
	if err := b.Purge(); err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: newShowing(p.o.State.Snapshot(), c.Account.ID).queue(q)}, nil
}

func (p *Queues) showPurge(_ context.Context, c *product.Call) (product.Reply, error) {
	_, b, err := p.stored(c)
	if err != nil {
		return product.Reply{}, err
	}
	started := ""
	if at := b.Purged(); !at.IsZero() {
		started = at.Format(time.RFC3339Nano)
	}
	// A purge has ended when it is answered.
	return product.Reply{Result: map[string]any{"started_at": started, "completed": started, "complete": true}}, nil
}

// subscriptionRoutes refuse what this node does not offer in words, instead of as unknown paths.
func (p *Queues) subscriptionRoutes() []product.Route {
	const path = "/accounts/{account_id}/event_subscriptions/subscriptions"
	const one = path + "/{subscription_id}"
	refuse := func(context.Context, *product.Call) (product.Reply, error) {
		return product.Reply{}, fault.New(fault.Unsupported, "Event subscriptions are not offered by this node. R2 buckets can send event notifications to a queue: `wrangler r2 bucket notification create`.")
	}
	const summary = "Not offered: event subscriptions of other products."
	return []product.Route{
		{Method: "GET", Path: path, Permission: readQueues, Summary: summary, Handle: refuse},
		{Method: "POST", Path: path, Permission: writeQueues, Summary: summary, Handle: refuse},
		{Method: "GET", Path: one, Permission: readQueues, Summary: summary, Handle: refuse},
		{Method: "PATCH", Path: one, Permission: writeQueues, Summary: summary, Handle: refuse},
		{Method: "DELETE", Path: one, Permission: writeQueues, Summary: summary, Handle: refuse},
	}
}
