package queues

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"

	"selvage/edge"
	"selvage/engine/isolate"
	"selvage/foundation/budget"
	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/queues/backlog"
	"selvage/spec"
)

// maxBatchBody is the most bytes of a batch as the runtime sends it: in base64, with fields around.
const maxBatchBody = maxBatchBytes*4/3 + maxBatch*128 + 1024

// Bindings returns what scripts can bind to.
func (p *Queues) Bindings() []product.BindingType {
	return []product.BindingType{{Type: "queue", Kind: isolate.Queue, Check: p.checkBinding, Handle: p.handle, Refuse: refuseInstead}}
}

// producer is a binding as clients send it.
type producer struct {
	QueueName     string `json:"queue_name"`
	DeliveryDelay *int   `json:"delivery_delay"`
}

// checkBinding refuses a binding to a queue that does not exist.
func (p *Queues) checkBinding(_ context.Context, accountID string, b *spec.WorkerBinding) error {
	var in producer
	if err := product.DecodeJSON(orObject(b.Extra), &in, "queue_id", "raw"); err != nil {
		return err
	}
	if p.current.Load().named(accountID, in.QueueName) == nil {
		return fault.New(fault.Invalid, "The queue %.80q of the binding %s does not exist. Make it first, as with `wrangler queues create %.80s`.", in.QueueName, b.Name, in.QueueName).WithCode(11000).At("bindings")
	}
	if d := in.DeliveryDelay; d != nil && (*d < 0 || *d > spec.MaxQueueDelay) {
		return fault.New(fault.Invalid, "The delivery_delay of the binding %s is %d seconds; it must be from 0 to %d.", b.Name, *d, spec.MaxQueueDelay).At("bindings")
	}
	return nil
}

func orObject(text json.RawMessage) []byte {
	if len(text) == 0 {
		return []byte("{}")
	}
	return text
}

// handle returns what answers env.QUEUE.send() and its like, as the runtime speaks: POST /message with
// the body as it is, POST /batch with {"messages":[{"body":BASE64,"contentType","delaySecs"}]}, and GET
// /metrics. Source: workerd, src/workerd/api/queue.c++.
func (p *Queues) handle(user product.BindingUser, b *spec.WorkerBinding) edge.Handler {
	var to producer
	_ = json.Unmarshal(orObject(b.Extra), &to) // it was checked
	return func(ctx context.Context, ex *edge.Exchange) error {
		answer, err := p.answer(ctx, ex, user, &to)
		if err != nil {
			refuse(ex, err)
			return nil
		}
		body, err := json.Marshal(answer)
		if err != nil {
			return err
		}
		var h edge.Header
		h.Set("Content-Type", "application/json")
		ex.Respond(http.StatusOK, h, body)
		return nil
	}
}

// sendMetrics is how full a queue is, as the runtime reads it. A time of 0 is none.
type sendMetrics struct {
	Count  int64 `json:"backlogCount"`
	Bytes  int64 `json:"backlogBytes"`
	Oldest int64 `json:"oldestMessageTimestamp"`
}

func (p *Queues) answer(ctx context.Context, ex *edge.Exchange, user product.BindingUser, to *producer) (any, error) {
	q := p.current.Load().named(user.AccountID, to.QueueName)
	if q == nil {
		return nil, fault.New(fault.NotFound, "The queue %.80q does not exist any more.", to.QueueName).WithCode(codeNotFound)
	}
	var messages []Message
	var err error
	switch r := &ex.Request; r.Method + " " + r.Path {
	case "POST /message":
		messages, err = readMessage(r, to)
	case "POST /batch":
		messages, err = readBatch(r, to)
	case "GET /metrics":
		store, err := p.backlog()
		if err != nil {
			return nil, err
		}
		b, err := store.Queue(q.AccountID, q.ID)
		if err != nil {
			return nil, err
		}
		st, err := b.Fresh()
		return runtimeMetrics(st), err
	default:
		return nil, fault.New(fault.Unsupported, "A queue has no %s %.80s.", r.Method, r.Path)
	}
	if err != nil {
		return nil, err
	}
	st, err := p.send(ctx, q, messages)
	if err != nil {
		return nil, err
	}
	return map[string]any{"metadata": map[string]any{"metrics": runtimeMetrics(st)}}, nil
}

func runtimeMetrics(st backlog.Stats) sendMetrics {
	m := sendMetrics{Count: st.Count, Bytes: st.Bytes}
	if !st.Oldest.IsZero() {
		m.Oldest = st.Oldest.UnixMilli()
	}
	return m
}

