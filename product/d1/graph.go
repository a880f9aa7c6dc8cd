package d1

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
)

// Graphs returns the datasets that wrangler d1 info and insights, and dashboards, ask for.
func (p *D1) Graphs() []product.Graph {
	return []product.Graph{
		{Name: "d1AnalyticsAdaptiveGroups", Rows: func(_ context.Context, account string, q product.GraphQuery) ([]map[string]any, error) {
			return p.graph(account, q, perDatabase)
		}},
		{Name: "d1QueriesAdaptiveGroups", Rows: func(_ context.Context, account string, q product.GraphQuery) ([]map[string]any, error) {
			return p.graph(account, q, perQuery)
		}},
	}
}

// point is a row before rows with the same dimensions become one.
type point struct {
	dimensions map[string]string
	values     map[string]float64
	count      float64
}

// perDatabase gives the queries and rows of an hour.
func perDatabase(t *tally) []point {
	return []point{{count: float64(t.Reads + t.Writes), dimensions: map[string]string{}, values: map[string]float64{
		"readQueries": float64(t.Reads), "writeQueries": float64(t.Writes), "rowsRead": float64(t.RowsRead), "rowsWritten": float64(t.RowsWritten),
	}}}
}

// perQuery gives the different queries of an hour.
func perQuery(t *tally) []point {
	var all []point
	for sql, q := range t.Queries {
		all = append(all, point{count: float64(q.Count), dimensions: map[string]string{"query": sql}, values: map[string]float64{
			"queryDurationMs": float64(q.Micros) / 1000, "rowsRead": float64(q.RowsRead), "rowsWritten": float64(q.RowsWritten), "rowsReturned": float64(q.Returned),
		}})
	}
	return all
}

// graph answers a query of figures: it gathers the points of the time asked for, adds up those whose
// selected dimensions are the same, and sorts.
func (p *D1) graph(account string, q product.GraphQuery, points func(*tally) []point) ([]map[string]any, error) {
	w, err := p.window(account, q.Filter)
	if err != nil {
		return nil, err
	}
	groups := map[string]*point{}
	for _, id := range w.databases {
		err := p.figures.each(account, id, w.from, w.to, func(hour int64, t *tally) {
			for _, one := range points(t) {
				one.place(id, hour)
				gather(groups, q.Selected["dimensions"], one)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	rows := make([]*point, 0, len(groups))
	for _, k := range slices.Sorted(maps.Keys(groups)) {
		rows = append(rows, groups[k])
	}
	if err := order(rows, q.OrderBy); err != nil {
		return nil, err
	}
	if q.Limit > 0 {
		rows = rows[:min(len(rows), q.Limit)]
	}
	out := make([]map[string]any, len(rows))
	for i, r := range rows {
		out[i] = r.row()
	}
	return out, nil
}

// place adds the dimensions that all points have. Times are hours: figures are kept by the hour.
func (o *point) place(id string, hour int64) {
	at := time.Unix(hour*3600, 0).UTC()
	text := at.Format(time.RFC3339)
	o.dimensions["databaseId"], o.dimensions["date"] = id, at.Format(time.DateOnly)
	for _, name := range []string{"datetime", "datetimeMinute", "datetimeFiveMinutes", "datetimeFifteenMinutes", "datetimeHour"} {
		o.dimensions[name] = text
	}
}

func gather(groups map[string]*point, by []string, one point) {
	key := make([]string, len(by))
	kept := map[string]string{}
	for i, name := range by {
		key[i] = one.dimensions[name]
		kept[name] = one.dimensions[name]
	}
	k := strings.Join(key, "\x00")
	g := groups[k]
	if g == nil {
		g = &point{dimensions: kept, values: map[string]float64{}}
		groups[k] = g
	}
	g.count += one.count
	for name, v := range one.values {
		g.values[name] += v
	}
}

// row is a point as it is answered.
func (o *point) row() map[string]any {
	sum, avg, dimensions := map[string]any{}, map[string]any{}, map[string]any{}
	for name, v := range o.values {
		sum[name], avg[name] = v, v/max(o.count, 1)
	}
	for name, v := range o.dimensions {
		dimensions[name] = v
	}
	return map[string]any{"count": o.count, "sum": sum, "avg": avg, "dimensions": dimensions}
}

// by returns what a name such as sum_rowsRead or count stands for.
func (o *point) by(name string) (float64, string) {
	how, what, _ := strings.Cut(name, "_")
	switch how {
	case "count":
		return o.count, ""
	case "sum":
		return o.values[what], ""
	case "avg":
		return o.values[what] / max(o.count, 1), ""
	}
	return 0, o.dimensions[name]
}

func order(rows []*point, by []string) error {
	for _, name := range by {
		if !strings.HasSuffix(name, "_ASC") && !strings.HasSuffix(name, "_DESC") {
			return fault.New(fault.Invalid, "The order %.60q ends neither in _ASC nor in _DESC.", name)
		}
	}
	slices.SortStableFunc(rows, func(a, b *point) int {
		for _, name := range by {
			field, down := strings.CutSuffix(name, "_DESC")
			field = strings.TrimSuffix(field, "_ASC")
			x, xs := a.by(field)
			y, ys := b.by(field)
			c := cmp.Or(cmp.Compare(x, y), cmp.Compare(xs, ys))
			if down {
				c = -c
			}
			if c != 0 {
				return c
			}
		}
		return 0
	})
	return nil
}

// window is what filters leave: databases and hours.
type window struct {
	databases []string
	from, to  int64
}

func (p *D1) window(account string, filters []product.GraphFilter) (window, error) {
	now := hourOf(p.o.Clock.Now())
	w := window{from: now - int64(keepFigures/time.Hour), to: now}
	own := p.o.State.Snapshot().StorageOf(account).Databases
	w.databases = slices.Sorted(maps.Keys(own))
	for _, f := range filters {
		name, how, _ := strings.Cut(f.Field, "_")
		if name == "databaseId" {
			wanted, err := namesIn(f)
			if err != nil || how != "" && how != "in" {
				return w, fault.New(fault.Invalid, "The filter %.60q is not known: use databaseId with an ID, or databaseId_in with a list.", f.Field)
			}
			w.databases = slices.DeleteFunc(w.databases, func(id string) bool { return !slices.Contains(wanted, id) })
			continue
		}
		if !strings.HasPrefix(name, "date") {
			return w, fault.New(fault.Invalid, "The filter %.60q is not known; known are databaseId, date and datetime with _geq, _gt, _leq and _lt.", f.Field)
		}
		text, _ := f.Text()
		at, err := time.Parse(time.RFC3339Nano, text)
		if day, bad := time.Parse(time.DateOnly, text); err != nil && bad == nil {
			at, err = day, nil
			if how == "leq" || how == "" {
				at = at.Add(24*time.Hour - 1)
			}
		}
		if err != nil {
			return w, fault.New(fault.Invalid, "The filter %s needs a time such as 2026-01-31T12:00:00Z.", f.Field)
		}
		w.narrow(how, at)
	}
	return w, nil
}

func (w *window) narrow(how string, at time.Time) {
	h := hourOf(at)
	switch how {
	case "geq", "gt":
		w.from = max(w.from, h)
	case "leq", "lt":
		w.to = min(w.to, h)
	case "":
		w.from, w.to = max(w.from, h), min(w.to, h)
	}
}

func namesIn(f product.GraphFilter) ([]string, error) {
	if s, ok := f.Text(); ok {
		return []string{s}, nil
	}
	text, err := json.Marshal(f.Value)
	if err != nil {
		return nil, err
	}
	var all []string
	return all, json.Unmarshal(text, &all)
}
