package queues

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/engine/isolate"
	"selvage/foundation/observe"
)

// metrics is what can be counted of queues.
type metrics struct {
	messages *prometheus.CounterVec
	batches  *prometheus.CounterVec
	seconds  prometheus.Histogram
	size     prometheus.Histogram
}

func newMetrics(o observe.Observer) *metrics {
	m := &metrics{
		messages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "selvage_queues_messages_total", Help: "Messages by what happened: sent, pulled, acked, retried, returned, dead, dropped, expired, purged.",
		}, []string{"event"}),
		batches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "selvage_queues_batches_total", Help: "Batches handed to Workers, by outcome.",
		}, []string{"outcome"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "selvage_queues_batch_seconds", Help: "Time that Workers took for a batch.", Buckets: prometheus.ExponentialBuckets(1e-3, 4, 10),
		}),
		size: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "selvage_queues_batch_messages", Help: "Messages in a batch.", Buckets: []float64{1, 2, 5, 10, 20, 50, 100},
		}),
	}
	o.Register(m.messages, m.batches, m.seconds, m.size)
	return m
}

func (m *metrics) count(event string, n int) {
	if n > 0 {
		m.messages.WithLabelValues(event).Add(float64(n))
	}
}

func (m *metrics) batch(out isolate.Outcome, err error, took time.Duration, messages int) {
	outcome := out.Outcome
	var stopped *isolate.Stopped
	switch {
	case errors.As(err, &stopped):
		outcome = string(stopped.Reason)
	case err != nil:
		outcome = "error"
	}
	m.batches.WithLabelValues(outcome).Inc()
	m.seconds.Observe(took.Seconds())
	m.size.Observe(float64(messages))
}
