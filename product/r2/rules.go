package r2

import (
	"context"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// ruleRoutes are CORS, lifecycle and lock rules of a bucket, and what this node does not offer of
// Cloudflare's.
func (p *R2) ruleRoutes() []product.Route {
	const cors, lifecycle, lock = bucketPath + "/cors", bucketPath + "/lifecycle", bucketPath + "/lock"
	routes := []product.Route{
		{Method: "GET", Path: cors, Permission: readStorage, Summary: "Show which web pages may use a bucket.", Handle: p.showCORS},
		{Method: "PUT", Path: cors, Permission: writeStorage, Summary: "Say which web pages may use a bucket.", Handle: p.putCORS},
		{Method: "DELETE", Path: cors, Permission: writeStorage, Summary: "Let no web page of another origin use a bucket.", Handle: p.deleteCORS},
		{Method: "GET", Path: lifecycle, Permission: readStorage, Summary: "Show what becomes of a bucket's objects by themselves.", Handle: p.showLifecycle},
		{Method: "PUT", Path: lifecycle, Permission: writeStorage, Summary: "Say what becomes of a bucket's objects by themselves.", Handle: p.putLifecycle},
		{Method: "DELETE", Path: lifecycle, Permission: writeStorage, Summary: "Remove the lifecycle rules of a bucket.", Handle: p.deleteLifecycle},
		{Method: "GET", Path: lock, Permission: readStorage, Summary: "Show what keeps a bucket's objects from being changed.", Handle: p.showLock},
		{Method: "PUT", Path: lock, Permission: writeStorage, Summary: "Say what keeps a bucket's objects from being changed.", Handle: p.putLock},
	}
	for _, r := range []struct{ method, path, what string }{
		{"GET", "/sippy", "incremental migration (Sippy)"}, {"PUT", "/sippy", "incremental migration (Sippy)"}, {"DELETE", "/sippy", "incremental migration (Sippy)"},
		{"GET", "/local-uploads", "local uploads"}, {"PUT", "/local-uploads", "local uploads"},
	} {
		routes = append(routes, product.Route{Method: r.method, Path: bucketPath + r.path, Permission: writeStorage, Summary: "Refuse: " + r.what + " is not offered.", Handle: p.notOffered(r.what)})
	}
	const catalog = "/accounts/{account_id}/r2-catalog"
	for _, path := range []string{catalog, catalog + "/{bucket_name}"} {
		routes = append(routes, product.Route{Method: "GET", Path: path, Permission: readStorage, Summary: "Refuse: data catalogs are not offered.", Handle: p.notOffered("the data catalog")})
	}
	for _, path := range []string{"/{bucket_name}/enable", "/{bucket_name}/disable"} {
		routes = append(routes, product.Route{Method: "POST", Path: catalog + path, Permission: writeStorage, Summary: "Refuse: data catalogs are not offered.", Handle: p.notOffered("the data catalog")})
	}
	return routes
}

func (p *R2) notOffered(what string) func(context.Context, *product.Call) (product.Reply, error) {
	return func(context.Context, *product.Call) (product.Reply, error) {
		return product.Reply{}, fault.New(fault.Unsupported, "R2 of this node does not offer %s.", what).WithCode(10501)
	}
}

// rulesReply is how the API shows rules of any kind.
func rulesReply[T any](rules []T) product.Reply {
	if rules == nil {
		rules = []T{}
	}
	return product.Reply{Result: map[string]any{"rules": rules}}
}

// decodeRules reads what a call sends as its rules.
func decodeRules[T any](c *product.Call) ([]T, error) {
	var in struct {
		Rules []T `json:"rules"`
	}
	if err := c.Decode(&in); err != nil {
		return nil, err
	}
	return in.Rules, nil
}

func (p *R2) showCORS(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := p.bucketOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	if len(b.CORS) == 0 {
		return product.Reply{}, fault.New(fault.NotFound, "The CORS configuration does not exist.").WithCode(10059)
	}
	return rulesReply(b.CORS), nil
}

func (p *R2) putCORS(ctx context.Context, c *product.Call) (product.Reply, error) {
	rules, err := decodeRules[spec.CORSRule](c)
	if err != nil {
		return product.Reply{}, err
	}
	_, err = p.alter(ctx, c, func(_ product.Tx, b *spec.Bucket) error {
		b.CORS = rules
		return nil
	})
	return product.Reply{Result: struct{}{}}, err
}

func (p *R2) deleteCORS(ctx context.Context, c *product.Call) (product.Reply, error) {
	_, err := p.alter(ctx, c, func(_ product.Tx, b *spec.Bucket) error {
		b.CORS = nil
		return nil
	})
	return product.Reply{Result: struct{}{}}, err
}

func (p *R2) showLifecycle(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := p.bucketOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	return rulesReply(b.Lifecycle), nil
}

func (p *R2) putLifecycle(ctx context.Context, c *product.Call) (product.Reply, error) {
	rules, err := decodeRules[spec.LifecycleRule](c)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: struct{}{}}, p.setLifecycle(ctx, c, rules)
}

func (p *R2) deleteLifecycle(ctx context.Context, c *product.Call) (product.Reply, error) {
	return product.Reply{Result: struct{}{}}, p.setLifecycle(ctx, c, nil)
}

func (p *R2) setLifecycle(ctx context.Context, c *product.Call, rules []spec.LifecycleRule) error {
	_, err := p.alter(ctx, c, func(_ product.Tx, b *spec.Bucket) error {
		b.Lifecycle = rules
		return nil
	})
	if err == nil {
		p.hurry()
	}
	return err
}

func (p *R2) showLock(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := p.bucketOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	return rulesReply(b.Lock), nil
}

func (p *R2) putLock(ctx context.Context, c *product.Call) (product.Reply, error) {
	rules, err := decodeRules[spec.LockRule](c)
	if err != nil {
		return product.Reply{}, err
	}
	_, err = p.alter(ctx, c, func(_ product.Tx, b *spec.Bucket) error {
		b.Lock = rules
		return nil
	})
	return product.Reply{Result: struct{}{}}, err
}
