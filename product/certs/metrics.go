package certs

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/spec"
)

// metrics is how certificates are seen. Handshakes count into counters that are looked up once.
type metrics struct {
	chosen     [sources]prometheus.Counter
	refused    prometheus.Counter
	unreadable prometheus.Counter
	issued     prometheus.Counter
	orders     *prometheus.CounterVec
}

func newMetrics(c *Certs) *metrics {
	chosen := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "selvage_certs_handshakes_total", Help: "Certificates given to TLS handshakes by source: custom, acme, local; none for names of no zone.",
	}, []string{"source"})
	m := &metrics{
		refused:    chosen.WithLabelValues("none"),
		unreadable: prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_certs_unreadable_total", Help: "Stored certificates passed over in a handshake because they could not be read."}),
		issued:     prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_certs_local_issued_total", Help: "Certificates issued by the local CA."}),
		orders:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_certs_orders_total", Help: "ACME orders by outcome: issued, renewed, failed, unavailable."}, []string{"outcome"}),
	}
	for i, name := range sourceNames {
		m.chosen[i] = chosen.WithLabelValues(name)
	}
	c.observe.Register(chosen, m.unreadable, m.issued, m.orders, &inventory{c})
	c.observe.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "selvage_certs_key_pairs", Help: "Key pairs held ready in memory.",
	}, func() float64 { return float64(c.ring.held()) }))
	return m
}

var (
	storedDesc = prometheus.NewDesc("selvage_certs_stored", "Stored certificates by source.", []string{"source"}, nil)
	expiryDesc = prometheus.NewDesc("selvage_certs_next_expiry_timestamp_seconds", "When the next certificate expires, by source; local_ca and origin_ca are the node's own roots.", []string{"source"}, nil)
	failedDesc = prometheus.NewDesc("selvage_certs_packs_failing", "Certificate packs whose last order failed.", nil, nil)
)

// inventory counts what is stored when somebody asks.
type inventory struct{ certs *Certs }

// Describe sends the descriptions.
func (v *inventory) Describe(ch chan<- *prometheus.Desc) {
	ch <- storedDesc
	ch <- expiryDesc
	ch <- failedDesc
}

// Collect walks over the zones in effect.
func (v *inventory) Collect(ch chan<- prometheus.Metric) {
	stored := map[string]int{"custom": 0, "acme": 0}
	next := map[string]time.Time{"local_ca": v.certs.local.cert.NotAfter, "origin_ca": v.certs.origin.cert.NotAfter}
	failing := 0
	for _, z := range v.certs.table.Load().zones.All() {
		for _, cert := range z.config.Certificates {
			stored[cert.Source]++
			if t, ok := next[cert.Source]; !ok || cert.ExpiresOn.Before(t) {
				next[cert.Source] = cert.ExpiresOn
			}
		}
		failing += countFailing(z.config.Packs)
	}
	for source, n := range stored {
		ch <- prometheus.MustNewConstMetric(storedDesc, prometheus.GaugeValue, float64(n), source)
	}
	for source, t := range next {
		ch <- prometheus.MustNewConstMetric(expiryDesc, prometheus.GaugeValue, float64(t.Unix()), source)
	}
	ch <- prometheus.MustNewConstMetric(failedDesc, prometheus.GaugeValue, float64(failing))
}

func countFailing(packs []*spec.CertificatePack) int {
	n := 0
	for _, p := range packs {
		if p.Failures > 0 && !p.Disabled {
			n++
		}
	}
	return n
}
