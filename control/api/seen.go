package api

import (
	"log/slog"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/foundation/observe"
)

// metrics counts what the API does, by route pattern: never by anything a client chose.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	refused  prometheus.Counter
}

func newMetrics(o observe.Observer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "selvage_api_requests_total", Help: "API requests by route and status.",
		}, []string{"route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "selvage_api_request_seconds", Help: "Time from a request's head to the end of its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5},
		}, []string{"route"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "selvage_api_failed_authentications_total", Help: "Requests with a token that does not exist.",
		}),
	}
	o.Register(m.requests, m.seconds, m.refused)
	return m
}

// note counts a request and publishes its event, at its end.
func (a *API) note(x *exchange, r *http.Request, out *answer) {
	route := "unknown"
	if x.route != nil {
		route = x.route.Method + " " + x.route.Path
	}
	took := a.o.Clock.Now().Sub(x.start)
	a.metrics.requests.WithLabelValues(route, strconv.Itoa(out.status)).Inc()
	a.metrics.seconds.WithLabelValues(route).Observe(took.Seconds())
	if !a.o.Observe.Events.Watched("api") {
		return
	}
	ev := observe.Event{Kind: "api", Attrs: []slog.Attr{
		slog.String("id", x.id),
		slog.String("method", r.Method),
		slog.String("path", r.URL.EscapedPath()),
		slog.String("route", route),
		slog.Int("status", out.status),
		slog.Duration("duration", took),
		slog.String("client", x.client.String()),
		slog.String("agent", r.UserAgent()),
	}}
	if x.key != nil {
		ev.Attrs = append(ev.Attrs, slog.String("token", x.key.token.ID))
	}
	if x.zone != nil {
		ev.Zone, ev.Account = x.zone.Zone.Name, x.zone.Zone.AccountID
	}
	a.o.Observe.Events.Publish(ev)
}
