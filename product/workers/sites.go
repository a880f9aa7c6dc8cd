package workers

import (
	"context"

	"selvage/foundation/fault"
	"selvage/product"
)

// siteRoutes are what wrangler asks when it deletes a Worker: whether there are KV namespaces that an
// old Workers Site left. KV is not served here yet, so an account has none.
func (w *Workers) siteRoutes() []product.Route {
	const path = "/accounts/{account_id}/storage/kv/namespaces"
	return []product.Route{{
		Method: "POST", Path: path, Permission: product.Permission{Group: "Workers KV Storage", Write: true},
		Summary: "Refuse to create a KV namespace, as KV is not served yet.",
		Handle: func(context.Context, *product.Call) (product.Reply, error) {
			return product.Reply{}, fault.New(fault.Unsupported, "KV is not served by this node yet: remove the KV bindings from the Worker's configuration.")
		},
	}, {
		Method: "GET", Path: path, Permission: product.Permission{Group: "Workers KV Storage"},
		Summary: "List the KV namespaces of an account: none, as KV is not served yet.",
		Handle: func(_ context.Context, c *product.Call) (product.Reply, error) {
			page, info, err := product.Page([]struct{}{}, c.Query, product.Paging{Max: 1000})
			return product.Reply{Result: page, Info: info}, err
		},
	}}
}