// readMessage reads one message, with its format and delay in the header.
func readMessage(r *edge.Request, to *producer) ([]Message, error) {
	body, err := readAll(r, "The message in bytes", maxMessage, codeMessageSize)
	if err != nil {
		return nil, err
	}
	m := Message{ContentType: r.Header.Get("X-Msg-Fmt"), Body: body}
	if m.ContentType == "" {
		m.ContentType = "v8"
	}
	m.Delay, err = delayField(r, to)
	return []Message{m}, err
}

// readBatch reads a batch.
func readBatch(r *edge.Request, to *producer) ([]Message, error) {
	if n, err := strconv.Atoi(r.Header.Get("CF-Queue-Batch-Count")); err == nil && n > maxBatch {
		return nil, fault.New(fault.TooMuch, "The batch has %d messages, the limit is %d.", n, maxBatch).WithCode(codeBatchCount)
	}
	if n, err := strconv.Atoi(r.Header.Get("CF-Queue-Largest-Msg")); err == nil && n > maxMessage {
		return nil, fault.New(fault.TooMuch, "A message of the batch has %d bytes, the limit is %d.", n, maxMessage).WithCode(codeMessageSize)
	}
	body, err := readAll(r, "The batch in bytes", maxBatchBody, codeBatchSize)
	if err != nil {
		return nil, err
	}
	def, err := delayField(r, to)
	if err != nil {
		return nil, err
	}
	var in struct {
		Messages []struct {
			Body        []byte `json:"body"`
			ContentType string `json:"contentType"`
			DelaySecs   *int   `json:"delaySecs"`
		} `json:"messages"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, fault.Wrap(err, fault.Invalid, "The batch is not JSON of the form that the runtime sends.").WithCode(codeBody)
	}
	messages := make([]Message, 0, len(in.Messages))
	for _, m := range in.Messages {
		one := Message{ContentType: m.ContentType, Body: m.Body, Delay: m.DelaySecs}
		if one.ContentType == "" {
			one.ContentType = "v8"
		}
		if one.Delay == nil {
			one.Delay = def
		}
		messages = append(messages, one)
	}
	return messages, nil
}

// delayField returns the delay that the header or else the binding names; nil if neither does.
func delayField(r *edge.Request, to *producer) (*int, error) {
	s := r.Header.Get("X-Msg-Delay-Secs")
	if s == "" {
		return to.DeliveryDelay, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return nil, fault.New(fault.Invalid, "The delay is %.40q; it must be a whole number of seconds.", s).WithCode(codeBatchDelay)
	}
	return &n, nil
}

func readAll(r *edge.Request, what string, limit int64, code int) ([]byte, error) {
	if r.Body == nil {
		return []byte{}, nil
	}
	body, err := io.ReadAll(budget.Reader(what, r.Body, limit))
	if all := fault.All(err); len(all) > 0 && all[0].Kind == fault.TooMuch {
		return nil, all[0].WithCode(code)
	}
	return body, err
}

// refuse answers with an error as the runtime understands it: the status becomes a part of what send()
// throws, and with the compatibility flag queue_expose_error_codes the code does.
func refuse(ex *edge.Exchange, err error) {
	status, code, text := http.StatusInternalServerError, codeInternal, "The message could not be stored; the node's log says why."
	if all := fault.All(err); len(all) > 0 {
		text = all[0].Message
		if all[0].Code != 0 {
			code = all[0].Code
		}
	}
	switch fault.KindOf(err) {
	case fault.Invalid:
		status = http.StatusBadRequest
	case fault.NotFound:
		status = http.StatusNotFound
	case fault.Unsupported:
		status = http.StatusMethodNotAllowed
	case fault.TooMuch:
		status = http.StatusRequestEntityTooLarge
		if code == codeStorageLimit {
			status = http.StatusTooManyRequests
		}
	case fault.Unavailable:
		status = http.StatusServiceUnavailable
	}
	var h edge.Header
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("CF-Queues-Error-Code", strconv.Itoa(code))
	h.Set("CF-Queues-Error-Cause", text)
	ex.Respond(status, h, []byte(text))
}

// refuseInstead answers what the node says in this product's place.
func refuseInstead(ex *edge.Exchange, f *edge.Failure) {
	refuse(ex, fault.New(fault.Unavailable, "%s", f.Detail))
	ex.Response.Text = f.Detail // all that scripts read without queue_expose_error_codes
}
