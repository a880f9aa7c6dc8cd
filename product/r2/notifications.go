package r2

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/r2/store"
	"selvage/spec"
)

// maxNotifications is how many rules a bucket may have, as at Cloudflare.
const maxNotifications = 100

// Numbers of the faults of event notifications in the v4 API, which are not those of R2.
const (
	codeBucketUnknown = 10085
	codeNoQueueConfig = 11011
	codeNoConfig      = 11015
)

func (p *R2) notificationRoutes() []product.Route {
	const all = "/accounts/{account_id}/event_notifications/r2/{bucket_name}/configuration"
	const one = all + "/queues/{queue_id}"
	return []product.Route{
		{Method: "GET", Path: all, Permission: readStorage, Summary: "List which changes of a bucket's objects become messages of queues.", Handle: p.listNotifications},
		{Method: "GET", Path: one, Permission: readStorage, Summary: "Show which changes of a bucket's objects become messages of a queue.", Handle: p.showNotifications},
		{Method: "PUT", Path: one, Permission: writeStorage, Summary: "Add rules by which changes of a bucket's objects become messages of a queue.", Handle: p.addNotifications},
		{Method: "DELETE", Path: one, Permission: writeStorage, Summary: "Remove rules by which changes become messages of a queue: those named, or all.", Handle: p.deleteNotifications},
	}
}

// queueReply is what one queue gets, as the API shows it.
type queueReply struct {
	QueueID   string             `json:"queueId"`
	QueueName string             `json:"queueName"`
	Rules     []notificationView `json:"rules"`
}

type notificationView struct {
	RuleID      string   `json:"ruleId"`
	CreatedAt   string   `json:"createdAt"`
	Prefix      string   `json:"prefix,omitempty"`
	Suffix      string   `json:"suffix,omitempty"`
	Actions     []string `json:"actions"`
	Description string   `json:"description,omitempty"`
}

// queueReplies shows the rules of a bucket by queue.
func (p *R2) queueReplies(b *spec.Bucket) []queueReply {
	list := []queueReply{}
	queues := p.o.State.Snapshot().StorageOf(b.AccountID).Queues
	for _, r := range b.Notifications {
		i := slices.IndexFunc(list, func(q queueReply) bool { return q.QueueID == r.QueueID })
		if i < 0 {
			q := queueReply{QueueID: r.QueueID}
			if known := queues[r.QueueID]; known != nil {
				q.QueueName = known.Name
			}
			list, i = append(list, q), len(list)
		}
		list[i].Rules = append(list[i].Rules, notificationView{r.ID, asDate(r.CreatedOn), r.Prefix, r.Suffix, r.Actions, r.Description})
	}
	return list
}

func (p *R2) listNotifications(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := p.bucketOf(c)
	if err != nil {
		return product.Reply{}, withoutBucket(err)
	}
	if len(b.Notifications) == 0 {
		return product.Reply{}, fault.New(fault.NotFound, "No event notification config found for bucket '%s': no configurations found for bucket.", b.Name).WithCode(codeNoConfig)
	}
	return product.Reply{Result: map[string]any{"bucketName": b.Name, "queues": p.queueReplies(b)}}, nil
}

func (p *R2) showNotifications(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := p.bucketOf(c)
	if err != nil {
		return product.Reply{}, withoutBucket(err)
	}
	for _, q := range p.queueReplies(b) {
		if q.QueueID == c.Params["queue_id"] {
			return product.Reply{Result: q}, nil
		}
	}
	return product.Reply{}, noNotifications(b, c)
}

func noNotifications(b *spec.Bucket, c *product.Call) error {
	return fault.New(fault.NotFound, "Event notification config not found for the bucket '%s' and queue '%.40s': configuration not found for bucket and queue.", b.Name, c.Params["queue_id"]).WithCode(codeNoQueueConfig)
}

// withoutBucket gives the fault of a bucket that is not there the number that it has here.
func withoutBucket(err error) error {
	if store.CodeOf(err) == codeNoBucket {
		return recoded(err, codeBucketUnknown)
	}
	return err
}

func (p *R2) addNotifications(ctx context.Context, c *product.Call) (product.Reply, error) {
	var in struct {
		Rules []struct {
			Prefix      string   `json:"prefix"`
			Suffix      string   `json:"suffix"`
			Actions     []string `json:"actions"`
			Description string   `json:"description"`
		} `json:"rules"`
	}
	if err := c.Decode(&in, "jurisdiction"); err != nil {
		return product.Reply{}, err
	}
	queue := c.Params["queue_id"]
	if len(in.Rules) == 0 {
		return product.Reply{}, fault.New(fault.Invalid, "Name at least one rule.").WithCode(11002).At("rules")
	}
	_, err := p.alter(ctx, c, func(tx product.Tx, b *spec.Bucket) error {
		if tx.Snapshot().StorageOf(b.AccountID).Queues[queue] == nil {
			return fault.New(fault.NotFound, "There is no queue %.40q on this account.", queue).WithCode(11000)
		}
		b.Notifications = slices.Clone(b.Notifications)
		for i, r := range in.Rules {
			if len(r.Description) > 1024 {
				return fault.New(fault.Invalid, "A description has at most 1024 bytes.").WithCode(11002).At(fmt.Sprintf("rules[%d].description", i))
			}
			rule := spec.NotificationRule{
				ID: newUUID(), QueueID: queue, Prefix: r.Prefix, Suffix: r.Suffix, Actions: r.Actions, Description: r.Description,
				CreatedOn: spec.Timestamp(p.o.Clock.Now()),
			}
			for _, old := range b.Notifications {
				if old.QueueID == queue && overlap(&old, &rule) {
					return fault.New(fault.Conflict, "The rule overlaps with the rule %s of this queue: a change would be told twice.", old.ID).WithCode(11020).At(fmt.Sprintf("rules[%d]", i))
				}
			}
			b.Notifications = append(b.Notifications, rule)
		}
		if len(b.Notifications) > maxNotifications {
			return fault.New(fault.TooMuch, "The bucket would have %d notification rules; the limit is %d.", len(b.Notifications), maxNotifications).At("rules")
		}
		return nil
	})
	return product.Reply{Result: struct{}{}}, withoutBucket(err)
}

