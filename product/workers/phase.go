package workers

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"selvage/edge"
	"selvage/engine/isolate"
	"selvage/foundation/fault"
	"selvage/product/workers/outbound"
)

// Phase returns the phase. It stands where the zone is known and before the cache: what a script
// answers is its own business, what it fetches is cached.
func (w *Workers) Phase() edge.Phase { return edge.Phase{Name: "workers", Handle: w.handle} }

// handle lets the script that a request belongs to answer it, or passes it on.
func (w *Workers) handle(ctx context.Context, ex *edge.Exchange, next edge.Handler) error {
	const looks = 3
	for look := 1; ; look++ {
		err := w.look(ctx, ex, next)
		// A version may go between the look at the table and its being asked, before which nothing was
		// sent: the next look finds the one that came for it.
		if !errors.Is(err, errGone) || look == looks {
			return err
		}
	}
}

// errGone tells that the unit that should answer is not there any more.
var errGone = &edge.Failure{Status: http.StatusBadGateway, Reason: "worker_gone", Detail: "The Worker of this site is being replaced. Try again."}

func (w *Workers) look(ctx context.Context, ex *edge.Exchange, next edge.Handler) error {
	t := w.current.Load()
	var caller *destination
	if sub, ok := outbound.From(ctx); ok {
		caller = &destination{sub.Account, sub.Script}
	}
	c, ok := t.choose(ex, caller)
	if !ok {
		if _, own := t.subs[ex.Zone.Zone.ID]; own {
			return &edge.Failure{Status: http.StatusNotFound, Code: 1042, Reason: "no_worker", Detail: "No Worker answers at this name. Deploy one, or switch its subdomain on."}
		}
		return next(ctx, ex)
	}
	v := w.versionFor(c, &ex.Request)
	if v == nil {
		return &edge.Failure{Status: http.StatusNotFound, Code: 1042, Reason: "no_version", Detail: "This Worker has no such version, or none is deployed."}
	}
	w.metrics.requests.Inc()
	if v.site != nil {
		served, err := v.site.Serve(ctx, ex)
		if served || err != nil {
			return err
		}
	}
	if v.spec.Main == "" {
		return &edge.Failure{Status: http.StatusNotFound, Reason: "no_asset", Detail: "There is no file at this path."}
	}
	err := w.run(ctx, ex, v)
	var s *isolate.Stopped
	if c.script.before != nil && c.version == "" && errors.As(err, &s) && s.Reason == isolate.ReasonStart {
		// Nothing of the request was sent to a script that does not start.
		return w.run(ctx, ex, c.script.before)
	}
	return err
}

// run has a version answer ex.
func (w *Workers) run(ctx context.Context, ex *edge.Exchange, v *version) error {
	began := time.Now()
	resp, err := w.host.Fetch(ctx, w.address(v), w.request(ex))
	if err != nil {
		w.tellStopped(ex, v, err)
		return w.failure(ctx, err)
	}
	ex.Note.OriginAddr, ex.Note.OriginStatus, ex.Note.OriginDuration = "worker:"+v.spec.Script, resp.Status, time.Since(began)
	if resp.Exception {
		closeResponse(resp)
		w.metrics.exceptions.Inc()
		return &edge.Failure{Status: http.StatusInternalServerError, Code: 1101, Reason: "worker_exception",
			Detail: "The Worker of this site threw an exception. Its owner sees which with `wrangler tail`."}
	}
	answer(ex, resp)
	return nil
}

// request makes of an exchange what the engine sends.
func (w *Workers) request(ex *edge.Exchange) *isolate.Request {
	q := &ex.Request
	r := &isolate.Request{
		Method: q.Method, Scheme: q.Scheme, Host: authority(q), Target: q.URI(), Body: q.Body, Length: q.Length, Upgrade: q.Upgrade, CF: describe(ex, w.o.PoP),
		Header: func(yield func(string, string) bool) { w.fields(ex, yield) },
	}
	r.Again = q.Body == nil && q.Upgrade == "" && (q.Method == http.MethodGet || q.Method == http.MethodHead || q.Method == http.MethodOptions)
	return r
}

