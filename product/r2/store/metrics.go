package store

import (
	"github.com/prometheus/client_golang/prometheus"

	"selvage/foundation/observe"
)

// metrics are what operators see of the store.
type metrics struct {
	collected prometheus.Counter
	orphans   prometheus.Counter
	scrubbed  prometheus.Counter
	damaged   prometheus.Counter
}

func newMetrics(o observe.Observer) metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := metrics{
		collected: counter("selvage_r2_contents_collected_total", "Contents of objects that were removed because nothing needs them any more."),
		orphans:   counter("selvage_r2_contents_orphaned_total", "Contents that belonged to nothing, left by a crash, and were removed."),
		scrubbed:  counter("selvage_r2_scrubbed_bytes_total", "Bytes of contents that the scrubber read."),
		damaged:   counter("selvage_r2_contents_damaged_total", "Contents that were found damaged, by a reader or the scrubber."),
	}
	o.Register(m.collected, m.orphans, m.scrubbed, m.damaged)
	return m
}
