package isolate

import (
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Usage returns what each unit takes at the moment, by key.
func (h *Host) Usage() []Usage {
	var all []Usage
	for _, u := range h.all() {
		all = append(all, u.usage())
	}
	slices.SortFunc(all, func(a, b Usage) int { return strings.Compare(a.Unit, b.Unit) })
	return all
}

func (u *unit) usage() Usage {
	u.mu.Lock()
	tenant := u.content.Tenant
	u.mu.Unlock()
	out := Usage{Unit: u.key, Tenant: tenant, Requests: u.requests.Load(), Kills: u.kills.Load()}
	for _, c := range u.living() {
		out.Children++
		out.Running += max(0, c.running())
		if cpu, err := c.cpu(); err == nil {
			out.CPU += cpu
		}
		if rss, err := c.rss(); err == nil {
			out.RSS += rss
		}
		if out.Since.IsZero() || c.began.Before(out.Since) {
			out.Since = c.began
		}
	}
	return out
}

// metrics are the host's counters, and what Usage adds up to when they are collected.
type metrics struct {
	h        *Host
	kills    *prometheus.CounterVec
	starts   *prometheus.CounterVec
	spares   prometheus.Counter
	children *prometheus.Desc
	running  *prometheus.Desc
	memory   *prometheus.Desc
}

func newMetrics(h *Host) *metrics {
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: "selvage_isolate_" + name, Help: help}
	}
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("selvage_isolate_"+name, help, nil, nil)
	}
	return &metrics{
		h:        h,
		kills:    prometheus.NewCounterVec(counter("kills_total", "Children that were killed, by reason."), []string{"reason"}),
		starts:   prometheus.NewCounterVec(counter("starts_total", "Starts of children, by result."), []string{"result"}),
		spares:   prometheus.NewCounter(counter("spares_used_total", "Starts that found a process waiting.")),
		children: desc("children", "Children that live."),
		running:  desc("running", "Requests and events under way in children."),
		memory:   desc("resident_bytes", "Resident memory of all children."),
	}
}

// Describe is for Prometheus.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	m.kills.Describe(ch)
	m.starts.Describe(ch)
	m.spares.Describe(ch)
	ch <- m.children
	ch <- m.running
	ch <- m.memory
}

// Collect is for Prometheus.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	m.kills.Collect(ch)
	m.starts.Collect(ch)
	m.spares.Collect(ch)
	var children, running, memory float64
	for _, u := range m.h.Usage() {
		children += float64(u.Children)
		running += float64(u.Running)
		memory += float64(u.RSS)
	}
	for desc, v := range map[*prometheus.Desc]float64{m.children: children, m.running: running, m.memory: memory} {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v)
	}
}
