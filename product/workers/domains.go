package workers

import (
	"context"
	"slices"
	"strings"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// edgeAddress is what the records of names without an origin hold: proxied, so that DNS answers with
// the edge, and from the discard prefix (RFC 6666), so that nothing is behind it.
const edgeAddress = "100::"

func edgeRecord(z *spec.Zone, name, comment string, now time.Time) *spec.Record {
	return &spec.Record{
		ID: spec.NewID(), ZoneID: z.ID, Name: name, Type: "AAAA", Content: edgeAddress, TTL: 1, Proxied: true, Comment: comment,
		CreatedOn: now, ModifiedOn: now,
	}
}

// domainRoutes are the operations on custom domains.
func (w *Workers) domainRoutes() []product.Route {
	const all, one, script = "/accounts/{account_id}/workers/domains", "/accounts/{account_id}/workers/domains/{domain_id}", "/accounts/{account_id}/workers/scripts/{script_name}/domains"
	return []product.Route{
		{Method: "GET", Path: all, Permission: readScripts, Summary: "List the account's custom domains.", Handle: w.listDomains},
		{Method: "PUT", Path: all, Permission: writeScripts, Summary: "Attach a host name to a Worker, with its DNS record.", Handle: w.attachDomain},
		{Method: "GET", Path: one, Permission: readScripts, Summary: "Show a custom domain.", Handle: w.showDomain},
		{Method: "DELETE", Path: one, Permission: writeScripts, Summary: "Detach a custom domain and remove its DNS record.", Handle: w.detachDomain},
		{Method: "GET", Path: all + "/records/{domain_id}", Permission: readScripts, Summary: "Show a custom domain.", Handle: w.showDomain},
		{Method: "POST", Path: script + "/changeset", Permission: readScripts, Summary: "Tell what attaching these domains to a Worker would change.", Handle: w.domainChangeset},
		{Method: "PUT", Path: script + "/records", Permission: writeScripts, Summary: "Replace all custom domains of a Worker.", Handle: w.replaceDomains},
	}
}

// domainReply is a custom domain as the API shows it.
type domainReply struct {
	ID          string `json:"id"`
	ZoneID      string `json:"zone_id"`
	ZoneName    string `json:"zone_name"`
	Hostname    string `json:"hostname"`
	Service     string `json:"service"`
	Environment string `json:"environment"`
	CertID      string `json:"cert_id,omitempty"`
	Enabled     bool   `json:"enabled"`
	Previews    bool   `json:"previews_enabled"`
}

func asDomainReply(d *spec.WorkerDomain) domainReply {
	return domainReply{ID: d.ID, ZoneID: d.ZoneID, ZoneName: d.ZoneName, Hostname: d.Hostname, Service: d.Service, Environment: d.Environment, Enabled: true}
}

func (w *Workers) listDomains(_ context.Context, c *product.Call) (product.Reply, error) {
	q := c.Query
	fits := func(name, value string) bool { return !q.Has(name) || strings.EqualFold(q.Get(name), value) }
	list := []domainReply{}
	for _, d := range w.o.State.Snapshot().WorkersOf(c.Account.ID).Domains {
		if fits("zone_id", d.ZoneID) && fits("zone_name", d.ZoneName) && fits("hostname", d.Hostname) && fits("service", d.Service) && fits("environment", d.Environment) {
			list = append(list, asDomainReply(d))
		}
	}
	slices.SortFunc(list, func(a, b domainReply) int { return strings.Compare(a.Hostname, b.Hostname) })
	page, info, err := product.Page(list, q, product.Paging{Default: 1000, Max: 1000})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: page, Info: info}, nil
}

func (w *Workers) domainOf(c *product.Call) (*spec.WorkerDomain, error) {
	for _, d := range w.o.State.Snapshot().WorkersOf(c.Account.ID).Domains {
		if d.ID == c.Params["domain_id"] {
			return d, nil
		}
	}
	return nil, fault.New(fault.NotFound, "There is no such custom domain on this account.").WithCode(100114)
}

