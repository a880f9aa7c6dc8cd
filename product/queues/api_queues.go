package queues

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/queues/backlog"
	"selvage/spec"
)

var (
	readQueues  = product.Permission{Group: "Queues"}
	writeQueues = product.Permission{Group: "Queues", Write: true}
)

const (
	queuesPath = "/accounts/{account_id}/queues"
	queuePath  = queuesPath + "/{queue_id}"
)

func (p *Queues) queueRoutes() []product.Route {
	return []product.Route{
		{Method: "GET", Path: queuesPath, Permission: readQueues, Summary: "List the queues of an account, all or those called `name`.", Handle: p.listQueues},
		{Method: "POST", Path: queuesPath, Permission: writeQueues, Summary: "Make a queue.", Handle: p.createQueue},
		{Method: "GET", Path: queuePath, Permission: readQueues, Summary: "Show a queue.", Handle: p.showQueue},
		{Method: "PUT", Path: queuePath, Permission: writeQueues, Summary: "Replace a queue's name and settings.", Handle: p.replaceQueue},
		{Method: "PATCH", Path: queuePath, Permission: writeQueues, Summary: "Change a queue's name or settings.", Handle: p.changeQueue},
		{Method: "DELETE", Path: queuePath, Permission: writeQueues, Summary: "Delete a queue with its messages and consumers.", Handle: p.deleteQueue},
		{Method: "POST", Path: queuePath + "/purge", Permission: writeQueues, Summary: "Delete all messages of a queue.", Handle: p.purge},
		{Method: "GET", Path: queuePath + "/purge", Permission: readQueues, Summary: "Show when a queue was purged last.", Handle: p.showPurge},
		{Method: "GET", Path: queuePath + "/metrics", Permission: readQueues, Summary: "Show how full a queue is.", Handle: p.showMetrics},
	}
}

// queueResult is a queue as the API shows it.
type queueResult struct {
	ID             string           `json:"queue_id"`
	Name           string           `json:"queue_name"`
	CreatedOn      time.Time        `json:"created_on"`
	ModifiedOn     time.Time        `json:"modified_on"`
	Producers      []producerResult `json:"producers"`
	ProducersCount int              `json:"producers_total_count"`
	Consumers      []consumerResult `json:"consumers"`
	ConsumersCount int              `json:"consumers_total_count"`
	Settings       settingsResult   `json:"settings"`
}

type settingsResult struct {
	DeliveryDelay  int  `json:"delivery_delay"`
	DeliveryPaused bool `json:"delivery_paused"`
	Retention      int  `json:"message_retention_period"`
}

// producerResult is who sends to a queue.
type producerResult struct {
	Type   string `json:"type"` // worker, r2_bucket
	Script string `json:"script,omitempty"`
	Bucket string `json:"bucket_name,omitempty"`
}

// showing gathers what queues are shown with.
type showing struct {
	accountID string
	storage   *spec.AccountStorage
	scripts   map[string][]string // names of the scripts that are bound to a queue, by its name
	buckets   map[string][]string // and of the buckets that send their events there, by its ID
	consumers map[string][]*spec.QueueConsumer
}

