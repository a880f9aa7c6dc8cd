package workers

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// settingsJSON are the settings of a script and of its newest version.
type settingsJSON struct {
	Bindings           []map[string]any    `json:"bindings"`
	CompatibilityDate  string              `json:"compatibility_date"`
	CompatibilityFlags []string            `json:"compatibility_flags"`
	Limits             *limitsJSON         `json:"limits,omitempty"`
	UsageModel         string              `json:"usage_model"`
	Placement          json.RawMessage     `json:"placement,omitempty"`
	MigrationTag       string              `json:"migration_tag,omitempty"`
	Annotations        map[string]string   `json:"annotations,omitempty"`
	Logpush            bool                `json:"logpush"`
	Observability      json.RawMessage     `json:"observability,omitempty"`
	Tags               []string            `json:"tags"`
	TailConsumers      []spec.TailConsumer `json:"tail_consumers"`
}

func settingsResult(s *spec.Worker, v *spec.WorkerVersion) settingsJSON {
	r := settingsJSON{
		Bindings: bindingResults(v), CompatibilityFlags: []string{}, UsageModel: usageModel, Placement: s.PlacementNoted, MigrationTag: s.MigrationTag,
		Logpush: s.Logpush, Observability: s.Observability, Tags: list(s.Tags), TailConsumers: list(s.TailConsumers),
	}
	if v != nil {
		r.CompatibilityDate, r.CompatibilityFlags, r.Limits, r.Annotations = v.CompatibilityDate, list(v.CompatibilityFlags), limitsOf(v), v.Annotations
	}
	return r
}

func (w *Workers) getSettings(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := w.scriptOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: settingsResult(b.worker, b.latest)}, nil
}

// patchSettings changes bindings and runtime settings as a new version with the same code, which is
// deployed. Bindings that are not named are deleted, unless keep_bindings has their type; those of
// which only name and type are sent stay as they are: that is how wrangler 4.86 sets many secrets.
func (w *Workers) patchSettings(ctx context.Context, c *product.Call) (product.Reply, error) {
	found, err := w.scriptOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	text, err := w.readForm(ctx, c.Header, c.Body)
	if err != nil {
		return product.Reply{}, err
	}
	d := &draft{w: w, account: c.Account.ID, script: found.worker.Name, partial: true}
	if d.meta, err = readMeta(text); err != nil {
		return product.Reply{}, err
	}
	if d.meta.MainModule+d.meta.BodyPart != "" || d.meta.Assets != nil {
		return product.Reply{}, invalid("main_module", "Settings have no code and no assets; upload those as a version.")
	}
	if d.inputs, err = w.readBindings("bindings", d.meta.Bindings); err != nil {
		return product.Reply{}, err
	}
	r := d.release(c, "settings")
	r.deploy, r.settings = true, d.meta.settings(false)
	r.make = func(ctx context.Context, b base) (*spec.WorkerVersion, error) { return d.resettle(ctx, b, r.script) }
	done, err := w.release(ctx, r)
	if err != nil {
		return product.Reply{}, err
	}
	reply := product.Reply{Result: settingsResult(done.worker, done.version)}
	w.settled(ctx, &reply, c.Account.ID, r.script)
	return reply, nil
}

// resettle returns the newest version with the draft's settings.
func (d *draft) resettle(ctx context.Context, b base, script string) (*spec.WorkerVersion, error) {
	if b.latest == nil {
		return nil, fault.New(fault.NotFound, "The Worker %s has no versions; upload one first.", script).WithCode(codeNoNewVersion)
	}
	if b.deployed() != b.latest {
		return nil, fault.New(fault.Conflict, "Settings edit failed. You attempted to modify settings, but the latest version of your Worker isn't currently deployed. Deploy it first.").WithCode(codeSettingsBehind)
	}
	v := *b.latest
	if d.meta.CompatibilityDate != "" {
		v.CompatibilityDate = d.meta.CompatibilityDate
	}
	if d.meta.CompatibilityFlags != nil {
		v.CompatibilityFlags = d.meta.CompatibilityFlags
	}
	if l := d.meta.Limits; l != nil {
		v.CPUMs, v.Subrequests = l.CPUMs, l.Subrequests
	}
	if d.meta.Bindings != nil {
		var err error
		if v.Bindings, err = d.bindings(ctx, b); err != nil {
			return nil, err
		}
	}
	if err := checkTails(b.all, script, d.meta.TailConsumers); err != nil {
		return nil, err
	}
	return &v, checkParts(&v)
}

// scriptSettings are those that hold for all versions: wrangler's NonVersionedScriptSettings.
type scriptSettings struct {
	Logpush       *bool                `json:"logpush"`
	Observability json.RawMessage      `json:"observability"`
	Tags          *[]string            `json:"tags"`
	TailConsumers *[]spec.TailConsumer `json:"tail_consumers"`
}

