package d1

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/engine/sqlite"
	"selvage/foundation/fault"
	"selvage/foundation/observe"
)

// metrics are D1's. Children are looked up once: a query pays for adding.
type metrics struct {
	outcomes map[string]prometheus.Counter
	imports  *prometheus.CounterVec
	seconds  prometheus.Histogram
	read     prometheus.Counter
	written  prometheus.Counter
	limit    time.Duration // of a query
}

var outcomes = []string{"ok", "refused", "timeout", "unavailable", "failed", "cancelled"}

func newMetrics(o observe.Observer, limit time.Duration) *metrics {
	queries := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_d1_queries_total", Help: "Queries and batches, by outcome: ok, refused (wrong or over a limit), timeout, unavailable (busy, full, handing over), failed (damage), cancelled (the caller left)."}, []string{"outcome"})
	m := &metrics{
		outcomes: map[string]prometheus.Counter{}, limit: limit,
		imports: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_d1_imports_total", Help: "Files of SQL that were run, by outcome, as of queries."}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "selvage_d1_query_seconds", Help: "Time of queries and batches in the engine, with waiting for their turn and the disk.",
			Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}),
		read:    prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_d1_rows_read_total", Help: "Rows and index entries that queries visited."}),
		written: prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_d1_rows_written_total", Help: "Rows and index entries that queries wrote."}),
	}
	for _, name := range outcomes {
		m.outcomes[name] = queries.WithLabelValues(name)
	}
	o.Register(queries, m.imports, m.seconds, m.read, m.written)
	return m
}

func (m *metrics) ran(done sqlite.Answer, err error, took time.Duration) {
	how := outcome(err)
	if how == "refused" && took >= m.limit {
		how = "timeout"
	}
	m.outcomes[how].Inc()
	m.seconds.Observe(took.Seconds())
	for i := range done.Metas {
		m.read.Add(float64(done.Metas[i].RowsRead))
		m.written.Add(float64(done.Metas[i].RowsWritten))
	}
}

func (m *metrics) imported(err error) { m.imports.WithLabelValues(outcome(err)).Inc() }

func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	}
	switch fault.KindOf(err) {
	case fault.Unavailable:
		return "unavailable"
	case fault.Internal:
		return "failed"
	}
	return "refused"
}
