package kv

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/kv/store"
	"selvage/spec"
)

const (
	spacesPath = "/accounts/{account_id}/storage/kv/namespaces"
	spacePath  = spacesPath + "/{namespace_id}"
)

// Routes serves the API.
func (p *KV) Routes() []product.Route {
	read, write := product.Permission{Group: "Workers KV Storage"}, product.Permission{Group: "Workers KV Storage", Write: true}
	const large = 110 << 20 // 100 MB and what surrounds them
	return []product.Route{
		{Method: "GET", Path: spacesPath, Permission: read, Summary: "List the KV namespaces of an account.", Handle: p.listSpaces},
		{Method: "POST", Path: spacesPath, Permission: write, Summary: "Create a KV namespace.", Handle: p.createSpace},
		{Method: "GET", Path: spacePath, Permission: read, Summary: "Show a KV namespace and how much it holds.", Handle: p.showSpace},
		{Method: "PUT", Path: spacePath, Permission: write, Summary: "Rename a KV namespace.", Handle: p.renameSpace},
		{Method: "DELETE", Path: spacePath, Permission: write, Summary: "Delete a KV namespace and all of its keys.", Handle: p.deleteSpace},
		{Method: "GET", Path: spacePath + "/keys", Permission: read, Summary: "List the keys of a KV namespace.", Handle: p.listKeys},
		{Method: "GET", Path: spacePath + "/values/{key_name...}", Permission: read, Summary: "Read the value of a key, as it is.", Handle: p.getValue},
		{Method: "PUT", Path: spacePath + "/values/{key_name...}", Permission: write, MaxBody: maxValueBody, Summary: "Put a value, as the body or with metadata as a form.", Handle: p.putValue},
		{Method: "DELETE", Path: spacePath + "/values/{key_name...}", Permission: write, Summary: "Delete a key.", Handle: p.deleteValue},
		{Method: "GET", Path: spacePath + "/metadata/{key_name...}", Permission: read, Summary: "Read the metadata of a key.", Handle: p.getMetadata},
		{Method: "PUT", Path: spacePath + "/bulk", Permission: write, MaxBody: large, Summary: "Put up to 10,000 keys.", Handle: p.bulkPut},
		{Method: "DELETE", Path: spacePath + "/bulk", Permission: write, MaxBody: maxDeleteBody, Summary: "Delete up to 10,000 keys.", Handle: p.bulkDelete},
		{Method: "POST", Path: spacePath + "/bulk/delete", Permission: write, MaxBody: maxDeleteBody, Summary: "Delete up to 10,000 keys.", Handle: p.bulkDelete},
		{Method: "POST", Path: spacePath + "/bulk/get", Permission: read, MaxBody: maxBulkGet, Summary: "Read up to 100 keys.", Handle: p.bulkGet},
	}
}

// namespace is one as the API shows it.
type namespace struct {
	ID          string `json:"id"`
	Title       string `json:"title"`
	URLEncoding bool   `json:"supports_url_encoding"`
}

func shown(n *spec.KVNamespace) namespace { return namespace{n.ID, n.Title, true} }

// space returns the namespace that a call names. what is said of the operation if there is none.
func (p *KV) space(c *product.Call, what string) (*spec.KVNamespace, store.Space, error) {
	n := p.o.State.Snapshot().StorageOf(c.Account.ID).Namespaces[c.Params["namespace_id"]]
	sp, err := store.SpaceOf(c.Account.ID, c.Params["namespace_id"])
	switch {
	case err != nil:
		return nil, sp, invalid(codeNamespaceID, "%s: could not parse UUID from request's namespace_id: 'invalid namespace format: %.40s'", what, c.Params["namespace_id"])
	case n == nil:
		return nil, sp, fault.New(fault.NotFound, "%s: 'namespace not found'", what).WithCode(codeNoNamespace)
	}
	return n, sp, nil
}

