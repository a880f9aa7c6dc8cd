package s3

import (
	"log/slog"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/foundation/observe"
)

// metrics counts what the front does, by operation: never by anything a client chose.
type metrics struct {
	requests      *prometheus.CounterVec
	seconds       *prometheus.HistogramVec
	refused       prometheus.Counter
	received, out prometheus.Counter
}

func newMetrics(o observe.Observer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "selvage_r2_s3_requests_total", Help: "S3 requests by operation and status.",
		}, []string{"operation", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "selvage_r2_s3_request_seconds", Help: "Time from a request's head to the end of its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5, 30},
		}, []string{"operation"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "selvage_r2_s3_failed_authentications_total", Help: "S3 requests whose signature did not match.",
		}),
		received: prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_r2_s3_received_bytes_total", Help: "Bytes of bodies that S3 clients sent."}),
		out:      prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_r2_s3_sent_bytes_total", Help: "Bytes of bodies that S3 clients were sent."}),
	}
	o.Register(m.requests, m.seconds, m.refused, m.received, m.out)
	return m
}

// note counts a request and publishes its event, at its end.
func (x *request) note() {
	m, took := x.s.metrics, x.s.o.Clock.Now().Sub(x.start)
	name := x.operation()
	m.requests.WithLabelValues(name, strconv.Itoa(x.w.status)).Inc()
	m.seconds.WithLabelValues(name).Observe(took.Seconds())
	m.out.Add(float64(x.w.sent))
	var received int64
	if x.body != nil {
		received = x.body.read
		m.received.Add(float64(received))
	}
	if !x.s.o.Observe.Events.Watched("request") {
		return
	}
	ev := observe.Event{Kind: "request", Account: x.account, Attrs: make([]slog.Attr, 0, 18)}
	add := func(a slog.Attr) { ev.Attrs = append(ev.Attrs, a) }
	add(slog.String("ray", x.id))
	add(slog.String("client", x.client.String()))
	add(slog.String("method", x.r.Method))
	add(slog.String("scheme", "http"))
	add(slog.String("host", x.r.Host))
	add(slog.String("uri", x.rawPath)) // the query may hold a signature
	add(slog.String("proto", x.r.Proto))
	add(slog.Int("status", x.w.status))
	add(slog.Int64("bytes_in", received))
	add(slog.Int64("bytes_out", x.w.sent))
	add(slog.Duration("duration", took))
	add(slog.String("user_agent", x.r.UserAgent()))
	add(slog.String("s3", name))
	if x.found != nil {
		add(slog.String("bucket", x.found.Name))
	}
	if x.cred != nil {
		add(slog.String("token", x.sign.id))
	}
	if x.w.code != "" {
		add(slog.String("reason", x.w.code))
	}
	if x.w.aborted {
		add(slog.String("aborted", "client or disk"))
	}
	x.s.o.Observe.Events.Publish(ev)
}
