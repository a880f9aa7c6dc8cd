package spec

import (
	"regexp"
	"time"

	"selvage/foundation/fault"
)

// Kinds of nouns that queues are made of, scoped by account.
const (
	KindQueue         Kind = "queue"
	KindQueueConsumer Kind = "queue_consumer"
)

// Queue is a queue of messages.
type Queue struct {
	ID         string    `json:"queue_id"` // 32 hex digits
	AccountID  string    `json:"account_id"`
	Name       string    `json:"queue_name"` // unique in the account
	CreatedOn  time.Time `json:"created_on"`
	ModifiedOn time.Time `json:"modified_on"`
}

// QueueConsumer takes messages from a queue: a Worker that gets batches, or whoever pulls over HTTP.
type QueueConsumer struct {
	ID        string    `json:"consumer_id"` // 32 hex digits
	AccountID string    `json:"account_id"`
	QueueID   string    `json:"queue_id"`
	Type      string    `json:"type"`             // worker, http_pull
	Script    string    `json:"script,omitempty"` // worker
	CreatedOn time.Time `json:"created_on"`
}

// Key returns the queue's key.
func (q *Queue) Key() Key { return Key{KindQueue, q.AccountID, q.ID} }

// Key returns the consumer's key.
func (c *QueueConsumer) Key() Key { return Key{KindQueueConsumer, c.AccountID, c.ID} }

var queueName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Validate checks the name.
func (q *Queue) Validate() error {
	if !queueName.MatchString(q.Name) {
		return fault.New(fault.Invalid, "The queue name %.80q is not valid: it has 1 to 63 lower-case letters, digits and hyphens and neither begins nor ends with a hyphen.", q.Name).At("queue_name")
	}
	return nil
}

// Validate checks the type.
func (c *QueueConsumer) Validate() error {
	if c.Type != "worker" && c.Type != "http_pull" {
		return fault.New(fault.Invalid, "The type of a consumer is worker or http_pull, not %.40q.", c.Type).At("type")
	}
	return nil
}
