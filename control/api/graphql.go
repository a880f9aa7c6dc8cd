package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"

	"selvage/foundation/fault"
	"selvage/foundation/graphql"
	"selvage/product"
)

// maxGraphRows bounds what a query without a smaller limit gets, as at Cloudflare.
const maxGraphRows = 10_000

// graphRoutes serve the figures of products in GraphQL, in the form that Cloudflare's analytics have.
func (a *API) graphRoutes() []entry {
	return asEntries([]product.Route{{
		Method: "POST", Path: "/graphql", MaxBody: 2 * graphql.MaxQuery,
		Summary: "Query figures of an account in GraphQL.", Handle: a.graph,
	}})
}

// graphAnswer is what GraphQL's clients expect in place of the envelope.
type graphAnswer struct {
	Data   any          `json:"data"`
	Errors []graphError `json:"errors"`
}

type graphError struct {
	Message string   `json:"message"`
	Path    []string `json:"path"`
}

func (a *API) graph(ctx context.Context, c *product.Call) (product.Reply, error) {
	var asked struct {
		Query     string                     `json:"query"`
		Operation string                     `json:"operationName"`
		Variables map[string]json.RawMessage `json:"variables"`
	}
	if err := c.Decode(&asked, "extensions"); err != nil {
		return product.Reply{}, err
	}
	answer := graphAnswer{}
	root, err := graphql.Parse(asked.Query, asked.Operation, asked.Variables)
	if err == nil {
		answer.Data, err = a.viewer(ctx, c, root)
	}
	if err != nil {
		var wrong *graphql.Error
		if !errors.As(err, &wrong) && fault.KindOf(err) == fault.Internal {
			return product.Reply{}, err
		}
		answer = graphAnswer{Errors: []graphError{{Message: graphMessage(err)}}}
	}
	return product.Reply{Raw: &product.Raw{ContentType: "application/json", Write: func(_ context.Context, w io.Writer) error {
		return json.NewEncoder(w).Encode(answer)
	}}}, nil
}

func graphMessage(err error) string {
	if all := fault.All(err); len(all) > 0 {
		return all[0].Message
	}
	return err.Error()
}

// viewer answers the whole selection.
func (a *API) viewer(ctx context.Context, c *product.Call, root *graphql.Field) (any, error) {
	return eachField(root, map[string]func(*graphql.Field) (any, error){
		"viewer": func(f *graphql.Field) (any, error) {
			return eachField(f, map[string]func(*graphql.Field) (any, error){
				"accounts": func(f *graphql.Field) (any, error) { return a.graphAccount(ctx, c, f) },
			})
		},
	})
}

// eachField answers what is selected of f by the functions for each name.
func eachField(f *graphql.Field, by map[string]func(*graphql.Field) (any, error)) (any, error) {
	out := map[string]any{}
	if len(f.Fields) == 0 {
		return nil, fault.New(fault.Invalid, "Say what is wanted of %q: %s.", f.Name, strings.Join(slices.Sorted(maps.Keys(by)), ", "))
	}
	for _, child := range f.Fields {
		answer := by[child.Name]
		if answer == nil {
			return nil, fault.New(fault.Invalid, "There is no field %.80q here; known are %s.", child.Name, strings.Join(slices.Sorted(maps.Keys(by)), ", "))
		}
		var err error
		if out[child.Alias], err = answer(child); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// graphAccount answers accounts(filter: {accountTag: ID}): a list of one.
func (a *API) graphAccount(ctx context.Context, c *product.Call, f *graphql.Field) (any, error) {
	filter, _ := f.Args["filter"].(map[string]any)
	id, _ := filter["accountTag"].(string)
	if id == "" {
		return nil, fault.New(fault.Invalid, "Name the account: accounts(filter: {accountTag: ID}).")
	}
	if !c.Allowed(product.Permission{Group: "Account Analytics"}, id, "") {
		return nil, fault.New(fault.Denied, "The token may not read the analytics of the account %.40s: it lacks the permission Account Analytics Read there.", id)
	}
	by := map[string]func(*graphql.Field) (any, error){}
	for _, g := range a.o.Graphs {
		by[g.Name] = func(f *graphql.Field) (any, error) { return graphRows(ctx, g, id, f) }
	}
	one, err := eachField(f, by)
	return []any{one}, err
}

// graphRows asks a dataset and keeps of its rows what was selected.
func graphRows(ctx context.Context, g product.Graph, accountID string, f *graphql.Field) (any, error) {
	q := product.GraphQuery{Selected: map[string][]string{}}
	var err error
	if q.Filter, err = graphFilters(f.Args["filter"], nil); err != nil {
		return nil, err
	}
	if limit, ok := f.Args["limit"].(json.Number); ok {
		n, err := limit.Int64()
		if err != nil || n < 1 || n > maxGraphRows {
			return nil, fault.New(fault.Invalid, "The limit of %s is %s; it is a whole number from 1 to %d.", g.Name, limit, maxGraphRows)
		}
		q.Limit = int(n)
	}
	if list, ok := f.Args["orderBy"].([]any); ok {
		for _, by := range list {
			if name, ok := by.(graphql.Enum); ok {
				q.OrderBy = append(q.OrderBy, string(name))
			}
		}
	}
	for _, group := range f.Fields {
		q.Selected[group.Name] = append(q.Selected[group.Name], namesOf(group.Fields)...)
	}
	rows, err := g.Rows(ctx, accountID, q)
	if err != nil {
		return nil, err
	}
	out := make([]any, 0, len(rows))
	for _, row := range rows[:min(len(rows), maxGraphRows)] {
		out = append(out, selected(f, row))
	}
	return out, nil
}

func namesOf(fields []*graphql.Field) []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	return names
}

// selected returns what f selects of a row; what the row lacks is null.
func selected(f *graphql.Field, row map[string]any) map[string]any {
	out := make(map[string]any, len(f.Fields))
	for _, child := range f.Fields {
		v := row[child.Name]
		if inner, ok := v.(map[string]any); ok && len(child.Fields) > 0 {
			v = selected(child, inner)
		}
		out[child.Alias] = v
	}
	return out
}

// graphFilters gathers conditions, those of AND lists among them.
func graphFilters(v any, all []product.GraphFilter) ([]product.GraphFilter, error) {
	if v == nil {
		return all, nil
	}
	filter, ok := v.(map[string]any)
	if !ok {
		return nil, fault.New(fault.Invalid, "A filter is an object such as {datetime_geq: \"2026-01-01T00:00:00Z\"}.")
	}
	for _, name := range slices.Sorted(maps.Keys(filter)) {
		value := filter[name]
		if name == "OR" {
			return nil, fault.New(fault.Invalid, "OR is not supported in filters; ask twice.")
		}
		list, isList := value.([]any)
		if name != "AND" || !isList {
			all = append(all, product.GraphFilter{Field: name, Value: value})
			continue
		}
		for _, part := range list {
			var err error
			if all, err = graphFilters(part, all); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}
