package r2

import (
	"cmp"
	"context"
	"encoding/json"
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

// domainRoutes are the host names at which a bucket is public.
func (p *R2) domainRoutes() []product.Route {
	const custom, one, managed = bucketPath + "/domains/custom", bucketPath + "/domains/custom/{domain}", bucketPath + "/domains/managed"
	return []product.Route{
		{Method: "GET", Path: custom, Permission: readStorage, Summary: "List the custom domains of a bucket.", Handle: p.listDomains},
		{Method: "POST", Path: custom, Permission: writeStorage, Summary: "Make a bucket public at a host name, with its DNS record.", Handle: p.attachDomain},
		{Method: "GET", Path: one, Permission: readStorage, Summary: "Show a custom domain of a bucket.", Handle: p.showDomain},
		{Method: "PUT", Path: one, Permission: writeStorage, Summary: "Change a custom domain of a bucket.", Handle: p.changeDomain},
		{Method: "DELETE", Path: one, Permission: writeStorage, Summary: "Detach a custom domain and remove its DNS record.", Handle: p.detachDomain},
		{Method: "GET", Path: managed, Permission: readStorage, Summary: "Show a bucket's own name on this node.", Handle: p.showManaged},
		{Method: "PUT", Path: managed, Permission: writeStorage, Summary: "Make a bucket public at its own name on this node, or not.", Handle: p.putManaged},
	}
}

// domainReply is a custom domain as the API shows it.
type domainReply struct {
	Domain   string       `json:"domain"`
	Enabled  bool         `json:"enabled"`
	Status   domainStatus `json:"status"`
	MinTLS   string       `json:"minTLS"`
	Ciphers  []string     `json:"ciphers,omitempty"`
	ZoneID   string       `json:"zoneId"`
	ZoneName string       `json:"zoneName"`
}

type domainStatus struct {
	Ownership string `json:"ownership"`
	SSL       string `json:"ssl"`
}

// asDomainReply tells of a domain as it is now: its zone may have been deleted since.
func (p *R2) asDomainReply(b *spec.Bucket, d *spec.BucketDomain) domainReply {
	status := domainStatus{"deactivated", "deactivated"}
	if z := p.o.State.Snapshot().Zones[d.ZoneID]; z != nil && z.Zone.AccountID == b.AccountID {
		status = domainStatus{"active", "active"}
	}
	return domainReply{d.Domain, d.Enabled, status, cmp.Or(d.MinTLS, "1.0"), d.Ciphers, d.ZoneID, d.ZoneName}
}

func (p *R2) listDomains(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := p.bucketOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	list := []domainReply{}
	for i := range b.Domains {
		list = append(list, p.asDomainReply(b, &b.Domains[i]))
	}
	return product.Reply{Result: map[string]any{"domains": list}}, nil
}

func noDomain() error {
	return fault.New(fault.NotFound, "There is no such custom domain on this bucket.").WithCode(10060)
}

// domainOf finds the domain of a bucket that the path names.
func domainOf(b *spec.Bucket, c *product.Call) (int, error) {
	i := slices.IndexFunc(b.Domains, func(d spec.BucketDomain) bool { return d.Domain == strings.ToLower(c.Params["domain"]) })
	if i < 0 {
		return 0, noDomain()
	}
	return i, nil
}

func (p *R2) showDomain(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := p.bucketOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	i, err := domainOf(b, c)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: p.asDomainReply(b, &b.Domains[i])}, nil
}

// domainInput is a custom domain as clients send it.
type domainInput struct {
	Domain  string   `json:"domain"`
	ZoneID  string   `json:"zoneId"`
	Enabled *bool    `json:"enabled"`
	MinTLS  string   `json:"minTLS"`
	Ciphers []string `json:"ciphers"`
}

func (in *domainInput) check() error {
	if in.MinTLS != "" && !slices.Contains([]string{"1.0", "1.1", "1.2", "1.3"}, in.MinTLS) {
		return fault.New(fault.Invalid, "minTLS is %.20q; it is 1.0, 1.1, 1.2 or 1.3.", in.MinTLS).WithCode(codeBadJSON).At("minTLS")
	}
	if len(in.Ciphers) > 50 || slices.ContainsFunc(in.Ciphers, func(s string) bool { return len(s) > 100 }) {
		return fault.New(fault.Invalid, "ciphers has at most 50 names of at most 100 bytes.").WithCode(codeBadJSON).At("ciphers")
	}
	return nil
}

