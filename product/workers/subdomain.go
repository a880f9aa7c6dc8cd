package workers

import (
	"context"
	"strings"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// subdomainRoutes are the account's name under the node's workers domain, and which scripts answer
// below it.
func (w *Workers) subdomainRoutes() []product.Route {
	const script = "/accounts/{account_id}/workers/scripts/{script_name}/subdomain"
	return []product.Route{
		{Method: "GET", Path: "/accounts/{account_id}/workers/subdomain", Permission: readScripts, Summary: "Show the account's Workers subdomain.", Handle: w.showSubdomain},
		{Method: "PUT", Path: "/accounts/{account_id}/workers/subdomain", Permission: writeScripts, Summary: "Name the account's Workers subdomain.", Handle: w.nameSubdomain},
		{Method: "GET", Path: "/accounts/{account_id}/workers/subdomains/{name}", Permission: readScripts, Summary: "Tell whether a Workers subdomain is taken.", Handle: w.checkSubdomain},
		{Method: "GET", Path: script, Permission: readScripts, Summary: "Show whether a Worker answers on the account's subdomain.", Handle: w.showScriptSubdomain},
		{Method: "POST", Path: script, Permission: writeScripts, Summary: "Switch a Worker on or off on the account's subdomain.", Handle: w.setScriptSubdomain},
		{Method: "DELETE", Path: script, Permission: writeScripts, Summary: "Switch a Worker off on the account's subdomain.", Handle: w.clearScriptSubdomain},
	}
}

type subdomainReply struct {
	Subdomain string `json:"subdomain"`
	Domain    string `json:"domain"` // of this node: what follows the subdomain in host names
}

func (w *Workers) subdomainReply(name string) product.Reply {
	return product.Reply{Result: subdomainReply{name, w.o.Domain}}
}

// showSubdomain makes the subdomain if there is none yet: on a node of one's own nobody has to
// choose a name among millions first.
func (w *Workers) showSubdomain(ctx context.Context, c *product.Call) (product.Reply, error) {
	if s := w.o.State.Snapshot().WorkersOf(c.Account.ID).Subdomain; s != nil {
		return w.subdomainReply(s.Name), nil
	}
	var made *spec.WorkerSubdomain
	err := w.o.State.Update(ctx, c.Actor, func(tx product.Tx) (err error) {
		made, err = w.ensureSubdomain(tx, c.Account)
		return err
	})
	if err != nil {
		return product.Reply{}, err
	}
	return w.subdomainReply(made.Name), nil
}

func (w *Workers) nameSubdomain(ctx context.Context, c *product.Call) (product.Reply, error) {
	var in struct {
		Subdomain string `json:"subdomain"`
	}
	if err := c.Decode(&in); err != nil {
		return product.Reply{}, err
	}
	err := w.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		old := tx.Snapshot().WorkersOf(c.Account.ID).Subdomain
		if old != nil && old.Name == in.Subdomain {
			return nil
		}
		made, err := w.putSubdomain(tx, c.Account.ID, in.Subdomain)
		if err != nil || old == nil {
			return err
		}
		if made.ZoneID != old.ZoneID {
			return tx.Delete(spec.Key{Kind: spec.KindZone, ID: old.ZoneID})
		}
		return nil
	})
	if err != nil {
		return product.Reply{}, err
	}
	return w.subdomainReply(in.Subdomain), nil
}

// checkSubdomain answers as Cloudflare does: 10032 is "nobody has it".
func (w *Workers) checkSubdomain(_ context.Context, c *product.Call) (product.Reply, error) {
	name := c.Params["name"]
	z := w.o.State.Snapshot().ZoneByName(name + "." + w.o.Domain)
	if z == nil {
		return product.Reply{}, fault.New(fault.NotFound, "The subdomain %.80q is not in use.", name).WithCode(10032)
	}
	if z.Zone.AccountID != c.Account.ID {
		return product.Reply{}, fault.New(fault.Conflict, "The subdomain %.80q is taken.", name).WithCode(10031)
	}
	return w.subdomainReply(name), nil
}

