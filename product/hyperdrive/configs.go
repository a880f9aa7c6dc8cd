package hyperdrive

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/hyperdrive/postgres"
	"selvage/spec"
)

// Permissions of the API.
var (
	read  = product.Permission{Group: "Hyperdrive"}
	write = product.Permission{Group: "Hyperdrive", Write: true}
)

// Routes serves the API.
func (p *Hyperdrive) Routes() []product.Route {
	const all, one = "/accounts/{account_id}/hyperdrive/configs", "/accounts/{account_id}/hyperdrive/configs/{hyperdrive_id}"
	const own = "/accounts/{account_id}/selvage/hyperdrive/configs/{hyperdrive_id}"
	return append(p.certificateRoutes(), []product.Route{
		{Method: "GET", Path: all, Permission: read, Summary: "List the Hyperdrive configurations of an account.", Handle: p.list},
		{Method: "POST", Path: all, Permission: write, Summary: "Make a Hyperdrive configuration; the database has to answer.", Handle: p.create},
		{Method: "GET", Path: one, Permission: read, Summary: "Show a Hyperdrive configuration.", Handle: p.show},
		{Method: "PUT", Path: one, Permission: write, Summary: "Replace a Hyperdrive configuration.", Handle: p.replace},
		{Method: "PATCH", Path: one, Permission: write, Summary: "Change fields of a Hyperdrive configuration.", Handle: p.patch},
		{Method: "DELETE", Path: one, Permission: write, Summary: "Delete a Hyperdrive configuration.", Handle: p.remove},
		{Method: "GET", Path: own + "/credentials", Permission: write, Summary: "Show how to log in to a Hyperdrive configuration on the private port.", Handle: p.credentials},
		{Method: "POST", Path: own + "/credentials", Permission: write, Summary: "Make a new password for the private port; the old one is worth nothing from then on.", Handle: p.rotate},
		{Method: "GET", Path: own + "/stats", Permission: read, Summary: "Show clients, connections, waits and cache hits of a Hyperdrive configuration on this node.", Handle: p.stats},
	}...)
}

// reply is a configuration as the API shows it.
type reply struct {
	ID         string       `json:"id"`
	Name       string       `json:"name"`
	Origin     originReply  `json:"origin"`
	Caching    cachingReply `json:"caching"`
	MTLS       *mtlsReply   `json:"mtls,omitempty"`
	Limit      int          `json:"origin_connection_limit"`
	CreatedOn  time.Time    `json:"created_on"`
	ModifiedOn time.Time    `json:"modified_on"`
}

type originReply struct {
	Scheme   string `json:"scheme"`
	Host     string `json:"host"`
	Port     int    `json:"port"`
	Database string `json:"database"`
	User     string `json:"user"`
}

type cachingReply struct {
	Disabled bool `json:"disabled"`
	MaxAge   *int `json:"max_age,omitempty"`
	Stale    *int `json:"stale_while_revalidate,omitempty"`
}

type mtlsReply struct {
	CA      string `json:"ca_certificate_id,omitempty"`
	Client  string `json:"mtls_certificate_id,omitempty"`
	SSLMode string `json:"sslmode,omitempty"`
}

func asReply(h *spec.Hyperdrive) reply {
	r := reply{
		ID: h.ID, Name: h.Name, Limit: h.Connections(), CreatedOn: h.CreatedOn, ModifiedOn: h.ModifiedOn,
		Origin:  originReply{h.Origin.Scheme, h.Origin.Host, h.Origin.Port, h.Origin.Database, h.Origin.User},
		Caching: cachingReply{h.Caching.Disabled, h.Caching.MaxAge, h.Caching.Stale},
	}
	if !h.Caching.Disabled {
		age, stale := spec.HyperdriveMaxAge, spec.HyperdriveStale
		if r.Caching.MaxAge == nil {
			r.Caching.MaxAge = &age
		}
		if r.Caching.Stale == nil {
			r.Caching.Stale = &stale
		}
	}
	if m := h.MTLS; m != (spec.HyperdriveMTLS{}) {
		r.MTLS = &mtlsReply{m.CA, m.Client, m.SSLMode}
	}
	return r
}

// input is a configuration, or a change of one, as clients send it.
type input struct {
	Name    *string       `json:"name"`
	Origin  *originInput  `json:"origin"`
	Caching *cachingInput `json:"caching"`
	MTLS    *mtlsInput    `json:"mtls"`
	Limit   *int          `json:"origin_connection_limit"`
}

type originInput struct {
	Scheme   *string `json:"scheme"`
	Host     *string `json:"host"`
	Port     *int    `json:"port"`
	Database *string `json:"database"`
	User     *string `json:"user"`
	Password *string `json:"password"`

	AccessID     string `json:"access_client_id"`
	AccessSecret string `json:"access_client_secret"`
	ServiceID    string `json:"service_id"`
}

