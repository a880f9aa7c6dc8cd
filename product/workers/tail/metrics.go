package tail

import (
	"github.com/prometheus/client_golang/prometheus"

	"selvage/foundation/observe"
)

// metrics are what the Hub shows of itself.
type metrics struct {
	items, delivered prometheus.Counter
	sessions         prometheus.Gauge
	lost             *prometheus.CounterVec

	lostBehind, lostBroken, lostRuntime, lostConsumer, lostSession prometheus.Counter // of lost
}

func newMetrics(o observe.Observer) *metrics {
	m := &metrics{
		items:     prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_workers_traces_total", Help: "Traces of Workers that somebody wanted."}),
		delivered: prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_workers_traces_consumed_total", Help: "Traces that a tail consumer has taken."}),
		sessions:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "selvage_workers_tail_sessions", Help: "Tail sessions open."}),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_workers_traces_lost_total",
			Help: "Traces dropped, by where: runtime (before they came here), behind (batches that came too fast), broken (not readable), session (a watcher was too slow), consumer."}, []string{"where"}),
	}
	m.lostBehind, m.lostBroken = m.lost.WithLabelValues("behind"), m.lost.WithLabelValues("broken")
	m.lostRuntime, m.lostConsumer, m.lostSession = m.lost.WithLabelValues("runtime"), m.lost.WithLabelValues("consumer"), m.lost.WithLabelValues("session")
	o.Register(m.items, m.delivered, m.sessions, m.lost)
	return m
}