// ensureSubdomain returns the account's subdomain, making one after the account's name.
func (w *Workers) ensureSubdomain(tx product.Tx, account *spec.Account) (*spec.WorkerSubdomain, error) {
	if s := tx.Snapshot().WorkersOf(account.ID).Subdomain; s != nil {
		return s, nil
	}
	name := labelOf(account.Name)
	if tx.Snapshot().ZoneByName(name+"."+w.o.Domain) != nil {
		name = strings.TrimRight(name[:min(len(name), 54)], "-") + "-" + account.ID[:8]
	}
	return w.putSubdomain(tx, account.ID, name)
}

// labelOf makes a DNS label of a name.
func labelOf(name string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(name) {
		switch {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			b.WriteRune(c)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	label := b.String()
	if label = strings.Trim(label[:min(len(label), 63)], "-"); label == "" {
		return "workers"
	}
	return label
}

// putSubdomain makes the zone of a subdomain with the record that brings all names below it to the
// edge, so that DNS, certificates, logs and purges work there as everywhere.
func (w *Workers) putSubdomain(tx product.Tx, accountID, name string) (*spec.WorkerSubdomain, error) {
	s := &spec.WorkerSubdomain{AccountID: accountID, Name: name}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if tx.Snapshot().ZoneByName(name+"."+w.o.Domain) != nil {
		return nil, fault.New(fault.Conflict, "The subdomain %q is taken; choose another one.", name).WithCode(10031).At("subdomain")
	}
	now := spec.Timestamp(w.o.Clock.Now())
	z := &spec.Zone{
		ID: spec.NewID(), AccountID: accountID, Name: name + "." + w.o.Domain, Status: "active", Type: "full", NameServers: w.o.NameServers,
		CreatedOn: now, ModifiedOn: now, ActivatedOn: now,
	}
	if err := tx.Put(z); err != nil {
		return nil, err
	}
	s.ZoneID = z.ID
	if err := tx.Put(edgeRecord(z, "*."+z.Name, "answers for the account's Workers", now)); err != nil {
		return nil, err
	}
	return s, tx.Put(s)
}

// scriptSubdomain is what the API says of a script's place on the subdomain.
type scriptSubdomain struct {
	Enabled  bool `json:"enabled"`
	Previews bool `json:"previews_enabled"`
}

func (w *Workers) showScriptSubdomain(_ context.Context, c *product.Call) (product.Reply, error) {
	s, err := w.ready(c)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: scriptSubdomain{s.worker.OnSubdomain, s.worker.Previews}}, nil
}

func (w *Workers) setScriptSubdomain(ctx context.Context, c *product.Call) (product.Reply, error) {
	var in struct {
		Enabled  bool  `json:"enabled"`
		Previews *bool `json:"previews_enabled"`
	}
	if err := c.Decode(&in); err != nil {
		return product.Reply{}, err
	}
	return w.alter(ctx, c, func(tx product.Tx, worker *spec.Worker) (any, error) {
		worker.OnSubdomain = in.Enabled
		if in.Previews != nil {
			worker.Previews = *in.Previews
		} else {
			worker.Previews = in.Enabled
		}
		_, err := w.ensureSubdomain(tx, c.Account)
		return scriptSubdomain{worker.OnSubdomain, worker.Previews}, err
	})
}

func (w *Workers) clearScriptSubdomain(ctx context.Context, c *product.Call) (product.Reply, error) {
	return w.alter(ctx, c, func(_ product.Tx, worker *spec.Worker) (any, error) {
		worker.OnSubdomain, worker.Previews = false, false
		return scriptSubdomain{}, nil
	})
}

// alter stores a changed copy of the script that the path names and answers what change
// returns.
func (w *Workers) alter(ctx context.Context, c *product.Call, change func(tx product.Tx, worker *spec.Worker) (any, error)) (product.Reply, error) {
	var result any
	err := w.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		worker, err := scriptIn(tx, c)
		if err != nil {
			return err
		}
		changed := *worker
		changed.ModifiedOn = spec.Timestamp(w.o.Clock.Now())
		if result, err = change(tx, &changed); err != nil {
			return err
		}
		return tx.Put(&changed)
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: result}, nil
}

// scriptIn returns the script that a call's path names, as the transaction sees it.
func scriptIn(tx product.Tx, c *product.Call) (*spec.Worker, error) {
	n, err := tx.Get(spec.Key{Kind: spec.KindWorker, Scope: c.Account.ID, ID: c.Params["script_name"]})
	if err != nil {
		return nil, err
	}
	if n == nil {
		return nil, noScript(c.Params["script_name"])
	}
	return n.(*spec.Worker), nil
}