type cachingInput struct {
	Disabled *bool `json:"disabled"`
	MaxAge   *int  `json:"max_age"`
	Stale    *int  `json:"stale_while_revalidate"`
}

type mtlsInput struct {
	CA      *string `json:"ca_certificate_id"`
	Client  *string `json:"mtls_certificate_id"`
	SSLMode *string `json:"sslmode"`
}

// decode reads a body. What only Cloudflare's network has is refused.
func decode(c *product.Call) (*input, error) {
	in := &input{}
	if err := c.Decode(in, "id", "created_on", "modified_on"); err != nil {
		return nil, err
	}
	if o := in.Origin; o != nil {
		switch {
		case o.AccessID != "" || o.AccessSecret != "":
			return nil, fault.New(fault.Unsupported, "Databases behind Cloudflare Access are not supported: give host and port of a database that this node reaches itself.").At("origin.access_client_id")
		case o.ServiceID != "":
			return nil, fault.New(fault.Unsupported, "Workers VPC services are not supported: give host and port of a database that this node reaches itself.").At("origin.service_id")
		}
	}
	return in, nil
}

// apply changes h and returns the new password, if there is one.
func (in *input) apply(h *spec.Hyperdrive) (password *string) {
	set(&h.Name, in.Name)
	set(&h.Limit, in.Limit)
	if o := in.Origin; o != nil {
		set(&h.Origin.Scheme, o.Scheme)
		set(&h.Origin.Host, o.Host)
		set(&h.Origin.Port, o.Port)
		set(&h.Origin.Database, o.Database)
		set(&h.Origin.User, o.User)
		password = o.Password
	}
	if c := in.Caching; c != nil {
		set(&h.Caching.Disabled, c.Disabled)
		if c.MaxAge != nil {
			h.Caching.MaxAge = c.MaxAge
		}
		if c.Stale != nil {
			h.Caching.Stale = c.Stale
		}
	}
	if m := in.MTLS; m != nil {
		set(&h.MTLS.SSLMode, m.SSLMode)
		set(&h.MTLS.CA, m.CA)
		set(&h.MTLS.Client, m.Client)
	}
	h.Origin.Host = strings.Trim(h.Origin.Host, "[]")
	if h.Origin.Port == 0 {
		h.Origin.Port = map[bool]int{true: 5432, false: 3306}[h.Postgres()]
	}
	return password
}

func set[T any](to *T, v *T) {
	if v != nil {
		*to = *v
	}
}

// noConfig is what is said of a configuration that is not there, or another account's.
func noConfig(id string) error {
	return fault.New(fault.NotFound, "There is no Hyperdrive configuration %.40q on this account.", id).WithCode(codeNoConfig)
}

func (p *Hyperdrive) config(c *product.Call) (*spec.Hyperdrive, error) {
	id := c.Params["hyperdrive_id"]
	if h := p.o.State.Snapshot().StorageOf(c.Account.ID).Hyperdrives[id]; h != nil {
		return h, nil
	}
	return nil, noConfig(id)
}

func (p *Hyperdrive) list(_ context.Context, c *product.Call) (product.Reply, error) {
	all := []reply{}
	for _, h := range p.o.State.Snapshot().StorageOf(c.Account.ID).Hyperdrives {
		all = append(all, asReply(h))
	}
	slices.SortFunc(all, func(a, b reply) int {
		if n := a.CreatedOn.Compare(b.CreatedOn); n != 0 {
			return n
		}
		return strings.Compare(a.ID, b.ID)
	})
	page, info, err := product.Page(all, c.Query, product.Paging{Default: 100, Max: 1000})
	return product.Reply{Result: page, Info: info}, err
}

func (p *Hyperdrive) show(_ context.Context, c *product.Call) (product.Reply, error) {
	h, err := p.config(c)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: asReply(h)}, nil
}

func (p *Hyperdrive) create(ctx context.Context, c *product.Call) (product.Reply, error) {
	in, err := decode(c)
	if err != nil {
		return product.Reply{}, err
	}
	now := spec.Timestamp(p.o.Clock.Now())
	h := &spec.Hyperdrive{ID: spec.NewID(), AccountID: c.Account.ID, CreatedOn: now}
	h.Access = p.newAccess(h)
	return p.save(ctx, c, h, in)
}

func (p *Hyperdrive) replace(ctx context.Context, c *product.Call) (product.Reply, error) {
	old, err := p.config(c)
	if err != nil {
		return product.Reply{}, err
	}
	in, err := decode(c)
	if err != nil {
		return product.Reply{}, err
	}
	h := &spec.Hyperdrive{ID: old.ID, AccountID: old.AccountID, CreatedOn: old.CreatedOn, Access: old.Access}
	return p.save(ctx, c, h, in)
}