func (w *Workers) showDomain(_ context.Context, c *product.Call) (product.Reply, error) {
	d, err := w.domainOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: asDomainReply(d)}, nil
}

// domainInput is a custom domain as clients send it.
type domainInput struct {
	Hostname string `json:"hostname"`
	ZoneID   string `json:"zone_id"`
	ZoneName string `json:"zone_name"`
}

// overrides say what attaching a domain may take away.
type overrides struct {
	origin, record bool
}

// attach makes or moves a custom domain to a script, with its DNS record.
func (w *Workers) attach(tx product.Tx, c *product.Call, in domainInput, script string, may overrides) (*spec.WorkerDomain, error) {
	host := strings.ToLower(strings.TrimSuffix(in.Hostname, "."))
	z, fl := zoneFor(tx.Snapshot(), c.Account.ID, in.ZoneID, in.ZoneName, host)
	if fl != nil {
		return nil, fl.At("hostname")
	}
	if err := spec.CheckHostname(host); err != nil || !spec.InZone(host, z.Zone.Name) {
		return nil, fault.New(fault.Invalid, "%.200q is not a host name in the zone %s.", in.Hostname, z.Zone.Name).WithCode(100117).At("hostname")
	}
	now := spec.Timestamp(w.o.Clock.Now())
	if old := tx.Snapshot().WorkersOf(c.Account.ID).Domains[host]; old != nil {
		if old.Service == script {
			return old, nil
		}
		if !may.origin {
			return nil, fault.New(fault.Conflict, "%s is already a custom domain of the Worker %s; detach it there first, or set override_existing_origin.", host, old.Service).WithCode(100116).At("hostname")
		}
		moved := *old
		moved.Service = script
		return &moved, tx.Put(&moved)
	}
	for _, r := range spec.RecordsOf(z.Records, host) {
		if !r.Proxiable() {
			continue
		}
		if !may.record {
			return nil, fault.New(fault.Conflict, "%s has a DNS record of type %s already; delete it first, or set override_existing_dns_record.", host, r.Type).WithCode(100117).At("hostname")
		}
		if err := tx.Delete(r.Key()); err != nil {
			return nil, err
		}
	}
	record := edgeRecord(z.Zone, host, "custom domain of the Worker "+script, now)
	if err := tx.Put(record); err != nil {
		return nil, err
	}
	d := &spec.WorkerDomain{
		ID: spec.NewID(), AccountID: c.Account.ID, ZoneID: z.Zone.ID, ZoneName: z.Zone.Name, Hostname: host, Service: script, Environment: "production",
		RecordID: record.ID, CreatedOn: now,
	}
	return d, tx.Put(d)
}

// detach removes a custom domain and its record.
func detach(tx product.Tx, d *spec.WorkerDomain) error {
	if err := tx.Delete(spec.Key{Kind: spec.KindRecord, Scope: d.ZoneID, ID: d.RecordID}); err != nil {
		return err
	}
	return tx.Delete(d.Key())
}