func (p *R2) attachDomain(ctx context.Context, c *product.Call) (product.Reply, error) {
	var in domainInput
	if err := c.Decode(&in); err != nil {
		return product.Reply{}, err
	}
	if err := in.check(); err != nil {
		return product.Reply{}, err
	}
	var made spec.BucketDomain
	b, err := p.alter(ctx, c, func(tx product.Tx, b *spec.Bucket) (err error) {
		if made, err = p.attach(tx, b, in); err != nil {
			return err
		}
		b.Domains = append(slices.Clone(b.Domains), made)
		return nil
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: p.asDomainReply(b, &made)}, nil
}

// attach makes a custom domain with its DNS record.
func (p *R2) attach(tx product.Tx, b *spec.Bucket, in domainInput) (made spec.BucketDomain, err error) {
	host := strings.ToLower(strings.TrimSuffix(in.Domain, "."))
	z := zoneOf(tx.Snapshot(), b.AccountID, in.ZoneID, host)
	if z == nil {
		return made, fault.New(fault.Invalid, "There is no zone of this account that %.200q is in: add the zone first, or name another host.", in.Domain).WithCode(10060).At("domain")
	}
	if err := spec.CheckHostname(host); err != nil {
		return made, fault.New(fault.Invalid, "%.200q is not a host name in the zone %s.", in.Domain, z.Zone.Name).WithCode(codeBadJSON).At("domain")
	}
	if owner := domainOwner(tx.Snapshot(), host); owner != "" {
		return made, fault.New(fault.Conflict, "%s is a custom domain of %s already; detach it there first.", host, owner).At("domain")
	}
	for _, r := range spec.RecordsOf(z.Records, host) {
		if r.Proxiable() {
			return made, fault.New(fault.Conflict, "%s has a DNS record of type %s already; delete it first.", host, r.Type).At("domain")
		}
	}
	now := spec.Timestamp(p.o.Clock.Now())
	record := edgeRecord(z.Zone, host, "custom domain of the R2 bucket "+b.Name, now)
	if err := tx.Put(record); err != nil {
		return made, err
	}
	return spec.BucketDomain{
		Domain: host, ZoneID: z.Zone.ID, ZoneName: z.Zone.Name, Enabled: in.Enabled == nil || *in.Enabled, MinTLS: in.MinTLS, Ciphers: in.Ciphers,
		RecordID: record.ID, CreatedOn: now,
	}, nil
}

func edgeRecord(z *spec.Zone, name, comment string, now time.Time) *spec.Record {
	return &spec.Record{
		ID: spec.NewID(), ZoneID: z.ID, Name: name, Type: "AAAA", Content: edgeAddress, TTL: 1, Proxied: true, Comment: comment,
		CreatedOn: now, ModifiedOn: now,
	}
}

// zoneOf finds the account's zone that a host is in, the closest if there are more.
func zoneOf(snap *spec.Snapshot, accountID, id, host string) *spec.ZoneConfig {
	var best *spec.ZoneConfig
	for _, z := range snap.Zones {
		if z.Zone.AccountID == accountID && (id == "" || z.Zone.ID == id) && spec.InZone(host, z.Zone.Name) && (best == nil || len(z.Zone.Name) > len(best.Zone.Name)) {
			best = z
		}
	}
	return best
}

// domainOwner says in words who has a host name, empty if nobody.
func domainOwner(snap *spec.Snapshot, host string) string {
	for _, a := range snap.Storage {
		for _, b := range a.Buckets {
			for i := range b.Domains {
				if d := &b.Domains[i]; d.Domain == host && snap.Zones[d.ZoneID] != nil {
					return "the bucket " + b.Name
				}
			}
		}
	}
	for _, w := range snap.Workers {
		if d := w.Domains[host]; d != nil {
			return "the Worker " + d.Service
		}
	}
	return ""
}

func (p *R2) changeDomain(ctx context.Context, c *product.Call) (product.Reply, error) {
	var in domainInput
	if err := c.Decode(&in, "domain", "zoneId"); err != nil {
		return product.Reply{}, err
	}
	if err := in.check(); err != nil {
		return product.Reply{}, err
	}
	var at int
	b, err := p.alter(ctx, c, func(_ product.Tx, b *spec.Bucket) (err error) {
		if at, err = domainOf(b, c); err != nil {
			return err
		}
		b.Domains = slices.Clone(b.Domains)
		d := &b.Domains[at]
		if in.Enabled != nil {
			d.Enabled = *in.Enabled
		}
		d.MinTLS = cmp.Or(in.MinTLS, d.MinTLS)
		if in.Ciphers != nil {
			d.Ciphers = in.Ciphers
		}
		return nil
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: p.asDomainReply(b, &b.Domains[at])}, nil
}

func (p *R2) detachDomain(ctx context.Context, c *product.Call) (product.Reply, error) {
	_, err := p.alter(ctx, c, func(tx product.Tx, b *spec.Bucket) error {
		i, err := domainOf(b, c)
		if err != nil {
			return err
		}
		if err := deleteRecord(tx, &b.Domains[i]); err != nil {
			return err
		}
		b.Domains = slices.Delete(slices.Clone(b.Domains), i, i+1)
		return nil
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: map[string]string{"domain": strings.ToLower(c.Params["domain"])}}, nil
}

func deleteRecord(tx product.Tx, d *spec.BucketDomain) error {
	return tx.Delete(spec.Key{Kind: spec.KindRecord, Scope: d.ZoneID, ID: d.RecordID})
}

// detachAll takes away every name of a bucket.
func detachAll(tx product.Tx, b *spec.Bucket) error {
	for i := range b.Domains {
		if err := deleteRecord(tx, &b.Domains[i]); err != nil {
			return err
		}
	}
	if b.ManagedZone != "" {
		return tx.Delete(spec.Key{Kind: spec.KindZone, ID: b.ManagedZone})
	}
	return nil
}

// managedReply is a bucket's own name as the API shows it.
type managedReply struct {
	BucketID string `json:"bucketId"`
	Domain   string `json:"domain"`
	Enabled  bool   `json:"enabled"`
}

// managedName is the name of a bucket on this node.
func (p *R2) managedName(b *spec.Bucket) string { return "pub-" + b.ID + "." + p.o.Domain }

func (p *R2) asManaged(b *spec.Bucket) product.Reply {
	return product.Reply{Result: managedReply{b.ID, p.managedName(b), b.ManagedZone != ""}}
}

func (p *R2) showManaged(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := p.bucketOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	return p.asManaged(b), nil
}

func (p *R2) putManaged(ctx context.Context, c *product.Call) (product.Reply, error) {
	var in struct {
		Enabled *bool `json:"enabled"`
	}
	if err := c.Decode(&in); err != nil {
		return product.Reply{}, err
	}
	if in.Enabled == nil {
		return product.Reply{}, fault.New(fault.Invalid, "Say whether the name is enabled.").WithCode(codeBadJSON).At("enabled")
	}
	b, err := p.alter(ctx, c, func(tx product.Tx, b *spec.Bucket) error {
		if z := tx.Snapshot().Zones[b.ManagedZone]; z == nil || z.Zone.AccountID != b.AccountID {
			b.ManagedZone = ""
		}
		switch on := b.ManagedZone != ""; {
		case *in.Enabled && !on:
			return p.openManaged(tx, b)
		case !*in.Enabled && on:
			zone := b.ManagedZone
			b.ManagedZone = ""
			return tx.Delete(spec.Key{Kind: spec.KindZone, ID: zone})
		}
		return nil
	})
	if err != nil {
		return product.Reply{}, err
	}
	return p.asManaged(b), nil
}

// openManaged makes the zone of a bucket's own name, so that DNS, certificates and logs work there as
// everywhere. It is for trying things out: nothing is cached at it.
func (p *R2) openManaged(tx product.Tx, b *spec.Bucket) error {
	name := p.managedName(b)
	if tx.Snapshot().ZoneByName(name) != nil {
		return fault.New(fault.Conflict, "There is a zone %s on this node already; delete it first.", name)
	}
	now := spec.Timestamp(p.o.Clock.Now())
	z := &spec.Zone{
		ID: spec.NewID(), AccountID: b.AccountID, Name: name, Status: "active", Type: "full", NameServers: p.o.NameServers,
		CreatedOn: now, ModifiedOn: now, ActivatedOn: now,
	}
	if err := tx.Put(z); err != nil {
		return err
	}
	if err := tx.Put(edgeRecord(z, name, "answers for the R2 bucket "+b.Name, now)); err != nil {
		return err
	}
	b.ManagedZone = z.ID
	return tx.Put(neverCached(z.ID, now))
}

// neverCached is the rule that keeps the cache out of a zone.
func neverCached(zoneID string, now time.Time) *spec.Ruleset {
	return &spec.Ruleset{
		ID: spec.NewID(), ZoneID: zoneID, Name: "default", Kind: "zone", Phase: "http_request_cache_settings", Version: 1, LastUpdated: now,
		Rules: []spec.Rule{{
			ID: spec.NewID(), Version: 1, Ref: "r2", Description: "not cached, as at Cloudflare: use a custom domain for what many read", Expression: "true",
			Action: "set_cache_settings", ActionParameters: json.RawMessage(`{"cache":false}`), Enabled: true, LastUpdated: now,
		}},
	}
}
