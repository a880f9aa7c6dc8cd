package d1

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// Cloudflare's codes of D1's errors.
const (
	codeInvalid   = 7400
	codeNotFound  = 7404
	codeTooMany   = 7406 // databases in the account
	codeReset     = 7429 // a query that ran or waited for too long
	codeQuery     = 7500 // SQLite's own
	codeNameTaken = 7502
)

// made is a database as creating, listing and changing it show it.
type made struct {
	UUID         string       `json:"uuid"`
	Name         string       `json:"name"`
	Created      time.Time    `json:"created_at"`
	Version      string       `json:"version"`
	Region       string       `json:"created_in_region,omitempty"`
	Hint         string       `json:"primary_location_hint,omitempty"`
	Jurisdiction *string      `json:"jurisdiction"`
	Replication  *replication `json:"read_replication,omitempty"`
}

// details is a database as asking for it alone shows it.
type details struct {
	made
	Tables  int    `json:"num_tables"`
	Size    int64  `json:"file_size"` // bytes
	Running string `json:"running_in_region"`
}

type replication struct {
	Mode string `json:"mode"`
}

func (p *D1) shown(d *spec.Database) made {
	m := made{UUID: d.ID, Name: d.Name, Created: d.CreatedOn, Version: "production", Region: p.region(d), Hint: d.LocationHint}
	if d.Jurisdiction != "" {
		m.Jurisdiction = &d.Jurisdiction
	}
	m.Replication = &replication{cmp.Or(d.Replication, spec.ReplicationDisabled)}
	return m
}

// region is where a database is: where it was asked to be, or this place.
func (p *D1) region(d *spec.Database) string {
	return strings.ToUpper(cmp.Or(d.LocationHint, p.o.PoP))
}

func (p *D1) create(ctx context.Context, c *product.Call) (product.Reply, error) {
	var asked struct {
		Name         string  `json:"name"`
		Hint         *string `json:"primary_location_hint"`
		Jurisdiction *string `json:"jurisdiction"`
	}
	if err := c.Decode(&asked, "experimental", "location"); err != nil {
		return product.Reply{}, invalid(err)
	}
	d := &spec.Database{ID: spec.NewUUID(), AccountID: c.Account.ID, Name: asked.Name, CreatedOn: spec.Timestamp(p.o.Clock.Now())}
	if asked.Hint != nil {
		d.LocationHint = strings.ToLower(*asked.Hint)
	}
	if asked.Jurisdiction != nil {
		d.Jurisdiction = *asked.Jurisdiction
	}
	if err := d.Validate(); err != nil {
		return product.Reply{}, invalid(err)
	}
	if p.o.State.Snapshot().StorageOf(d.AccountID).DatabaseByName(d.Name) != nil {
		return product.Reply{}, nameTaken(d.Name)
	}
	s, err := p.store()
	if err != nil {
		return product.Reply{}, err
	}
	// The files are there before anybody can ask for them; the note sees to it that they go if the noun
	// does not come.
	if err := p.graves.dig(d); err != nil {
		return product.Reply{}, err
	}
	if err := s.Create(ctx, key(d)); err != nil {
		return product.Reply{}, err
	}
	err = p.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		account := tx.Snapshot().StorageOf(d.AccountID)
		if account.DatabaseByName(d.Name) != nil {
			return nameTaken(d.Name)
		}
		if err := p.databases.Check(tx.Snapshot(), d.AccountID, int64(len(account.Databases)), 1); err != nil {
			return coded(err, codeTooMany)
		}
		return tx.Put(d)
	})
	if err != nil {
		p.bury(context.WithoutCancel(ctx), s, d)
		return product.Reply{}, invalid(err)
	}
	p.graves.fill(d)
	p.usage.note(d, 0)
	return product.Reply{Result: p.shown(d)}, nil
}

func nameTaken(name string) error {
	return fault.New(fault.Conflict, "A database with that name already exists: %s. Choose another, or delete that one first.", name).WithCode(codeNameTaken).At("name")
}