func (p *KV) listSpaces(_ context.Context, c *product.Call) (product.Reply, error) {
	all := make([]namespace, 0)
	for _, n := range p.o.State.Snapshot().StorageOf(c.Account.ID).Namespaces {
		all = append(all, shown(n))
	}
	order := func(a, b namespace) int { return cmp.Compare(a.ID, b.ID) }
	switch c.Query.Get("order") {
	case "title":
		order = func(a, b namespace) int { return cmp.Compare(a.Title, b.Title) }
	case "", "id":
	default:
		return product.Reply{}, invalid(codeOrder, "The parameter order is %.40q; it must be id or title.", c.Query.Get("order"))
	}
	slices.SortFunc(all, order)
	switch c.Query.Get("direction") {
	case "desc":
		slices.Reverse(all)
	case "", "asc":
	default:
		return product.Reply{}, invalid(codeDirection, "The parameter direction is %.40q; it must be asc or desc.", c.Query.Get("direction"))
	}
	page, info, err := product.Page(all, c.Query, product.Paging{Max: 1000})
	return product.Reply{Result: page, Info: info}, err
}

// titled is the body of a creation or renaming.
type titled struct {
	Title string `json:"title"`
}

func readTitle(c *product.Call) (string, error) {
	var body titled
	if err := c.Decode(&body); err != nil {
		return "", err
	}
	if strings.TrimSpace(body.Title) == "" {
		return "", invalid(codeNoTitle, "A KV namespace needs a title.").At("title")
	}
	return body.Title, nil
}

// put stores a namespace whose title no other one of the account has.
func (p *KV) put(ctx context.Context, c *product.Call, n *spec.KVNamespace, created bool) error {
	return p.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		count := int64(0)
		for other, err := range tx.List(spec.KindKVNamespace, n.AccountID) {
			if err != nil {
				return err
			}
			if o, ok := other.(*spec.KVNamespace); ok && o.ID != n.ID && o.Title == n.Title {
				return fault.New(fault.Conflict, "a namespace with this account ID and title already exists").WithCode(codeTitleTaken)
			}
			count++
		}
		if created {
			if err := p.quotas.namespaces.Check(tx.Snapshot(), n.AccountID, count, 1); err != nil {
				return recoded(err, codeManySpaces)
			}
		} else if old, err := tx.Get(n.Key()); err != nil || old == nil {
			return cmp.Or(err, error(fault.New(fault.NotFound, "update namespace: 'namespace not found'").WithCode(codeNoNamespace)))
		}
		return tx.Put(n)
	})
}

// recoded gives a fault a code of Cloudflare's.
func recoded(err error, code int) error {
	if all := fault.All(err); len(all) == 1 {
		return all[0].WithCode(code)
	}
	return err
}

func (p *KV) createSpace(ctx context.Context, c *product.Call) (product.Reply, error) {
	title, err := readTitle(c)
	if err != nil {
		return product.Reply{}, err
	}
	n := &spec.KVNamespace{ID: spec.NewID(), AccountID: c.Account.ID, Title: title, CreatedOn: spec.Timestamp(p.o.Clock.Now())}
	if err := p.put(ctx, c, n, true); err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: shown(n)}, nil
}

func (p *KV) showSpace(_ context.Context, c *product.Call) (product.Reply, error) {
	n, sp, err := p.space(c, "get namespace")
	if err != nil {
		return product.Reply{}, err
	}
	used, err := p.store.Usage(sp)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: struct {
		namespace
		Keys  int64 `json:"key_count"`
		Bytes int64 `json:"size_bytes"`
	}{shown(n), used.Keys, used.Bytes}}, nil
}

func (p *KV) renameSpace(ctx context.Context, c *product.Call) (product.Reply, error) {
	old, _, err := p.space(c, "update namespace")
	if err != nil {
		return product.Reply{}, err
	}
	next := *old
	if next.Title, err = readTitle(c); err != nil {
		return product.Reply{}, err
	}
	if err := p.put(ctx, c, &next, false); err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: shown(&next)}, nil
}

// deleteSpace first notes in the store of data what is about to go, so that nothing stays behind if the
// node ends in between.
func (p *KV) deleteSpace(ctx context.Context, c *product.Call) (product.Reply, error) {
	n, sp, err := p.space(c, "remove namespace")
	if err != nil {
		return product.Reply{}, err
	}
	if err := p.store.Condemn(sp); err != nil {
		return product.Reply{}, err
	}
	if err := p.o.State.Update(ctx, c.Actor, func(tx product.Tx) error { return tx.Delete(n.Key()) }); err != nil {
		return product.Reply{}, err
	}
	return product.Reply{}, p.store.Drop(sp)
}
