package queues

import (
	"context"
	"maps"
	"slices"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// Defaults of consumers, as at Cloudflare.
const (
	defaultWorkerBatch = 10
	defaultPullBatch   = 5
	defaultRetries     = 3
	defaultWait        = 5000   // milliseconds
	defaultVisibility  = 30_000 // milliseconds
)

func (p *Queues) consumerRoutes() []product.Route {
	const path = queuePath + "/consumers"
	const one = path + "/{consumer_id}"
	return []product.Route{
		{Method: "GET", Path: path, Permission: readQueues, Summary: "List the consumers of a queue.", Handle: p.listConsumers},
		{Method: "POST", Path: path, Permission: writeQueues, Summary: "Give a queue its consumer: a Worker, or whoever pulls over HTTP.", Handle: p.createConsumer},
		{Method: "GET", Path: one, Permission: readQueues, Summary: "Show a consumer of a queue.", Handle: p.showConsumer},
		{Method: "PUT", Path: one, Permission: writeQueues, Summary: "Replace a consumer of a queue.", Handle: p.replaceConsumer},
		{Method: "DELETE", Path: one, Permission: writeQueues, Summary: "Take a queue's consumer away; its messages wait.", Handle: p.deleteConsumer},
	}
}

// consumerResult is a consumer as the API shows it. wrangler reads script, the SDKs script_name.
type consumerResult struct {
	ID         string               `json:"consumer_id"`
	QueueID    string               `json:"queue_id"`
	QueueName  string               `json:"queue_name"`
	Type       string               `json:"type"`
	Script     string               `json:"script,omitempty"`
	ScriptName string               `json:"script_name,omitempty"`
	DeadLetter string               `json:"dead_letter_queue,omitempty"`
	Settings   consumerSettingsView `json:"settings"`
	CreatedOn  time.Time            `json:"created_on"`
}

type consumerSettingsView struct {
	BatchSize      int  `json:"batch_size"`
	MaxRetries     int  `json:"max_retries"`
	RetryDelay     int  `json:"retry_delay"`
	MaxWait        *int `json:"max_wait_time_ms,omitempty"`
	MaxConcurrency *int `json:"max_concurrency,omitempty"` // not there: as many as the node finds right
	Visibility     *int `json:"visibility_timeout_ms,omitempty"`
}

func showConsumer(c *spec.QueueConsumer, q *spec.Queue) consumerResult {
	s := c.Settings
	r := consumerResult{
		ID: c.ID, QueueID: c.QueueID, QueueName: q.Name, Type: c.Type, Script: c.Script, ScriptName: c.Script, DeadLetter: c.DeadLetter, CreatedOn: c.CreatedOn,
		Settings: consumerSettingsView{BatchSize: s.BatchSize, MaxRetries: s.MaxRetries, RetryDelay: s.RetryDelay},
	}
	switch {
	case c.Type == spec.ConsumerPull:
		r.Settings.Visibility = &s.Visibility
	default:
		r.Settings.MaxWait = &s.MaxWait
		if s.MaxConcurrency > 0 {
			r.Settings.MaxConcurrency = &s.MaxConcurrency
		}
	}
	return r
}

// consumerInput is a consumer as clients send it.
type consumerInput struct {
	Type        string  `json:"type"`
	ScriptName  string  `json:"script_name"`
	Script      string  `json:"script"`
	Environment string  `json:"environment_name"`
	DeadLetter  *string `json:"dead_letter_queue"`
	Settings    struct {
		BatchSize      *int `json:"batch_size"`
		MaxRetries     *int `json:"max_retries"`
		RetryDelay     *int `json:"retry_delay"`
		MaxWait        *int `json:"max_wait_time_ms"`
		MaxConcurrency *int `json:"max_concurrency"`
		Visibility     *int `json:"visibility_timeout_ms"`
	} `json:"settings"`
}

// consumerReadOnly is what clients send back of what they were shown.
var consumerReadOnly = []string{"consumer_id", "queue_id", "queue_name", "created_on"}

// readConsumer makes a consumer of a call's body, with defaults for what it does not say.
func (p *Queues) readConsumer(c *product.Call) (*spec.QueueConsumer, error) {
	var in consumerInput
	if err := decode(c, &in, consumerReadOnly...); err != nil {
		return nil, err
	}
	if in.Type == "" {
		in.Type = spec.ConsumerWorker
	}
	if in.ScriptName == "" {
		in.ScriptName = in.Script
	}
	s := &in.Settings
	made := &spec.QueueConsumer{AccountID: c.Account.ID, QueueID: c.Params["queue_id"], Type: in.Type}
	made.Settings = spec.ConsumerSettings{MaxRetries: or(s.MaxRetries, defaultRetries), RetryDelay: or(s.RetryDelay, 0)}
	if in.DeadLetter != nil {
		made.DeadLetter = *in.DeadLetter
	}
	if in.Type == spec.ConsumerPull {
		made.Settings.BatchSize, made.Settings.Visibility = or(s.BatchSize, defaultPullBatch), or(s.Visibility, defaultVisibility)
		return made, made.Validate()
	}
	made.Script = in.ScriptName
	made.Settings.BatchSize, made.Settings.MaxWait = or(s.BatchSize, defaultWorkerBatch), or(s.MaxWait, defaultWait)
	if s.MaxConcurrency != nil {
		if made.Settings.MaxConcurrency = *s.MaxConcurrency; *s.MaxConcurrency == 0 {
			return nil, fault.New(fault.Invalid, "settings.max_concurrency is 0; it must be from 1 to %d. Pause the queue to stop its delivery.", spec.MaxQueueConcurrent).WithCode(100127).At("settings.max_concurrency")
		}
	}
	if err := made.Validate(); err != nil {
		return nil, err
	}
	if in.Environment != "" && in.Environment != "production" {
		return nil, fault.New(fault.Invalid, "Workers have no environment %.80q here; leave environment_name out.", in.Environment).At("environment_name")
	}
	return made, nil
}

func or(n *int, def int) int {
	if n == nil {
		return def
	}
	return *n
}

// checkConsumer refuses a consumer that names what is not there.
func checkConsumer(s *spec.Snapshot, c *spec.QueueConsumer) (*spec.Queue, error) {
	storage := s.StorageOf(c.AccountID)
	q := storage.Queues[c.QueueID]
	if q == nil {
		return nil, missing(c.QueueID)
	}
	if c.DeadLetter != "" {
		if c.DeadLetter == q.Name {
			return nil, fault.New(fault.Invalid, "The queue %s cannot be its own dead-letter queue.", q.Name).At("dead_letter_queue")
		}
		if !slices.ContainsFunc(slices.Collect(maps.Values(storage.Queues)), func(o *spec.Queue) bool { return o.Name == c.DeadLetter }) {
			return nil, fault.New(fault.Invalid, "The dead-letter queue %.80q does not exist. Make it first, as with `wrangler queues create %.80s`.", c.DeadLetter, c.DeadLetter).WithCode(codeNoQueue).At("dead_letter_queue")
		}
	}
	if c.Type != spec.ConsumerWorker {
		return q, nil
	}
	return q, checkScript(s.WorkersOf(c.AccountID), c.Script)
}

// checkScript refuses a Worker that is not there or takes no messages.
func checkScript(workers *spec.AccountWorkers, name string) error {
	if name == "" {
		return fault.New(fault.Invalid, "The consumer names no Worker.").At("script_name")
	}
	script := workers.Scripts[name]
	if script == nil {
		return fault.New(fault.NotFound, "There is no Worker %.80q. Deploy it first.", name).WithCode(codeNoScript).At("script_name")
	}
	for _, share := range script.Deployment.Versions {
		v := workers.Versions[share.VersionID]
		if v != nil && len(v.Handlers) > 0 && !slices.Contains(v.Handlers, "queue") {
			return fault.New(fault.Invalid, "queue handler is missing: the Worker %s exports no queue() function.", name).WithCode(codeNoHandler).At("script_name")
		}
	}
	return nil
}

func (p *Queues) listConsumers(_ context.Context, c *product.Call) (product.Reply, error) {
	q, err := p.find(c)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: newShowing(p.o.State.Snapshot(), c.Account.ID).queue(q).Consumers}, nil
}