func (p *D1) list(_ context.Context, c *product.Call) (product.Reply, error) {
	name := c.Query.Get("name")
	var all []*spec.Database
	for _, d := range p.o.State.Snapshot().StorageOf(c.Account.ID).Databases {
		if strings.Contains(d.Name, name) {
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(a, b *spec.Database) int {
		return cmp.Or(b.CreatedOn.Compare(a.CreatedOn), cmp.Compare(a.ID, b.ID)) // newest first
	})
	page, info, err := product.Page(all, c.Query, product.Paging{Default: 100, Max: 10_000})
	if err != nil {
		return product.Reply{}, invalid(err)
	}
	shown := make([]made, len(page))
	for i, d := range page {
		shown[i] = p.shown(d)
		shown[i].Replication = nil
	}
	return product.Reply{Result: shown, Info: info}, nil
}

// named returns the database that a path names, by ID or by name.
func (p *D1) named(c *product.Call) (*spec.Database, error) {
	id := c.Params["database_id"]
	account := p.o.State.Snapshot().StorageOf(c.Account.ID)
	if d := account.Databases[strings.ToLower(id)]; d != nil {
		return d, nil
	}
	if d := account.DatabaseByName(id); d != nil {
		return d, nil
	}
	return nil, noDatabase(id)
}

func noDatabase(id string) error {
	return fault.New(fault.NotFound, "The database %.80s could not be found", id).WithCode(codeNotFound)
}

func (p *D1) get(ctx context.Context, c *product.Call) (product.Reply, error) {
	d, err := p.named(c)
	if err != nil {
		return product.Reply{}, err
	}
	// wrangler looks IDs up by name and wants no more.
	if fields := c.Query.Get("fields"); fields != "" {
		return p.some(ctx, d, strings.Split(fields, ","))
	}
	full, err := p.details(ctx, d)
	return product.Reply{Result: full}, err
}

// some answers with the fields asked for; it opens the database only if one needs that.
func (p *D1) some(ctx context.Context, d *spec.Database, fields []string) (product.Reply, error) {
	m := p.shown(d)
	known := map[string]any{
		"uuid": m.UUID, "name": m.Name, "created_at": m.Created, "version": m.Version, "jurisdiction": m.Jurisdiction,
		"created_in_region": m.Region, "running_in_region": m.Region, "read_replication": m.Replication,
	}
	if slices.Contains(fields, "num_tables") || slices.Contains(fields, "file_size") {
		full, err := p.details(ctx, d)
		if err != nil {
			return product.Reply{}, err
		}
		known["num_tables"], known["file_size"] = full.Tables, full.Size
	}
	out := map[string]any{}
	for _, f := range fields {
		v, ok := known[strings.TrimSpace(f)]
		if !ok {
			return product.Reply{}, fault.New(fault.Invalid, "A database has no field %.40q to show.", f).WithCode(codeInvalid).At("fields")
		}
		out[strings.TrimSpace(f)] = v
	}
	return product.Reply{Result: out}, nil
}

// change is PATCH and PUT: what there is to change is the same for both.
func (p *D1) change(ctx context.Context, c *product.Call) (product.Reply, error) {
	var asked struct {
		Replication *replication `json:"read_replication"`
	}
	if err := c.Decode(&asked); err != nil {
		return product.Reply{}, invalid(err)
	}
	d, err := p.named(c)
	if err != nil {
		return product.Reply{}, err
	}
	err = p.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		now := tx.Snapshot().StorageOf(d.AccountID).Databases[d.ID]
		if now == nil {
			return noDatabase(d.ID)
		}
		next := *now
		if asked.Replication != nil {
			if next.Replication = asked.Replication.Mode; next.Replication == "" {
				return fault.New(fault.Invalid, "read_replication needs a mode: auto or disabled.").At("read_replication.mode")
			}
		}
		d = &next
		if *now == next {
			return nil
		}
		return tx.Put(d)
	})
	if err != nil {
		return product.Reply{}, invalid(err)
	}
	full, err := p.details(ctx, d)
	return product.Reply{Result: full}, err
}

// remove deletes a database with its history. Scripts that bind to it are told so when they next ask.
func (p *D1) remove(ctx context.Context, c *product.Call) (product.Reply, error) {
	d, err := p.named(c)
	if err != nil {
		return product.Reply{}, err
	}
	s, err := p.store()
	if err != nil {
		return product.Reply{}, err
	}
	if err := p.graves.dig(d); err != nil {
		return product.Reply{}, err
	}
	err = p.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		if tx.Snapshot().StorageOf(d.AccountID).Databases[d.ID] == nil {
			return noDatabase(d.ID)
		}
		return tx.Delete(d.Key())
	})
	if err != nil {
		return product.Reply{}, err
	}
	p.bury(context.WithoutCancel(ctx), s, d)
	return product.Reply{Status: http.StatusOK}, nil
}

// invalid gives faults of the request without a code of their own D1's.
func invalid(err error) error {
	return coded(err, codeInvalid)
}

func coded(err error, code int) error {
	all := fault.All(err)
	if len(all) == 0 || fault.KindOf(err) == fault.Internal || fault.KindOf(err) == fault.Unavailable {
		return err
	}
	out := make([]error, len(all))
	for i, f := range all {
		if f.Code == 0 || f.Code == 6007 {
			f = f.WithCode(code)
		}
		out[i] = f
	}
	return errors.Join(out...)
}
