package analytics

import (
	"context"
	"io"

	"selvage/foundation/budget"
	"selvage/foundation/fault"
	"selvage/product"
)

const sqlPath = "/accounts/{account_id}/analytics_engine/sql"

// Routes serves the SQL API.
func (a *Analytics) Routes() []product.Route {
	read := product.Permission{Group: "Account Analytics"}
	return []product.Route{
		{Method: "GET", Path: sqlPath, Permission: read, Summary: "Query Analytics Engine datasets by the SQL in the parameter query.", Handle: a.get},
		{Method: "POST", Path: sqlPath, Permission: read, Summary: "Query Analytics Engine datasets by the SQL in the body.", MaxBody: maxQuery, Handle: a.post},
	}
}

func (a *Analytics) get(ctx context.Context, c *product.Call) (product.Reply, error) {
	return a.answer(ctx, c, c.Query.Get("query"))
}

func (a *Analytics) post(ctx context.Context, c *product.Call) (product.Reply, error) {
	body, err := io.ReadAll(c.Body)
	if err != nil {
		return product.Reply{}, err
	}
	return a.answer(ctx, c, string(body))
}

// answer runs a query before it begins to write: only a whole answer is one.
func (a *Analytics) answer(ctx context.Context, c *product.Call, query string) (product.Reply, error) {
	if err := budget.Check("The length of the query", int64(len(query)), maxQuery); err != nil {
		return product.Reply{}, err
	}
	if c.Account == nil {
		return product.Reply{}, fault.New(fault.NotFound, "There is no such account.")
	}
	s, err := parse(query)
	if err != nil {
		a.metrics.queries.WithLabelValues("refused").Inc()
		return product.Reply{}, err
	}
	t, err := a.query(ctx, c.Account.ID, s)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Raw: &product.Raw{ContentType: contentTypes[s.format], Write: func(_ context.Context, w io.Writer) error {
		return t.write(w, s.format)
	}}}, nil
}