type scriptSettingsJSON struct {
	Logpush       bool                `json:"logpush"`
	Observability json.RawMessage     `json:"observability,omitempty"`
	Tags          []string            `json:"tags"`
	TailConsumers []spec.TailConsumer `json:"tail_consumers"`
}

func scriptSettingsResult(s *spec.Worker) scriptSettingsJSON {
	return scriptSettingsJSON{s.Logpush, s.Observability, list(s.Tags), list(s.TailConsumers)}
}

func (w *Workers) getScriptSettings(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := w.scriptOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: scriptSettingsResult(b.worker)}, nil
}

func (w *Workers) patchScriptSettings(ctx context.Context, c *product.Call) (product.Reply, error) {
	var body scriptSettings
	if err := c.Decode(&body, "streaming_tail_consumers", "tail_consumers[].environment", "tail_consumers[].namespace"); err != nil {
		return product.Reply{}, err
	}
	next, err := w.editScript(ctx, c, func(all *spec.AccountWorkers, s *spec.Worker) error { return body.apply(all, s) })
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: scriptSettingsResult(next)}, nil
}

// apply changes what was sent; null is as absent, but clears tags.
func (p *scriptSettings) apply(all *spec.AccountWorkers, s *spec.Worker) error {
	if p.Logpush != nil {
		s.Logpush = *p.Logpush
	}
	if len(p.Observability) > 0 && string(p.Observability) != "null" {
		s.Observability = p.Observability
	}
	if p.Tags != nil {
		if err := checkTags(*p.Tags); err != nil {
			return err
		}
		s.Tags = *p.Tags
	}
	if p.TailConsumers != nil {
		if err := checkTails(all, s.Name, *p.TailConsumers); err != nil {
			return err
		}
		s.TailConsumers = *p.TailConsumers
	}
	return nil
}

// editScript changes what holds for all versions of a script.
func (w *Workers) editScript(ctx context.Context, c *product.Call, change func(*spec.AccountWorkers, *spec.Worker) error) (*spec.Worker, error) {
	found, err := w.scriptOf(c)
	if err != nil {
		return nil, err
	}
	var next spec.Worker
	err = w.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		b := baseOf(tx.Snapshot(), c.Account.ID, found.worker.Name)
		if b.worker == nil {
			return noScript(found.worker.Name)
		}
		next = *b.worker
		next.ModifiedOn = w.now()
		if err := change(b.all, &next); err != nil {
			return err
		}
		return tx.Put(&next)
	})
	return &next, err
}

// usageModelJSON is what Cloudflare bills by.
type usageModelJSON struct {
	UsageModel string          `json:"usage_model"`
	UserLimits json.RawMessage `json:"user_limits,omitempty"`
}

func (w *Workers) getUsageModel(_ context.Context, c *product.Call) (product.Reply, error) {
	if _, err := w.scriptOf(c); err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: usageModelJSON{UsageModel: usageModel}}, nil
}

// putUsageModel accepts the one model there is.
func (w *Workers) putUsageModel(_ context.Context, c *product.Call) (product.Reply, error) {
	var body usageModelJSON
	if err := c.Decode(&body); err != nil {
		return product.Reply{}, err
	}
	if body.UsageModel != "" && body.UsageModel != usageModel {
		return product.Reply{}, fault.New(fault.Invalid, "The usage model %.40q is not known; there is %s.", body.UsageModel, usageModel).At("usage_model")
	}
	return w.getUsageModel(context.Background(), c)
}

// workerJSON is a Worker as the newer API without scripts has it.
type workerJSON struct {
	ID            string              `json:"id"`
	Name          string              `json:"name"`
	CreatedOn     any                 `json:"created_on"`
	UpdatedOn     any                 `json:"updated_on"`
	DeployedOn    any                 `json:"deployed_on"`
	Logpush       bool                `json:"logpush"`
	Observability json.RawMessage     `json:"observability"`
	Tags          []string            `json:"tags"`
	TailConsumers []tailConsumerJSON  `json:"tail_consumers"`
	Subdomain     workerSubdomainJSON `json:"subdomain"`
	References    map[string]any      `json:"references"`
}

type tailConsumerJSON struct {
	Name string `json:"name"`
}

type workerSubdomainJSON struct {
	Enabled         bool `json:"enabled"`
	PreviewsEnabled bool `json:"previews_enabled"`
}

