package product

import (
	"context"
	"encoding/json"
)

// Grapher is a product whose figures can be asked for at POST /graphql.
type Grapher interface {
	Graphs() []Graph
}

// Graph is one dataset of an account's figures, as in viewer { accounts(filter: {accountTag: ...}) {
// d1AnalyticsAdaptiveGroups(limit: 10, filter: {...}) { sum { rowsRead } dimensions { date } } } }.
// control/api reads the query, checks the permission Account Analytics, and leaves out of the rows
// what was not selected.
type Graph struct {
	Name string // d1AnalyticsAdaptiveGroups
	Rows func(ctx context.Context, accountID string, q GraphQuery) ([]map[string]any, error)
}

// GraphQuery is what is asked of a dataset.
type GraphQuery struct {
	Filter  []GraphFilter // all have to hold; those within AND lists are among them
	Limit   int           // of rows; 0: none was given
	OrderBy []string      // such as sum_rowsRead_DESC
	// Selected is what is wanted of each row, by group: "dimensions": ["date"]; what stands in no group,
	// such as count, has an entry without names. Rows are grouped by the dimensions in it.
	Selected map[string][]string
}

// GraphFilter is one condition: Field is the name with its comparison, such as datetimeHour_geq.
type GraphFilter struct {
	Field string
	Value any // nil, bool, json.Number, string, []any
}

// Text returns the value if it is a string.
func (f GraphFilter) Text() (string, bool) {
	s, ok := f.Value.(string)
	return s, ok
}

// Number returns the value if it is a whole number.
func (f GraphFilter) Number() (int64, bool) {
	n, ok := f.Value.(json.Number)
	if !ok {
		return 0, false
	}
	i, err := n.Int64()
	return i, err == nil
}