func newShowing(s *spec.Snapshot, accountID string) *showing {
	v := &showing{accountID: accountID, storage: s.StorageOf(accountID), scripts: map[string][]string{}, buckets: map[string][]string{}, consumers: map[string][]*spec.QueueConsumer{}}
	workers := s.WorkersOf(accountID)
	for _, name := range slices.Sorted(maps.Keys(workers.Scripts)) {
		for _, share := range workers.Scripts[name].Deployment.Versions {
			if version := workers.Versions[share.VersionID]; version != nil {
				v.addProducer(name, version)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.storage.Buckets)) {
		for _, rule := range v.storage.Buckets[name].Notifications {
			if !slices.Contains(v.buckets[rule.QueueID], name) {
				v.buckets[rule.QueueID] = append(v.buckets[rule.QueueID], name)
			}
		}
	}
	for _, c := range v.storage.Consumers {
		v.consumers[c.QueueID] = append(v.consumers[c.QueueID], c)
	}
	return v
}

func (v *showing) addProducer(script string, version *spec.WorkerVersion) {
	for _, b := range version.Bindings {
		var to producer
		if b.Type != "queue" || json.Unmarshal(orObject(b.Extra), &to) != nil {
			continue
		}
		if list := v.scripts[to.QueueName]; !slices.Contains(list, script) {
			v.scripts[to.QueueName] = append(list, script)
		}
	}
}

func (v *showing) queue(q *spec.Queue) queueResult {
	r := queueResult{
		ID: q.ID, Name: q.Name, CreatedOn: q.CreatedOn, ModifiedOn: q.ModifiedOn, Producers: []producerResult{}, Consumers: []consumerResult{},
		Settings: settingsResult{q.Settings.DeliveryDelay, q.Settings.DeliveryPaused, int(q.Settings.Kept() / time.Second)},
	}
	for _, s := range v.scripts[q.Name] {
		r.Producers = append(r.Producers, producerResult{Type: "worker", Script: s})
	}
	for _, b := range v.buckets[q.ID] {
		r.Producers = append(r.Producers, producerResult{Type: "r2_bucket", Bucket: b})
	}
	for _, c := range v.consumers[q.ID] {
		r.Consumers = append(r.Consumers, showConsumer(c, q))
	}
	r.ProducersCount, r.ConsumersCount = len(r.Producers), len(r.Consumers)
	return r
}

func (p *Queues) listQueues(_ context.Context, c *product.Call) (product.Reply, error) {
	v := newShowing(p.o.State.Snapshot(), c.Account.ID)
	names := c.Query["name"]
	var found []*spec.Queue
	for _, q := range v.storage.Queues {
		if len(names) == 0 || slices.Contains(names, q.Name) {
			found = append(found, q)
		}
	}
	slices.SortFunc(found, func(a, b *spec.Queue) int { return cmp.Compare(a.Name, b.Name) })
	// Clients that read no second page expect all of them, and wrangler's listing does.
	part, info, err := product.Page(found, c.Query, product.Paging{Default: 1000, Max: 1000})
	if err != nil {
		return product.Reply{}, err
	}
	list := []queueResult{}
	for _, q := range part {
		list = append(list, v.queue(q))
	}
	return product.Reply{Result: list, Info: info}, nil
}

// find returns the queue that a call's path names.
func (p *Queues) find(c *product.Call) (*spec.Queue, error) {
	id := c.Params["queue_id"]
	q := p.o.State.Snapshot().StorageOf(c.Account.ID).Queues[id]
	if q == nil {
		return nil, missing(id)
	}
	return q, nil
}

func missing(id string) error {
	return fault.New(fault.NotFound, "There is no queue %.80q. GET /accounts/{account_id}/queues lists those that there are.", id).WithCode(codeNoQueue)
}

func (p *Queues) showQueue(_ context.Context, c *product.Call) (product.Reply, error) {
	q, err := p.find(c)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: newShowing(p.o.State.Snapshot(), c.Account.ID).queue(q)}, nil
}

// queueInput is a queue as clients send it.
type queueInput struct {
	Name     *string        `json:"queue_name"`
	Settings *settingsInput `json:"settings"`
}

type settingsInput struct {
	DeliveryDelay  *int  `json:"delivery_delay"`
	DeliveryPaused *bool `json:"delivery_paused"`
	Retention      *int  `json:"message_retention_period"`
}

// readOnly is what clients send back of what they were shown.
var readOnly = []string{"queue_id", "created_on", "modified_on", "producers", "producers_total_count", "consumers", "consumers_total_count"}

func (in *queueInput) apply(q *spec.Queue) error {
	if in.Name != nil {
		q.Name = *in.Name
	}
	s := in.Settings
	if s == nil {
		return nil
	}
	if s.DeliveryDelay != nil {
		q.Settings.DeliveryDelay = *s.DeliveryDelay
	}
	if s.DeliveryPaused != nil {
		q.Settings.DeliveryPaused = *s.DeliveryPaused
	}
	if s.Retention != nil {
		if q.Settings.Retention = *s.Retention; q.Settings.Retention == 0 { // that would be the default
			return fault.New(fault.Invalid, "settings.message_retention_period is 0; it must be from %d to %d seconds.", spec.MinQueueRetention, spec.MaxQueueRetention).WithCode(codeSettings).At("settings.message_retention_period")
		}
	}
	return nil
}

// checkName refuses a name that another queue has.
func checkName(s *spec.AccountStorage, q *spec.Queue) error {
	for _, other := range s.Queues {
		if other.Name == q.Name && other.ID != q.ID {
			return fault.New(fault.Conflict, "Queue name '%s' is already taken. Please use a different name and try again.", q.Name).WithCode(codeNameTaken).At("queue_name")
		}
	}
	return nil
}

func (p *Queues) createQueue(ctx context.Context, c *product.Call) (product.Reply, error) {
	var in queueInput
	if err := decode(c, &in, readOnly...); err != nil {
		return product.Reply{}, err
	}
	if in.Name == nil {
		return product.Reply{}, fault.New(fault.Invalid, "The queue has no name.").WithCode(codeName).At("queue_name")
	}
	now := p.now()
	q := &spec.Queue{ID: spec.NewID(), AccountID: c.Account.ID, CreatedOn: now, ModifiedOn: now}
	if err := in.apply(q); err != nil {
		return product.Reply{}, err
	}
	err := p.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		s := tx.Snapshot().StorageOf(c.Account.ID)
		if err := checkName(s, q); err != nil {
			return err
		}
		if err := p.queuesQuota().Check(tx.Snapshot(), c.Account.ID, int64(len(s.Queues)), 1); err != nil {
			return err
		}
		return tx.Put(q)
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: newShowing(p.o.State.Snapshot(), c.Account.ID).queue(q)}, nil
}