func workerResult(b base) workerJSON {
	s := b.worker
	r := workerJSON{
		ID: s.ID, Name: s.Name, CreatedOn: s.CreatedOn, UpdatedOn: s.ModifiedOn, Logpush: s.Logpush, Observability: s.Observability,
		Tags: list(s.Tags), TailConsumers: []tailConsumerJSON{}, Subdomain: workerSubdomainJSON{s.OnSubdomain, s.Previews},
	}
	if s.Deployment.ID != "" {
		r.DeployedOn = s.Deployment.CreatedOn
	}
	if len(r.Observability) == 0 {
		r.Observability = json.RawMessage(`{"enabled":false}`)
	}
	for _, t := range s.TailConsumers {
		r.TailConsumers = append(r.TailConsumers, tailConsumerJSON{t.Service})
	}
	r.References = workerReferences(b)
	return r
}

// workerReferences are what else depends on a Worker.
func workerReferences(b base) map[string]any {
	services, objects, _ := callersOf(b.all, b.worker.Name)
	workers, classes, domains := []any{}, []any{}, []any{}
	for _, name := range scriptsOf(services) {
		workers = append(workers, map[string]string{"id": b.all.Scripts[name].ID, "name": name})
	}
	for _, u := range objects {
		n, name := b.all.Namespaces[u.binding.NamespaceID], u.version.Script
		classes = append(classes, map[string]string{"namespace_id": n.ID, "namespace_name": namespaceName(n), "worker_id": b.all.Scripts[name].ID, "worker_name": name})
	}
	for _, host := range slices.Sorted(maps.Keys(b.all.Domains)) {
		if d := b.all.Domains[host]; d.Service == b.worker.Name {
			domains = append(domains, map[string]string{"id": d.ID, "hostname": d.Hostname, "zone_id": d.ZoneID, "zone_name": d.ZoneName, "certificate_id": ""})
		}
	}
	return map[string]any{"workers": workers, "durable_objects": classes, "domains": domains, "queues": consumedBy(b), "dispatch_namespace_outbounds": []any{}}
}

// consumedBy are the queues whose messages go to a Worker.
func consumedBy(b base) []map[string]string {
	found := []map[string]string{}
	stored := b.snap.StorageOf(b.worker.AccountID)
	for _, id := range slices.Sorted(maps.Keys(stored.Consumers)) {
		c := stored.Consumers[id]
		if q := stored.Queues[c.QueueID]; q != nil && c.Script == b.worker.Name {
			found = append(found, map[string]string{"queue_consumer_id": c.ID, "queue_id": q.ID, "queue_name": q.Name})
		}
	}
	return found
}

func (w *Workers) listWorkers(_ context.Context, c *product.Call) (product.Reply, error) {
	snap := w.o.State.Snapshot()
	names := slices.Sorted(maps.Keys(snap.WorkersOf(c.Account.ID).Scripts))
	part, info, err := product.Page(names, c.Query, product.Paging{Default: 10, Max: 100})
	if err != nil {
		return product.Reply{}, err
	}
	results := make([]workerJSON, len(part))
	for i, name := range part {
		results[i] = workerResult(baseOf(snap, c.Account.ID, name))
	}
	return product.Reply{Result: results, Info: info}, nil
}

func (w *Workers) getWorker(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := w.scriptOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: workerResult(b)}, nil
}

// workerPatch is the part of a Worker that can be changed; null is as absent.
type workerPatch struct {
	Logpush       *bool               `json:"logpush"`
	Observability json.RawMessage     `json:"observability"`
	Tags          *[]string           `json:"tags"`
	TailConsumers *[]tailConsumerJSON `json:"tail_consumers"`
	Subdomain     *struct {
		Enabled         *bool `json:"enabled"`
		PreviewsEnabled *bool `json:"previews_enabled"`
	} `json:"subdomain"`
}

func (w *Workers) patchWorker(ctx context.Context, c *product.Call) (product.Reply, error) {
	var body workerPatch
	if err := c.Decode(&body, "name"); err != nil {
		return product.Reply{}, err
	}
	next, err := w.editScript(ctx, c, func(all *spec.AccountWorkers, s *spec.Worker) error {
		p := scriptSettings{Logpush: body.Logpush, Observability: body.Observability, Tags: body.Tags}
		if body.TailConsumers != nil {
			tails := []spec.TailConsumer{}
			for _, t := range *body.TailConsumers {
				tails = append(tails, spec.TailConsumer{Service: t.Name})
			}
			p.TailConsumers = &tails
		}
		if sub := body.Subdomain; sub != nil {
			s.OnSubdomain, s.Previews = orElse(sub.Enabled, s.OnSubdomain), orElse(sub.PreviewsEnabled, s.Previews)
		}
		return p.apply(all, s)
	})
	if err != nil {
		return product.Reply{}, err
	}
	b := baseOf(w.o.State.Snapshot(), c.Account.ID, next.Name)
	if b.worker == nil {
		return product.Reply{}, fmt.Errorf("script %s is gone right after its change", next.Name)
	}
	return product.Reply{Result: workerResult(b)}, nil
}

// orElse returns what p points to, or otherwise.
func orElse[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