func (w *Workers) attachDomain(ctx context.Context, c *product.Call) (product.Reply, error) {
	var in struct {
		domainInput
		Service        string `json:"service"`
		Environment    string `json:"environment"`
		OverrideOrigin *bool  `json:"override_existing_origin"`
		OverrideRecord *bool  `json:"override_existing_dns_record"`
	}
	if err := c.Decode(&in, "enabled", "previews_enabled", "override_scope"); err != nil {
		return product.Reply{}, err
	}
	var made *spec.WorkerDomain
	err := w.o.State.Update(ctx, c.Actor, func(tx product.Tx) (err error) {
		if n, err := tx.Get(spec.Key{Kind: spec.KindWorker, Scope: c.Account.ID, ID: in.Service}); err != nil || n == nil {
			return fault.New(fault.NotFound, "There is no Worker called %.80q on this account.", in.Service).WithCode(10007).At("service")
		}
		// At Cloudflare the PUT of one domain moves it from another Worker unasked.
		may := overrides{in.OverrideOrigin == nil || *in.OverrideOrigin, in.OverrideRecord != nil && *in.OverrideRecord}
		made, err = w.attach(tx, c, in.domainInput, in.Service, may)
		return err
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: asDomainReply(made)}, nil
}

func (w *Workers) detachDomain(ctx context.Context, c *product.Call) (product.Reply, error) {
	d, err := w.domainOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	err = w.o.State.Update(ctx, c.Actor, func(tx product.Tx) error { return detach(tx, d) })
	return product.Reply{Result: map[string]string{"id": d.ID}}, err
}

// changeset is what attaching domains would do.
type changeset struct {
	Added       []domainReply     `json:"added"`
	Removed     []domainReply     `json:"removed"`
	Updated     []updatedDomain   `json:"updated"`
	Conflicting []conflictingName `json:"conflicting"`
}

type updatedDomain struct {
	domainReply
	Modified bool `json:"modified"`
}

type conflictingName struct {
	domainReply
	RecordID string `json:"external_dns_record_id"`
}

func (w *Workers) domainChangeset(_ context.Context, c *product.Call) (product.Reply, error) {
	var in []domainInput
	if err := c.Decode(&in, "[].enabled", "[].previews_enabled"); err != nil {
		return product.Reply{}, err
	}
	s, err := w.ready(c)
	if err != nil {
		return product.Reply{}, err
	}
	snap := w.o.State.Snapshot()
	domains := snap.WorkersOf(c.Account.ID).Domains
	set := changeset{Added: []domainReply{}, Removed: []domainReply{}, Updated: []updatedDomain{}, Conflicting: []conflictingName{}}
	named := map[string]bool{}
	for _, d := range in {
		host := strings.ToLower(d.Hostname)
		named[host] = true
		z, fl := zoneFor(snap, c.Account.ID, d.ZoneID, d.ZoneName, host)
		if fl != nil {
			return product.Reply{}, fl.At("hostname")
		}
		would := domainReply{ZoneID: z.Zone.ID, ZoneName: z.Zone.Name, Hostname: host, Service: s.worker.Name, Environment: "production", Enabled: true}
		if old := domains[host]; old != nil {
			set.Updated = append(set.Updated, updatedDomain{asDomainReply(old), old.Service != s.worker.Name})
			continue
		}
		taken := slices.IndexFunc(spec.RecordsOf(z.Records, host), (*spec.Record).Proxiable)
		if taken >= 0 {
			set.Conflicting = append(set.Conflicting, conflictingName{would, spec.RecordsOf(z.Records, host)[taken].ID})
			continue
		}
		set.Added = append(set.Added, would)
	}
	for host, d := range domains {
		if d.Service == s.worker.Name && !named[host] && c.Query.Get("replace_state") == "true" {
			set.Removed = append(set.Removed, asDomainReply(d))
		}
	}
	return product.Reply{Result: set}, nil
}

// replaceDomains gives a script these custom domains and no others.
func (w *Workers) replaceDomains(ctx context.Context, c *product.Call) (product.Reply, error) {
	var in struct {
		Origins        []domainInput `json:"origins"`
		OverrideOrigin bool          `json:"override_existing_origin"`
		OverrideRecord bool          `json:"override_existing_dns_record"`
	}
	if err := c.Decode(&in, "override_scope", "origins[].enabled", "origins[].previews_enabled"); err != nil {
		return product.Reply{}, err
	}
	list := []domainReply{}
	err := w.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		worker, err := scriptIn(tx, c)
		if err != nil {
			return err
		}
		kept := map[string]bool{}
		for _, o := range in.Origins {
			d, err := w.attach(tx, c, o, worker.Name, overrides{in.OverrideOrigin, in.OverrideRecord})
			if err != nil {
				return err
			}
			kept[d.ID] = true
			list = append(list, asDomainReply(d))
		}
		for _, d := range tx.Snapshot().WorkersOf(c.Account.ID).Domains {
			if d.Service == worker.Name && !kept[d.ID] {
				if err := detach(tx, d); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: list}, nil
}
