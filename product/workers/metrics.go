package workers

import (
	"github.com/prometheus/client_golang/prometheus"

	"selvage/foundation/observe"
)

type metrics struct {
	requests   prometheus.Counter
	exceptions prometheus.Counter
	stopped    *prometheus.CounterVec
	cron       *prometheus.CounterVec
}

func newMetrics(o observe.Observer) *metrics {
	m := &metrics{
		requests:   prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_workers_requests_total", Help: "Requests that went to a Worker or its assets."}),
		exceptions: prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_workers_exceptions_total", Help: "Requests whose Worker threw."}),
		stopped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "selvage_workers_stopped_total", Help: "Requests that ended because their Worker was stopped, by reason.",
		}, []string{"reason"}),
		cron: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_workers_cron_total", Help: "Cron triggers that fired, by outcome."}, []string{"outcome"}),
	}
	o.Register(m.requests, m.exceptions, m.stopped, m.cron)
	return m
}