// findConsumer returns the consumer that a call's path names.
func findConsumer(s *spec.Snapshot, c *product.Call) (*spec.Queue, *spec.QueueConsumer, error) {
	storage := s.StorageOf(c.Account.ID)
	q, one := storage.Queues[c.Params["queue_id"]], storage.Consumers[c.Params["consumer_id"]]
	if q == nil {
		return nil, nil, missing(c.Params["queue_id"])
	}
	if one == nil || one.QueueID != q.ID {
		return nil, nil, fault.New(fault.NotFound, "The queue %s has no consumer %.80q.", q.Name, c.Params["consumer_id"]).WithCode(codeNoQueue)
	}
	return q, one, nil
}

func (p *Queues) showConsumer(_ context.Context, c *product.Call) (product.Reply, error) {
	q, one, err := findConsumer(p.o.State.Snapshot(), c)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: showConsumer(one, q)}, nil
}

func (p *Queues) createConsumer(ctx context.Context, c *product.Call) (product.Reply, error) {
	if _, err := p.find(c); err != nil {
		return product.Reply{}, err
	}
	made, err := p.readConsumer(c)
	if err != nil {
		return product.Reply{}, err
	}
	made.ID, made.CreatedOn = spec.NewID(), p.now()
	var q *spec.Queue
	err = p.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		if q, err = checkConsumer(tx.Snapshot(), made); err != nil {
			return err
		}
		for _, other := range tx.Snapshot().StorageOf(c.Account.ID).Consumers {
			if other.QueueID == q.ID {
				return fault.New(fault.Conflict, "workers.api.error.consumer_exists: the queue %s has a %s consumer already, and can have only one. Remove that first.", q.Name, other.Type).WithCode(codeConsumerExists)
			}
		}
		return tx.Put(made)
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: showConsumer(made, q)}, nil
}

func (p *Queues) replaceConsumer(ctx context.Context, c *product.Call) (product.Reply, error) {
	if _, _, err := findConsumer(p.o.State.Snapshot(), c); err != nil {
		return product.Reply{}, err
	}
	made, err := p.readConsumer(c)
	if err != nil {
		return product.Reply{}, err
	}
	var q *spec.Queue
	err = p.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		_, old, err := findConsumer(tx.Snapshot(), c)
		if err != nil {
			return err
		}
		made.ID, made.CreatedOn = old.ID, old.CreatedOn
		if q, err = checkConsumer(tx.Snapshot(), made); err != nil {
			return err
		}
		return tx.Put(made)
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: showConsumer(made, q)}, nil
}

func (p *Queues) deleteConsumer(ctx context.Context, c *product.Call) (product.Reply, error) {
	return product.Reply{}, p.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		_, one, err := findConsumer(tx.Snapshot(), c)
		if err != nil {
			return err
		}
		return tx.Delete(one.Key())
	})
}
