package api

import (
	"context"
	"maps"
	"slices"
	"strings"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

func (a *API) usageRoutes() []entry {
	read := product.Permission{Group: "Account Settings"}
	return asEntries([]product.Route{
		{Method: "GET", Path: "/accounts/{account_id}/selvage/usage", Permission: read, Summary: "Show how much an account uses of what is counted, and its limits.", Handle: a.showUsage},
		{Method: "PATCH", Path: "/accounts/{account_id}/selvage/quotas", Operator: true, Summary: "Set limits of an account, as the operator of the node.", Handle: a.setQuotas},
	})
}

// usage is one thing that is counted, as the API shows it.
type usage struct {
	Name    string `json:"name"`
	Summary string `json:"summary"`
	Used    int64  `json:"used"`
	Limit   int64  `json:"limit"`   // 0: none
	Default int64  `json:"default"` // the limit unless the operator set another
}

func (a *API) showUsage(ctx context.Context, c *product.Call) (product.Reply, error) {
	s := a.o.State.Snapshot()
	all := []usage{}
	for _, q := range a.o.Quotas {
		used, err := q.Used(ctx, c.Account.ID)
		if err != nil {
			return product.Reply{}, err
		}
		all = append(all, usage{q.Name, q.Summary, used, q.Limit(s, c.Account.ID), q.Default})
	}
	slices.SortFunc(all, func(x, y usage) int { return strings.Compare(x.Name, y.Name) })
	return product.Reply{Result: all}, nil
}

// setQuotas changes the limits that are named; null goes back to the default. An account cannot raise
// its own limits.
func (a *API) setQuotas(ctx context.Context, c *product.Call) (product.Reply, error) {
	limits := map[string]*int64{}
	if err := c.Decode(&limits); err != nil {
		return product.Reply{}, err
	}
	for name := range limits {
		if !slices.ContainsFunc(a.o.Quotas, func(q product.Quota) bool { return q.Name == name }) {
			return product.Reply{}, fault.New(fault.Invalid, "There is no quota %.60q; GET /accounts/{account_id}/selvage/usage lists them.", name).At(name)
		}
	}
	err := a.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		next := &spec.Quotas{AccountID: c.Account.ID, Limits: map[string]int64{}}
		old, err := tx.Get(next.Key())
		if err != nil {
			return err
		}
		if q, ok := old.(*spec.Quotas); ok {
			maps.Copy(next.Limits, q.Limits)
		}
		for name, limit := range limits {
			if delete(next.Limits, name); limit != nil {
				next.Limits[name] = *limit
			}
		}
		return tx.Put(next)
	})
	if err != nil {
		return product.Reply{}, err
	}
	return a.showUsage(ctx, c)
}
