package dns

import (
	"strconv"
	"sync/atomic"
	"time"

	mdns "github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"selvage/foundation/observe"
)

// meteredTypes have a label of their own; all others count as "other", for anybody may ask for any.
var meteredTypes = []uint16{mdns.TypeA, mdns.TypeAAAA, mdns.TypeCNAME, mdns.TypeMX, mdns.TypeTXT, mdns.TypeNS, mdns.TypeSOA, mdns.TypeSRV,
	mdns.TypeCAA, mdns.TypePTR, mdns.TypeHTTPS, mdns.TypeSVCB, mdns.TypeTLSA, mdns.TypeDS, mdns.TypeDNSKEY, mdns.TypeNAPTR, mdns.TypeANY}

const (
	meteredRcodes = 24 // up to BADCOOKIE
	sampleEvery   = 64 // queries of which one is timed: reading the clock costs as much as an answer's bookkeeping
)

// meter counts queries without locks or allocations. It is a prometheus.Collector.
type meter struct {
	index   [258]uint8 // type to its place in meteredTypes, plus one
	queries [2][][meteredRcodes]atomic.Uint64
	limited [3]atomic.Uint64 // by limitVerdict

	dropped         atomic.Uint64 // packets that are no queries
	outsideFailures atomic.Uint64
	connections     *connections
	zones           atomic.Int64
	seconds         prometheus.Histogram

	queriesDesc, limitedDesc, droppedDesc, failuresDesc, connectionsDesc, zonesDesc *prometheus.Desc
}

var protocols = [2]string{"udp", "tcp"}

func protoIndex(tcp bool) int {
	if tcp {
		return 1
	}
	return 0
}

func rcodeName(rcode int) string {
	if s, ok := mdns.RcodeToString[rcode]; ok {
		return s
	}
	return strconv.Itoa(rcode)
}

func newMeter(o observe.Observer, c *connections) *meter {
	m := &meter{
		connections: c,
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "selvage_dns_answer_seconds",
			Help:    "Time from a query read to its answer ready, of one query in 64.",
			Buckets: prometheus.ExponentialBuckets(250e-9, 4, 10),
		}),
		queriesDesc:     prometheus.NewDesc("selvage_dns_queries_total", "Queries answered.", []string{"proto", "type", "rcode"}, nil),
		limitedDesc:     prometheus.NewDesc("selvage_dns_limited_total", "Answers over the response-rate limit.", []string{"action"}, nil),
		droppedDesc:     prometheus.NewDesc("selvage_dns_dropped_total", "Packets dropped for not being queries.", nil, nil),
		failuresDesc:    prometheus.NewDesc("selvage_dns_flatten_failures_total", "Resolutions of flattened CNAMEs that failed.", nil, nil),
		connectionsDesc: prometheus.NewDesc("selvage_dns_connections", "TCP connections open.", nil, nil),
		zonesDesc:       prometheus.NewDesc("selvage_dns_zones", "Zones served.", nil, nil),
	}
	for i, typ := range meteredTypes {
		m.index[typ] = uint8(i) + 1
	}
	for proto := range m.queries {
		m.queries[proto] = make([][meteredRcodes]atomic.Uint64, len(meteredTypes)+1)
	}
	o.Register(m, m.seconds)
	return m
}

// count counts one answered query.
func (m *meter) count(q *query, rcode int) {
	typ := 0
	if int(q.qtype) < len(m.index) {
		typ = int(m.index[q.qtype])
	}
	m.queries[protoIndex(q.tcp)][typ][min(rcode, meteredRcodes-1)].Add(1)
}

func (m *meter) observe(began time.Time) { m.seconds.Observe(time.Since(began).Seconds()) }

// Describe implements prometheus.Collector.
func (m *meter) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.queriesDesc, m.limitedDesc, m.droppedDesc, m.failuresDesc, m.connectionsDesc, m.zonesDesc} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (m *meter) Collect(c chan<- prometheus.Metric) {
	for proto := range m.queries {
		for typ := range m.queries[proto] {
			name := "other"
			if typ > 0 {
				name = typeName(meteredTypes[typ-1])
			}
			m.collectRcodes(c, &m.queries[proto][typ], protocols[proto], name)
		}
	}
	counter := func(d *prometheus.Desc, n uint64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	counter(m.limitedDesc, m.limited[limitSlip].Load(), "truncated")
	counter(m.limitedDesc, m.limited[limitDrop].Load(), "dropped")
	counter(m.droppedDesc, m.dropped.Load())
	counter(m.failuresDesc, m.outsideFailures.Load())
	c <- prometheus.MustNewConstMetric(m.connectionsDesc, prometheus.GaugeValue, float64(m.connections.count()))
	c <- prometheus.MustNewConstMetric(m.zonesDesc, prometheus.GaugeValue, float64(m.zones.Load()))
}

func (m *meter) collectRcodes(c chan<- prometheus.Metric, counts *[meteredRcodes]atomic.Uint64, proto, typ string) {
	for rcode := range counts {
		if n := counts[rcode].Load(); n > 0 {
			c <- prometheus.MustNewConstMetric(m.queriesDesc, prometheus.CounterValue, float64(n), proto, typ, rcodeName(rcode))
		}
	}
}