// overlap tells whether one change could fit both rules.
func overlap(a, b *spec.NotificationRule) bool {
	either := func(x, y string, in func(s, part string) bool) bool { return in(x, y) || in(y, x) }
	return slices.ContainsFunc(a.Actions, func(s string) bool { return slices.Contains(b.Actions, s) }) &&
		either(a.Prefix, b.Prefix, strings.HasPrefix) && either(a.Suffix, b.Suffix, strings.HasSuffix)
}

func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func (p *R2) deleteNotifications(ctx context.Context, c *product.Call) (product.Reply, error) {
	ids, err := ruleIDs(c)
	if err != nil {
		return product.Reply{}, err
	}
	_, err = p.alter(ctx, c, func(_ product.Tx, b *spec.Bucket) error {
		before := len(b.Notifications)
		b.Notifications = slices.DeleteFunc(slices.Clone(b.Notifications), func(r spec.NotificationRule) bool {
			return r.QueueID == c.Params["queue_id"] && (len(ids) == 0 || slices.Contains(ids, r.ID))
		})
		if len(b.Notifications) == before {
			return noNotifications(b, c)
		}
		return nil
	})
	return product.Reply{Result: struct{}{}}, withoutBucket(err)
}

// ruleIDs reads which rules to remove; no body means all.
func ruleIDs(c *product.Call) ([]string, error) {
	var in struct {
		RuleIDs []string `json:"ruleIds"`
	}
	if c.Body == nil {
		return nil, nil
	}
	body, err := io.ReadAll(c.Body)
	if err != nil || len(body) == 0 {
		return nil, err
	}
	err = product.DecodeJSON(body, &in)
	return in.RuleIDs, err
}

// wanted tells whether anybody is notified of a bucket's changes.
func (p *R2) wanted(id store.Bucket) bool {
	b := p.current.Load().bucket(id)
	return p.o.Notify != nil && b != nil && len(b.Notifications) > 0
}

// message is what a queue gets. Source: developers.cloudflare.com/r2/buckets/event-notifications.
type message struct {
	Account string         `json:"account"`
	Action  string         `json:"action"`
	Bucket  string         `json:"bucket"`
	Object  messageObject  `json:"object"`
	Time    string         `json:"eventTime"`
	Source  *messageSource `json:"copySource,omitempty"`
}

type messageObject struct {
	Key  string  `json:"key"`
	Size *int64  `json:"size,omitempty"`
	ETag *string `json:"eTag,omitempty"`
}

type messageSource struct {
	Bucket string `json:"bucket"`
	Object string `json:"object"`
}

// tell puts an event into the queues whose rules ask for it. After an error it is told again, also to
// those that have it.
func (p *R2) tell(ctx context.Context, e store.Event) error {
	buckets := p.current.Load()
	b := buckets.bucket(e.Bucket)
	if b == nil || p.o.Notify == nil {
		return nil
	}
	m := message{Account: b.AccountID, Action: e.Action, Bucket: b.Name, Object: messageObject{Key: e.Key}, Time: asDate(e.Time)}
	if e.Action != store.ActionDelete && e.Action != store.ActionLifecycle {
		m.Object.Size, m.Object.ETag = &e.Size, &e.ETag
	}
	if e.Action == store.ActionCopy {
		m.Source = &messageSource{Object: e.SourceKey}
		if from := buckets.bucket(e.SourceBucket); from != nil {
			m.Source.Bucket = from.Name
		}
	}
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	for _, queue := range queuesFor(b, &e) {
		if err := p.send(ctx, b.AccountID, queue, body); err != nil {
			return err
		}
	}
	return nil
}

// sendWithin bounds one try.
const sendWithin = 30 * time.Second

func (p *R2) send(ctx context.Context, accountID, queue string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	err := p.o.Notify(ctx, accountID, queue, body)
	if kind := fault.KindOf(err); err != nil && kind != fault.Unavailable && kind != fault.Internal {
		// The queue was deleted or is full: the events behind this one do not wait for it.
		p.metrics.messages.WithLabelValues("lost").Inc()
		p.o.Observe.Logger().Warn("a queue did not take the message about an object", "account", accountID, "queue", queue, "error", err)
		return nil
	}
	if err != nil {
		p.metrics.messages.WithLabelValues("failed").Inc()
		return fmt.Errorf("notify queue %s: %w", queue, err)
	}
	p.metrics.messages.WithLabelValues("sent").Inc()
	return nil
}

// queuesFor returns the queues that want an event, each once.
func queuesFor(b *spec.Bucket, e *store.Event) []string {
	var list []string
	for _, r := range b.Notifications {
		if slices.Contains(r.Actions, e.Action) && strings.HasPrefix(e.Key, r.Prefix) && strings.HasSuffix(e.Key, r.Suffix) && !slices.Contains(list, r.QueueID) {
			list = append(list, r.QueueID)
		}
	}
	return list
}