// fields yields the client's fields and what the edge tells scripts, as it tells origins. Fields of
// the same names from clients were dropped when the request came in.
func (w *Workers) fields(ex *edge.Exchange, yield func(string, string) bool) {
	client, forwarded := ex.Client.Addr().String(), ""
	for _, f := range ex.Request.Header.Fields() {
		if len(f.Name) == len("X-Forwarded-For") && http.CanonicalHeaderKey(f.Name) == "X-Forwarded-For" {
			forwarded += f.Value + ", "
			continue
		}
		if !yield(f.Name, f.Value) {
			return
		}
	}
	own := [...][2]string{
		{"CF-Connecting-IP", client}, {"CF-Ray", ex.ID + "-" + w.o.PoP}, {"CF-Visitor", `{"scheme":"` + ex.Request.Scheme + `"}`},
		{"X-Forwarded-For", forwarded + client}, {"X-Forwarded-Proto", ex.Request.Scheme}, {"X-Real-IP", client},
	}
	for _, f := range own {
		if !yield(f[0], f[1]) {
			return
		}
	}
}

// authority is the Host as the client sent it.
func authority(q *edge.Request) string {
	if q.Port == "" {
		return q.Host
	}
	return q.Host + ":" + q.Port
}

// answer makes a script's response the exchange's.
func answer(ex *edge.Exchange, resp *isolate.Response) {
	ex.Response.Close()
	ex.Response = edge.Response{Status: resp.Status, Length: resp.Length, Body: resp.Body, Tunnel: resp.Tunnel}
	ex.Response.Header.Grow(len(resp.Header) + 2)
	for _, f := range resp.Header {
		ex.Response.Header.Add(f.Name, f.Value)
	}
}

func closeResponse(r *isolate.Response) {
	if r.Body != nil {
		io.Copy(io.Discard, io.LimitReader(r.Body, 4096))
		r.Body.Close()
	}
	if r.Tunnel != nil {
		r.Tunnel.Close()
	}
}

// failure turns what kept a script from answering into an error page with Cloudflare's numbers.
func (w *Workers) failure(ctx context.Context, err error) error {
	var s *isolate.Stopped
	if !errors.As(err, &s) {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case fault.KindOf(err) == fault.NotFound:
			return errGone
		case fault.KindOf(err) == fault.Unavailable:
			return &edge.Failure{Status: http.StatusServiceUnavailable, Reason: "worker_unavailable", Detail: "The Worker of this site cannot be run at the moment. Try again.", Cause: err}
		}
		return &edge.Failure{Status: http.StatusBadGateway, Reason: "worker_unreachable", Detail: "The Worker of this site did not answer. Try again.", Cause: err}
	}
	w.metrics.stopped.WithLabelValues(string(s.Reason)).Inc()
	f := &edge.Failure{Reason: "worker_" + string(s.Reason), Cause: err}
	switch s.Reason {
	case isolate.ReasonCPU:
		f.Status, f.Code, f.Detail = http.StatusServiceUnavailable, 1102, "The Worker of this site used more CPU time than a request may."
	case isolate.ReasonMemory:
		f.Status, f.Code, f.Detail = http.StatusServiceUnavailable, 1102, "The Worker of this site used more memory than it may."
	case isolate.ReasonMissing:
		f.Status, f.Detail = http.StatusServiceUnavailable, "The Workers runtime is not installed on this node; its operator gets it with `make engines`."
	case isolate.ReasonStart:
		f.Status, f.Code, f.Detail = http.StatusInternalServerError, 1101, "The Worker of this site throws while it starts. Its owner sees why with `wrangler tail`."
	default:
		f.Status, f.Code, f.Detail = http.StatusInternalServerError, 1101, "The Worker of this site ended before it had answered."
	}
	if !s.Culprit && s.Reason != isolate.ReasonMissing && s.Reason != isolate.ReasonStart {
		f.Detail = "The Worker of this site was stopped because of another request. Try again."
	}
	return f
}
