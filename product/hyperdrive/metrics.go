package hyperdrive

import (
	"github.com/prometheus/client_golang/prometheus"

	"selvage/product/hyperdrive/postgres"
)

// totals is what pools have come to together.
type totals struct{ postgres.Stats }

// add adds what only grows; what there is now of a pool that was closed is nothing.
func (t *totals) add(s postgres.Stats) {
	t.Waits += s.Waits
	t.Timeouts += s.Timeouts
	t.Waited += s.Waited
	t.Dialled += s.Dialled
	t.DialFailed += s.DialFailed
	t.Transactions += s.Transactions
	t.Cancels += s.Cancels
	t.Cache.Hits += s.Cache.Hits
	t.Cache.Stale += s.Cache.Stale
	t.Cache.Misses += s.Cache.Misses
	t.Cache.Uncacheable += s.Cache.Uncacheable
}

func (p *Hyperdrive) totals() totals {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.gone
	for _, u := range p.pools {
		s := u.stats()
		t.add(s)
		t.Clients += s.Clients
		t.Connections += s.Connections
		t.Waiting += s.Waiting
	}
	return t
}

type metrics struct {
	refused *prometheus.CounterVec
}

// newMetrics registers what is read from the pools when it is asked for.
func newMetrics(p *Hyperdrive) *metrics {
	m := &metrics{refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_hyperdrive_refused_total", Help: "Clients that were refused, by reason: password, crowded, protocol."}, []string{"reason"})}
	gauge := func(name, help string, f func(t totals) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "selvage_hyperdrive_" + name, Help: help}, func() float64 { return f(p.totals()) })
	}
	counter := func(name, help string, f func(t totals) float64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "selvage_hyperdrive_" + name, Help: help}, func() float64 { return f(p.totals()) })
	}
	p.o.Observe.Register(m.refused,
		gauge("clients", "Clients that are connected.", func(t totals) float64 { return float64(t.Clients) }),
		gauge("server_connections", "Connections to databases that are open.", func(t totals) float64 { return float64(t.Connections) }),
		gauge("waiting", "Clients that wait for a connection to their database.", func(t totals) float64 { return float64(t.Waiting) }),
		gauge("cache_bytes", "Memory of answers that are remembered.", func(totals) float64 { return float64(p.memo.Bytes()) }),
		counter("waits_total", "Times that a client had to wait for a connection.", func(t totals) float64 { return float64(t.Waits) }),
		counter("wait_seconds_total", "Time that clients waited for a connection.", func(t totals) float64 { return t.Waited }),
		counter("wait_timeouts_total", "Waits that ended without a connection.", func(t totals) float64 { return float64(t.Timeouts) }),
		counter("server_connections_opened_total", "Connections made to databases.", func(t totals) float64 { return float64(t.Dialled) }),
		counter("server_connections_failed_total", "Connections to databases that could not be made.", func(t totals) float64 { return float64(t.DialFailed) }),
		counter("transactions_total", "Transactions that were carried to a database.", func(t totals) float64 { return float64(t.Transactions) }),
		counter("cancels_total", "Cancel requests that were passed on.", func(t totals) float64 { return float64(t.Cancels) }),
		counter("cache_hits_total", "Queries answered from memory, stale answers included.", func(t totals) float64 { return float64(t.Cache.Hits) }),
		counter("cache_stale_total", "Queries answered from memory with a stale answer.", func(t totals) float64 { return float64(t.Cache.Stale) }),
		counter("cache_misses_total", "Queries whose answer could have been in memory.", func(t totals) float64 { return float64(t.Cache.Misses) }),
		counter("cache_uncacheable_total", "Queries whose answer is not remembered.", func(t totals) float64 { return float64(t.Cache.Uncacheable) }),
	)
	return m
}
