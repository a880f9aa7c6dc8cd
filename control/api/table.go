package api

import (
	"context"

	"selvage/product"
)

// tableRoutes serve the API's own table: what docs and the command line show comes from there.
func (a *API) tableRoutes() []entry {
	return asEntries([]product.Route{{
		Method: "GET", Path: "/selvage/api", Summary: "List the operations that this node serves.", Handle: a.listOperations,
	}})
}

// operation is a line of the table.
type operation struct {
	Method     string `json:"method"`
	Path       string `json:"path"`
	Permission string `json:"permission,omitempty"` // permission group; empty: any token, or none
	Public     bool   `json:"public,omitempty"`     // no token is asked for
	Operator   bool   `json:"operator,omitempty"`   // only for tokens with all rights over all accounts
	Summary    string `json:"summary"`
}

func (a *API) listOperations(context.Context, *product.Call) (product.Reply, error) {
	list := make([]operation, 0, len(a.table.entries))
	for _, e := range a.table.entries {
		o := operation{Method: e.Method, Path: e.Path, Public: e.public, Operator: e.Operator, Summary: e.Summary}
		if e.Permission.Group != "" {
			o.Permission = groupName(e.Permission)
		}
		list = append(list, o)
	}
	return product.Reply{Result: list}, nil
}
