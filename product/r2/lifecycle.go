package r2

import (
	"context"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/r2/store"
	"selvage/spec"
)

const (
	lifecycleEvery = time.Hour
	lifecycleSoon  = time.Second // after rules changed, for changes come in rows
)

// hurry has lifecycle rules applied soon.
func (p *R2) hurry() {
	select {
	case p.due <- struct{}{}:
	default:
	}
}

// lifecycle applies the rules of all buckets every hour, and when they changed, until ctx ends.
func (p *R2) lifecycle(ctx context.Context) error {
	wait := lifecycleSoon
	for {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
			p.applyAll(ctx)
			wait = lifecycleEvery
		case <-p.due:
			t.Stop()
			wait = lifecycleSoon
		}
	}
}

func (p *R2) applyAll(ctx context.Context) {
	snap := p.o.State.Snapshot()
	for _, a := range snap.Storage {
		for _, b := range a.Buckets {
			if ctx.Err() != nil {
				return
			}
			if err := p.applyLifecycle(ctx, b); err != nil && ctx.Err() == nil && fault.KindOf(err) != fault.NotFound {
				p.o.Observe.Logger().Error("lifecycle rules of a bucket were not applied", "account", b.AccountID, "bucket", b.Name, "error", err)
			}
		}
	}
}

func (p *R2) applyLifecycle(ctx context.Context, b *spec.Bucket) error {
	rules := storeRules(b.Lifecycle)
	if len(rules) == 0 {
		return nil
	}
	done, err := p.objects.ApplyLifecycle(ctx, idOf(b), rules, p.o.Clock.Now())
	for action, n := range map[string]int64{"expired": done.Expired, "aborted": done.Aborted, "transitioned": done.Transitioned} {
		p.metrics.lifecycle.WithLabelValues(action).Add(float64(n))
	}
	return err
}

// storeRules returns the rules that are in force in the store's form.
func storeRules(rules []spec.LifecycleRule) []store.Rule {
	var all []store.Rule
	for _, r := range rules {
		if !r.Enabled {
			continue
		}
		to := store.Rule{ID: r.ID, Prefix: r.Conditions.Prefix}
		if r.AbortUploads != nil {
			to.AbortAfter = seconds(r.AbortUploads.Condition.Age())
		}
		if r.Delete != nil {
			to.ExpireAfter, to.ExpireAt = when(&r.Delete.Condition)
		}
		if len(r.Classes) > 0 {
			to.TransitionAfter, to.TransitionAt = when(&r.Classes[0].Condition)
		}
		all = append(all, to)
		for i := range r.Classes[min(1, len(r.Classes)):] {
			after, at := when(&r.Classes[i+1].Condition)
			all = append(all, store.Rule{ID: r.ID, Prefix: r.Conditions.Prefix, TransitionAfter: after, TransitionAt: at})
		}
	}
	return all
}

func when(c *spec.RuleCondition) (after time.Duration, at time.Time) {
	if c.Type == "Date" {
		return 0, c.Date
	}
	return seconds(c.Age()), time.Time{}
}

// seconds returns a duration that is not zero, which would mean never.
func seconds(n int64) time.Duration { return max(time.Duration(n)*time.Second, 1) }

func (p *R2) scrubRoutes() []product.Route {
	const path = "/accounts/{account_id}/selvage/r2/scrub"
	return []product.Route{
		{Method: "GET", Path: path, Permission: readStorage, Summary: "Show what the scrubber found: objects whose content is damaged.", Handle: p.showScrub},
		{Method: "POST", Path: path, Permission: writeStorage, Summary: "Have the scrubber read all content once more, now.", Handle: p.startScrub},
		{Method: "POST", Path: "/accounts/{account_id}/selvage/r2/lifecycle", Permission: writeStorage, Summary: "Apply the lifecycle rules of all buckets of an account now.", Handle: p.runLifecycle},
	}
}

// scrubReply is what the scrubber did and found.
type scrubReply struct {
	Started  time.Time    `json:"started_on,omitzero"`
	Ended    time.Time    `json:"ended_on,omitzero"`
	Running  bool         `json:"running"`
	Contents int64        `json:"contents"` // of the node, looked at
	Bytes    int64        `json:"bytes"`
	Damaged  []damageView `json:"damaged"` // of the account
}

type damageView struct {
	Bucket string    `json:"bucket"`
	Key    string    `json:"key"`
	Upload string    `json:"upload_id,omitempty"`
	Found  time.Time `json:"found_on"`
	Reason string    `json:"reason"`
}

func (p *R2) showScrub(_ context.Context, c *product.Call) (product.Reply, error) {
	last := p.objects.LastScrub()
	found, err := p.objects.Damages(c.Account.ID)
	if err != nil {
		return product.Reply{}, err
	}
	out := scrubReply{
		Started: last.Started, Ended: last.Ended, Running: !last.Started.IsZero() && last.Ended.IsZero(), Contents: last.Contents, Bytes: last.Bytes,
		Damaged: []damageView{},
	}
	known := p.current.Load()
	for _, d := range found {
		v := damageView{Bucket: d.Bucket.ID, Key: d.Key, Upload: d.Upload, Found: d.Found, Reason: d.Reason}
		if b := known.bucket(d.Bucket); b != nil {
			v.Bucket = b.Name
		}
		out.Damaged = append(out.Damaged, v)
	}
	return product.Reply{Result: out}, nil
}

func (p *R2) startScrub(_ context.Context, c *product.Call) (product.Reply, error) {
	p.objects.ScrubSoon()
	return product.Reply{Status: 202, Result: map[string]bool{"started": true}}, nil
}

func (p *R2) runLifecycle(ctx context.Context, c *product.Call) (product.Reply, error) {
	for _, b := range sortedBuckets(p.o.State.Snapshot().StorageOf(c.Account.ID).Buckets) {
		if err := p.applyLifecycle(ctx, b); err != nil {
			return product.Reply{}, err
		}
	}
	return product.Reply{Result: struct{}{}}, nil
}