func (p *Hyperdrive) patch(ctx context.Context, c *product.Call) (product.Reply, error) {
	old, err := p.config(c)
	if err != nil {
		return product.Reply{}, err
	}
	in, err := decode(c)
	if err != nil {
		return product.Reply{}, err
	}
	h := *old
	return p.save(ctx, c, &h, in)
}

// save changes h, which is nobody else's yet, sees whether the database answers, and stores it.
func (p *Hyperdrive) save(ctx context.Context, c *product.Call, h *spec.Hyperdrive, in *input) (product.Reply, error) {
	password := in.apply(h)
	if err := h.Validate(); err != nil {
		return product.Reply{}, badConfig(err)
	}
	if err := checkCertificates(p.o.State.Snapshot().StorageOf(h.AccountID), h); err != nil {
		return product.Reply{}, err
	}
	if password == nil && len(h.Origin.Sealed) == 0 {
		return product.Reply{}, fault.New(fault.Invalid, "A Hyperdrive configuration needs the password to log in with at the database.").WithCode(codeBadConfig).At("origin.password")
	}
	if password != nil {
		h.Origin.Sealed = p.o.Seal.Seal([]byte(*password), sealContext(h.AccountID, h.ID, "origin"))
	}
	if in.Origin != nil || in.MTLS != nil {
		if err := p.check(ctx, h); err != nil {
			return product.Reply{}, err
		}
	}
	h.ModifiedOn = spec.Timestamp(p.o.Clock.Now())
	err := p.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		own := tx.Snapshot().StorageOf(h.AccountID).Hyperdrives
		for id, other := range own {
			if other.Name == h.Name && id != h.ID {
				return fault.New(fault.Conflict, "The account has a Hyperdrive configuration named %.80q already; choose another name.", h.Name).WithCode(codeNameTaken).At("name")
			}
		}
		if err := checkCertificates(tx.Snapshot().StorageOf(h.AccountID), h); err != nil {
			return err
		}
		if own[h.ID] == nil {
			if c.Params["hyperdrive_id"] != "" {
				return noConfig(h.ID)
			}
			quota := p.quota()
			if err := quota.Check(tx.Snapshot(), h.AccountID, int64(len(own)), 1); err != nil {
				return err
			}
		}
		return tx.Put(h)
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: asReply(h)}, nil
}

// badConfig gives what is wrong with a configuration Cloudflare's code.
func badConfig(err error) error {
	if all := fault.All(err); len(all) == 1 {
		return all[0].WithCode(codeBadConfig)
	}
	return err
}

func (p *Hyperdrive) remove(ctx context.Context, c *product.Call) (product.Reply, error) {
	err := p.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		h := tx.Snapshot().StorageOf(c.Account.ID).Hyperdrives[c.Params["hyperdrive_id"]]
		if h == nil {
			return noConfig(c.Params["hyperdrive_id"])
		}
		return tx.Delete(h.Key())
	})
	return product.Reply{}, err
}

// newAccess makes a password for the private port and seals it.
func (p *Hyperdrive) newAccess(h *spec.Hyperdrive) []byte {
	b := make([]byte, 24)
	rand.Read(b) // never fails
	return p.o.Seal.Seal([]byte(hex.EncodeToString(b)), sealContext(h.AccountID, h.ID, "access"))
}

// access is how to log in on the private port.
type access struct {
	User     string `json:"user"`
	Password string `json:"password"`
	Database string `json:"database"`
}

func (p *Hyperdrive) credentials(_ context.Context, c *product.Call) (product.Reply, error) {
	h, err := p.config(c)
	if err != nil {
		return product.Reply{}, err
	}
	password, err := p.o.Seal.Open(h.Access, sealContext(h.AccountID, h.ID, "access"))
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: access{h.ID, string(password), h.Origin.Database}}, nil
}

func (p *Hyperdrive) rotate(ctx context.Context, c *product.Call) (product.Reply, error) {
	err := p.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		old := tx.Snapshot().StorageOf(c.Account.ID).Hyperdrives[c.Params["hyperdrive_id"]]
		if old == nil {
			return noConfig(c.Params["hyperdrive_id"])
		}
		h := *old
		h.Access = p.newAccess(&h)
		h.ModifiedOn = spec.Timestamp(p.o.Clock.Now())
		return tx.Put(&h)
	})
	if err != nil {
		return product.Reply{}, err
	}
	return p.credentials(ctx, c)
}

func (p *Hyperdrive) stats(_ context.Context, c *product.Call) (product.Reply, error) {
	h, err := p.config(c)
	if err != nil {
		return product.Reply{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.pools[h.ID]
	if u == nil {
		return product.Reply{Result: postgres.Stats{}}, nil
	}
	return product.Reply{Result: u.stats()}, nil
}
