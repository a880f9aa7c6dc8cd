package cache

import (
	"github.com/prometheus/client_golang/prometheus"

	"selvage/foundation/observe"
	"selvage/product/cache/storage"
)

// metrics are what the cache shows of itself.
type metrics struct {
	requests  *prometheus.CounterVec
	byStatus  map[string]prometheus.Counter
	collapsed prometheus.Counter
	aborted   prometheus.Counter
	waits     *prometheus.CounterVec
	purges    *prometheus.CounterVec
	purgeTime prometheus.Histogram
}

func newMetrics(o observe.Observer, s *storage.Store) *metrics {
	m := &metrics{
		requests:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_cache_requests_total", Help: "Requests by what the cache did, as in CF-Cache-Status."}, []string{"status"}),
		collapsed: prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_cache_collapsed_total", Help: "Requests answered by an origin fetch that another request had begun."}),
		aborted:   prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_cache_fills_aborted_total", Help: "Responses that broke off, or that nobody waited for any more, while they were taken in."}),
		waits:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_cache_waits_ended_total", Help: "Waits for another request's response that ended without one."}, []string{"reason"}),
		purges:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_cache_purges_total", Help: "Things purged, by how they were named."}, []string{"kind"}),
		purgeTime: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "selvage_cache_purge_seconds", Help: "Time from a purge's arrival until it is in effect and durable.",
			Buckets: []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1}}),
	}
	m.byStatus = map[string]prometheus.Counter{}
	for _, status := range []string{statusHit, statusMiss, statusExpired, statusRevalidated, statusStale, statusUpdating, statusBypass, statusDynamic} {
		m.byStatus[status] = m.requests.WithLabelValues(status)
	}
	o.Register(m.requests, m.collapsed, m.aborted, m.waits, m.purges, m.purgeTime, &stored{s})
	return m
}

func (m *metrics) count(status string) { m.byStatus[status].Inc() }

// stored collects what the store holds when it is asked.
type stored struct{ s *storage.Store }

var (
	descBytes   = prometheus.NewDesc("selvage_cache_stored_bytes", "Bytes held, overhead counted.", []string{"tier"}, nil)
	descObjects = prometheus.NewDesc("selvage_cache_objects", "Responses held.", []string{"tier"}, nil)
	descEvicted = prometheus.NewDesc("selvage_cache_evictions_total", "Responses that had to go for others.", []string{"tier"}, nil)
	descDisk    = prometheus.NewDesc("selvage_cache_disk_errors_total", "Trouble with the disk tier: writes that failed, files that were damaged, responses skipped because it was too slow.", []string{"what"}, nil)
	descPurges  = prometheus.NewDesc("selvage_cache_purge_records", "Purges remembered until what they cover has been swept up.", nil, nil)
)

// Describe names the metrics.
func (c *stored) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descBytes, descObjects, descEvicted, descDisk, descPurges} {
		ch <- d
	}
}

// Collect reads them.
func (c *stored) Collect(ch chan<- prometheus.Metric) {
	st := c.s.Stats()
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(descBytes, st.MemoryBytes, "memory")
	gauge(descBytes, st.DiskBytes, "disk")
	gauge(descObjects, st.MemoryObjects, "memory")
	gauge(descObjects, st.DiskObjects, "disk")
	count(descEvicted, st.MemoryEvicted, "memory")
	count(descEvicted, st.DiskEvicted, "disk")
	count(descDisk, st.DiskFailed, "write")
	count(descDisk, st.DiskDamaged, "damaged")
	count(descDisk, st.DiskSkipped, "skipped")
	gauge(descPurges, int64(st.Purges))
}
