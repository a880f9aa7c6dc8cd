package spec

import (
	"errors"
	"regexp"
	"time"

	"selvage/foundation/fault"
)

// Kinds of nouns that queues are made of, scoped by account.
const (
	KindQueue         Kind = "queue"
	KindQueueConsumer Kind = "queue_consumer"
)

// Types of consumers.
const (
	ConsumerWorker = "worker"
	ConsumerPull   = "http_pull"
)

// Limits of queues and consumers, as at Cloudflare ("Queues: Limits").
const (
	MaxQueueDelay      = 86400   // seconds that a message may be delayed, when sent or tried again
	MinQueueRetention  = 60      // seconds
	MaxQueueRetention  = 1209600 // seconds
	MaxQueueBatch      = 100     // messages
	MaxQueueRetries    = 100
	MaxQueueWait       = 60_000 // milliseconds until a batch is delivered that is not full
	MaxQueueConcurrent = 250    // batches under way
	MaxQueueVisibility = 43_200_000
)

// Queue is a queue of messages.
type Queue struct {
	ID         string        `json:"queue_id"` // 32 hex digits
	AccountID  string        `json:"account_id"`
	Name       string        `json:"queue_name"` // unique in the account
	Settings   QueueSettings `json:"settings"`
	CreatedOn  time.Time     `json:"created_on"`
	ModifiedOn time.Time     `json:"modified_on"`
}

// QueueSettings are how a queue keeps and delivers messages.
type QueueSettings struct {
	DeliveryDelay  int  `json:"delivery_delay"` // seconds, for messages that say nothing of it
	DeliveryPaused bool `json:"delivery_paused"`
	Retention      int  `json:"message_retention_period"` // seconds; 0 is four days
}

const defaultQueueRetention = 4 * 24 * time.Hour

// Kept returns how long messages are kept.
func (s *QueueSettings) Kept() time.Duration {
	if s.Retention == 0 {
		return defaultQueueRetention
	}
	return time.Duration(s.Retention) * time.Second
}

// QueueConsumer takes messages from a queue: a Worker that gets batches, or whoever pulls over HTTP.
type QueueConsumer struct {
	ID         string           `json:"consumer_id"` // 32 hex digits
	AccountID  string           `json:"account_id"`
	QueueID    string           `json:"queue_id"`
	Type       string           `json:"type"`                        // worker, http_pull
	Script     string           `json:"script,omitempty"`            // worker
	DeadLetter string           `json:"dead_letter_queue,omitempty"` // name of the queue that takes what failed too often
	Settings   ConsumerSettings `json:"settings"`
	CreatedOn  time.Time        `json:"created_on"`
}

// ConsumerSettings are how messages are delivered to a consumer. The API fills in the defaults.
type ConsumerSettings struct {
	BatchSize      int `json:"batch_size"`
	MaxRetries     int `json:"max_retries"`
	RetryDelay     int `json:"retry_delay"`                     // seconds
	MaxWait        int `json:"max_wait_time_ms,omitempty"`      // worker
	MaxConcurrency int `json:"max_concurrency,omitempty"`       // worker; 0 is as many as the node finds right
	Visibility     int `json:"visibility_timeout_ms,omitempty"` // http_pull
}

// Key returns the queue's key.
func (q *Queue) Key() Key { return Key{KindQueue, q.AccountID, q.ID} }

// Key returns the consumer's key.
func (c *QueueConsumer) Key() Key { return Key{KindQueueConsumer, c.AccountID, c.ID} }

// What Cloudflare's API calls a name that is not valid, and settings that are out of range; wrangler
// knows the latter.
const (
	codeQueueName        = 11003
	codeConsumerSettings = 100127
	codeQueueSettings    = 100128
)

var queueName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Validate checks the name and the settings.
func (q *Queue) Validate() error {
	if !queueName.MatchString(q.Name) {
		return fault.New(fault.Invalid, "The queue name %.80q is not valid: it has 1 to 63 lower-case letters, digits and hyphens and neither begins nor ends with a hyphen.", q.Name).WithCode(codeQueueName).At("queue_name")
	}
	s := &q.Settings
	err := numberIn("settings.delivery_delay", s.DeliveryDelay, 0, MaxQueueDelay, codeQueueSettings)
	if s.Retention != 0 {
		err = errors.Join(err, numberIn("settings.message_retention_period", s.Retention, MinQueueRetention, MaxQueueRetention, codeQueueSettings))
	}
	return err
}

// Validate checks the type and the settings.
func (c *QueueConsumer) Validate() error {
	s := &c.Settings
	var err error
	switch c.Type {
	case ConsumerWorker:
		err = errors.Join(
			numberIn("settings.max_wait_time_ms", s.MaxWait, 0, MaxQueueWait, codeConsumerSettings),
			numberIn("settings.max_concurrency", s.MaxConcurrency, 0, MaxQueueConcurrent, codeConsumerSettings))
	case ConsumerPull:
		err = numberIn("settings.visibility_timeout_ms", s.Visibility, 1, MaxQueueVisibility, codeConsumerSettings)
	default:
		return fault.New(fault.Invalid, "The type of a consumer is worker or http_pull, not %.40q.", c.Type).At("type")
	}
	return errors.Join(err,
		numberIn("settings.batch_size", s.BatchSize, 1, MaxQueueBatch, codeConsumerSettings),
		numberIn("settings.max_retries", s.MaxRetries, 0, MaxQueueRetries, codeConsumerSettings),
		numberIn("settings.retry_delay", s.RetryDelay, 0, MaxQueueDelay, codeConsumerSettings))
}

// numberIn refuses a number out of range.
func numberIn(field string, n, least, most, code int) error {
	if n >= least && n <= most {
		return nil
	}
	return fault.New(fault.Invalid, "%s is %d; it must be from %d to %d.", field, n, least, most).WithCode(code).At(field)
}
