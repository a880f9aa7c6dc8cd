package workers

import (
	"context"

	"selvage/product"
)

// siteRoutes are what wrangler asks when it deletes a Worker: whether there are KV namespaces that an
// old Workers Site left. KV is not served here yet, so an account has none.
func (w *Workers) siteRoutes() []product.Route {
	return []product.Route{{
		Method: "GET", Path: "/accounts/{account_id}/storage/kv/namespaces", Permission: product.Permission{Group: "Workers KV Storage"},
		Summary: "List the KV namespaces of an account: none, as KV is not served yet.",
		Handle: func(_ context.Context, c *product.Call) (product.Reply, error) {
			page, info, err := product.Page([]struct{}{}, c.Query, product.Paging{Max: 1000})
			return product.Reply{Result: page, Info: info}, err
		},
	}}
}