func (p *Queues) replaceQueue(ctx context.Context, c *product.Call) (product.Reply, error) {
	return p.edit(ctx, c, func(q *spec.Queue) { q.Settings = spec.QueueSettings{} })
}

func (p *Queues) changeQueue(ctx context.Context, c *product.Call) (product.Reply, error) {
	return p.edit(ctx, c, func(*spec.Queue) {})
}

// edit changes a queue; first is done to it before what the client sent.
func (p *Queues) edit(ctx context.Context, c *product.Call, first func(*spec.Queue)) (product.Reply, error) {
	var in queueInput
	if err := decode(c, &in, readOnly...); err != nil {
		return product.Reply{}, err
	}
	var next spec.Queue
	err := p.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		s := tx.Snapshot().StorageOf(c.Account.ID)
		old := s.Queues[c.Params["queue_id"]]
		if old == nil {
			return missing(c.Params["queue_id"])
		}
		next = *old
		first(&next)
		next.ModifiedOn = p.now()
		if err := in.apply(&next); err != nil {
			return err
		}
		if err := checkName(s, &next); err != nil {
			return err
		}
		return p.rename(tx, old, &next)
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: newShowing(p.o.State.Snapshot(), c.Account.ID).queue(&next)}, nil
}

// rename stores a changed queue; where it is a dead-letter queue, its consumers name it anew.
func (p *Queues) rename(tx product.Tx, old, next *spec.Queue) error {
	if old.Name != next.Name {
		for _, c := range tx.Snapshot().StorageOf(old.AccountID).Consumers {
			if c.DeadLetter != old.Name {
				continue
			}
			renamed := *c
			renamed.DeadLetter = next.Name
			if err := tx.Put(&renamed); err != nil {
				return err
			}
		}
	}
	return tx.Put(next)
}

func (p *Queues) deleteQueue(ctx context.Context, c *product.Call) (product.Reply, error) {
	q, err := p.find(c)
	if err != nil {
		return product.Reply{}, err
	}
	store, err := p.backlog()
	if err != nil {
		return product.Reply{}, err
	}
	if err := checkDeletable(p.o.State.Snapshot(), q); err != nil {
		return product.Reply{}, err
	}
	if err := store.MarkDeleting(q.AccountID, q.ID); err != nil {
		return product.Reply{}, err
	}
	err = p.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		if err := checkDeletable(tx.Snapshot(), q); err != nil {
			return err
		}
		for _, one := range tx.Snapshot().StorageOf(q.AccountID).Consumers {
			if one.QueueID == q.ID {
				if err := tx.Delete(one.Key()); err != nil {
					return err
				}
			}
		}
		return tx.Delete(q.Key())
	})
	if err != nil {
		p.unmark(store, q)
		return product.Reply{}, err
	}
	return product.Reply{}, store.Delete(q.AccountID, q.ID)
}

func (p *Queues) unmark(store *backlog.Store, q *spec.Queue) {
	if err := store.Unmark(q.AccountID, q.ID); err != nil {
		p.log.Warn("a mark for the deletion of a queue stays", "queue", q.ID, "error", err)
	}
}

// checkDeletable refuses to delete what others send to.
func checkDeletable(s *spec.Snapshot, q *spec.Queue) error {
	storage := s.StorageOf(q.AccountID)
	for _, c := range storage.Consumers {
		if c.DeadLetter == q.Name && c.QueueID != q.ID {
			other := c.QueueID
			if o := storage.Queues[c.QueueID]; o != nil {
				other = o.Name
			}
			return fault.New(fault.Conflict, "The queue %s is the dead-letter queue of %s. Change that queue's consumer first.", q.Name, other).WithCode(codeInUse)
		}
	}
	for _, b := range storage.Buckets {
		for _, rule := range b.Notifications {
			if rule.QueueID == q.ID {
				return fault.New(fault.Conflict, "The bucket %s sends its event notifications to the queue %s. Delete that rule first.", b.Name, q.Name).WithCode(codeInUse)
			}
		}
	}
	return nil
}

// finishDeleting ends what a crash has interrupted.
func (p *Queues) finishDeleting(ctx context.Context, store *backlog.Store) {
	err := store.Deleting(func(accountID, queueID string) {
		var err error
		if ctx.Err() != nil {
			return
		}
		if p.o.State.Snapshot().StorageOf(accountID).Queues[queueID] != nil {
			err = store.Unmark(accountID, queueID) // it was not deleted after all
		} else {
			err = store.Delete(accountID, queueID)
		}
		if err != nil {
			p.log.Warn("a queue that was deleted still has its messages", "account", accountID, "queue", queueID, "error", err)
		}
	})
	if err != nil {
		p.log.Warn("it cannot be read which queues were being deleted", "error", err)
	}
}
