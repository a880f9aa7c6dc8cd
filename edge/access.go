package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/foundation/budget"
	"selvage/foundation/observe"
)

// statusGone is what the log says of a request whose client left before the response began.
const statusGone = 499

// serverMetrics are the server's counters. Children are looked up once: a request pays for adding.
type serverMetrics struct {
	requests map[string]*[6]prometheus.Counter // by cache status, then by status class
	seconds  prometheus.Histogram
	in, out  prometheus.Counter
	active   prometheus.Gauge
	refused  prometheus.Counter
	broken   *prometheus.CounterVec
	aborted  prometheus.Counter
}

var (
	cacheStatuses = []string{"", "HIT", "MISS", "EXPIRED", "STALE", "BYPASS", "REVALIDATED", "UPDATING", "DYNAMIC", "other"}
	classes       = [6]string{"other", "1xx", "2xx", "3xx", "4xx", "5xx"}
)

func newServerMetrics(o observe.Observer) *serverMetrics {
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_edge_requests_total", Help: "Requests answered, by class of status and by cache status."}, []string{"class", "cache"})
	m := &serverMetrics{
		requests: map[string]*[6]prometheus.Counter{},
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "selvage_edge_request_seconds", Help: "Time from a request's head to the end of its response.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 100}}),
		in:      prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_edge_request_bytes_total", Help: "Bytes of request bodies received."}),
		out:     prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_edge_response_bytes_total", Help: "Bytes of response bodies sent."}),
		active:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "selvage_edge_requests_active", Help: "Requests under way."}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_edge_connections_refused_total", Help: "Client connections closed because there were too many."}),
		broken:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_edge_phase_broken_total", Help: "Requests on which a phase failed by itself."}, []string{"phase"}),
		aborted: prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_edge_aborted_total", Help: "Responses that were cut before their end."}),
	}
	for _, cache := range cacheStatuses {
		var children [6]prometheus.Counter
		for i, class := range classes {
			children[i] = requests.WithLabelValues(class, cache)
		}
		m.requests[cache] = &children
	}
	o.Register(requests, m.seconds, m.in, m.out, m.active, m.refused, m.broken, m.aborted)
	return m
}

func (m *serverMetrics) watchConnections(o observe.Observer, slots *budget.Slots) {
	o.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "selvage_edge_connections", Help: "Client connections that are open."},
		func() float64 { return float64(slots.Used()) }))
}

// observeRequest counts a finished request and writes its event. abort is why its response was cut.
func (s *Server) observeRequest(cv *conversation, abort error) {
	ex, m := &cv.ex, s.metrics
	took := time.Since(ex.Start)
	children := m.requests[ex.Note.CacheStatus]
	if children == nil {
		children = m.requests["other"]
	}
	class := ex.Response.Status / 100
	if class < 1 || class > 5 {
		class = 0
	}
	children[class].Inc()
	m.seconds.Observe(took.Seconds())
	m.out.Add(float64(cv.sent))
	received := int64(0)
	if cv.body != nil {
		received = cv.body.n.Load()
		m.in.Add(float64(received))
	}
	for _, phase := range ex.Note.Broken {
		m.broken.WithLabelValues(phase).Inc()
	}
	if abort != nil {
		m.aborted.Inc()
	}
	if s.observe.Events.Watched("request") {
		s.observe.Events.Publish(accessEvent(cv, took, received, abort))
	}
}

// accessEvent says all there is to say about a request, once.
func accessEvent(cv *conversation, took time.Duration, received int64, abort error) observe.Event {
	ex := &cv.ex
	ev := observe.Event{Kind: "request", Attrs: make([]slog.Attr, 0, 28)}
	add := func(a slog.Attr) { ev.Attrs = append(ev.Attrs, a) }
	add(slog.String("ray", ex.ID))
	add(slog.String("client", ex.Client.Addr().String()))
	add(slog.String("method", ex.Request.Method))
	add(slog.String("scheme", ex.Request.Scheme))
	add(slog.String("host", ex.Request.Host))
	add(slog.String("uri", ex.Request.URI()))
	add(slog.String("proto", ex.Request.Proto))
	add(slog.Int("status", ex.Response.Status))
	add(slog.Int64("bytes_in", received))
	add(slog.Int64("bytes_out", cv.sent))
	add(slog.Duration("duration", took))
	add(slog.String("user_agent", ex.Request.Header.Get("User-Agent")))
	if ref := ex.Request.Header.Get("Referer"); ref != "" {
		add(slog.String("referer", ref))
	}
	if ex.TLS != nil {
		add(slog.String("tls", tls.VersionName(ex.TLS.Version)))
		add(slog.String("sni", ex.TLS.ServerName))
	}
	if ex.Note.CacheStatus != "" {
		add(slog.String("cache", ex.Note.CacheStatus))
	}
	if ex.Note.OriginAddr != "" {
		add(slog.String("origin", ex.Note.OriginAddr))
		add(slog.Int("origin_status", ex.Note.OriginStatus))
		add(slog.Duration("origin_duration", ex.Note.OriginDuration))
		add(slog.Bool("origin_reused", ex.Note.OriginReused))
	}
	if ex.Note.Reason != "" {
		add(slog.String("reason", ex.Note.Reason))
	}
	if len(ex.Note.Broken) > 0 {
		add(slog.Any("broken", ex.Note.Broken))
	}
	if abort != nil {
		add(slog.String("aborted", abortReason(abort)))
	}
	if ex.Zone != nil {
		ev.Zone, ev.Account = ex.Zone.Zone.Name, ex.Zone.Zone.AccountID
	}
	return ev
}

func abortReason(err error) string {
	var broke *originBroke
	switch {
	case errors.As(err, &broke):
		return "origin: " + broke.cause.Error()
	case errors.Is(err, context.Canceled):
		return "client gone"
	}
	return "client: " + err.Error()
}
