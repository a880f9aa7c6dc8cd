package edge

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"os"
	"sync"
	"time"

	"selvage/foundation/fault"
)

var (
	errReadTimeout = errors.New("origin did not respond in time")
	errInterim     = errors.New("too many interim responses from origin")
)

// maxInterim is how many 1xx responses an origin may send before the final one.
const maxInterim = 32

// attempt is one request to one address: its timer, its trace, and after it the response's body.
type attempt struct {
	o       *Origins
	ex      *Exchange
	lane    lane
	body    *originBody     // nil if the request has none
	client  context.Context // ends when the client is gone
	ctx     context.Context // ends with client, with the attempt, or when the origin is too slow
	cancel  context.CancelCauseFunc
	dog     watchdog
	timeout time.Duration

	mu      sync.Mutex // guards the fields below: the transport calls back from its own goroutines
	done    bool       // RoundTrip returned: ex is not ours any more
	interim int
	reused  bool
}

// call is what one try needs besides the exchange.
type call struct {
	addr     netip.AddrPort
	patience time.Duration // to connect
	body     *originBody   // nil if the request has none
}

// try asks one address.
func (o *Origins) try(ctx context.Context, ex *Exchange, c call) error {
	t := &ex.Target
	a := &attempt{o: o, ex: ex, body: c.body, timeout: orTime(t.ReadTimeout, o.o.ReadTimeout), lane: lane{
		addr: c.addr, patience: c.patience, secure: t.Scheme == "https", http2: t.HTTP2 && t.Scheme == "https" && ex.Request.Upgrade == "",
	}}
	if a.lane.secure {
		a.lane.serverName, a.lane.verify = t.ServerName, t.Verify
	}
	a.client = ctx
	a.ctx, a.cancel = context.WithCancelCause(ctx)
	a.dog.bite = func() { a.cancel(errReadTimeout) }
	out := context.WithValue(a.ctx, laneKey{}, &a.lane)
	out = httptrace.WithClientTrace(out, &httptrace.ClientTrace{GotConn: a.gotConn, WroteRequest: a.wroteRequest, Got1xxResponse: a.got1xx})
	began := time.Now()
	res, err := o.transport.RoundTrip(o.request(out, a))
	a.mu.Lock()
	a.done = true
	reused := a.reused
	a.mu.Unlock()
	a.dog.Disarm()
	ex.Note.OriginAddr = c.addr.String()
	ex.Note.OriginReused = reused
	ex.Note.OriginDuration = time.Since(began)
	if err != nil {
		return a.fail(err)
	}
	o.metrics.seconds.Observe(ex.Note.OriginDuration.Seconds())
	o.metrics.requests.WithLabelValues(classes[min(max(res.StatusCode/100, 0), 5)]).Inc()
	if reused {
		o.metrics.reused.Inc()
	}
	return a.respond(res)
}

// end releases what the attempt holds.
func (a *attempt) end() {
	a.dog.Stop()
	a.cancel(context.Canceled)
}

// fail ends the attempt and says what to tell the client.
func (a *attempt) fail(err error) error {
	f := a.failure(err)
	a.end()
	a.ex.Response = Response{}
	return f
}

// bodyFailure says what was wrong with a request body that could not be read to its end.
func bodyFailure(cause error) *Failure {
	if errors.Is(cause, os.ErrDeadlineExceeded) {
		return &Failure{Status: http.StatusRequestTimeout, Reason: "body_timeout", Cause: cause, Detail: "The request's body did not arrive in time."}
	}
	return &Failure{Status: http.StatusBadRequest, Reason: "body_incomplete", Cause: cause,
		Detail: "The request's body broke off, or its chunks are malformed."}
}

// failure says what became of a request that was sent, or begun, without an answer.
func (a *attempt) failure(err error) error {
	var de *dialError
	if a.client.Err() != nil {
		return a.client.Err()
	}
	if errors.As(err, &de) {
		return dialFailure(de, a.lane.addr)
	}
	if a.body != nil {
		if cause := a.body.failed(); cause != nil && fault.KindOf(cause) == fault.TooMuch {
			return cause
		} else if cause != nil {
			return bodyFailure(cause)
		}
	}
	switch {
	case errors.Is(a.cause(), errReadTimeout):
		return &Failure{Status: 524, Reason: "origin_read_timeout", Cause: err,
			Detail: "The origin accepted the connection but did not respond in time. Make the request faster there, or raise the zone's proxy_read_timeout."}
	case errors.Is(err, errInterim):
		return &Failure{Status: 520, Reason: "origin_interim_flood", Detail: "The origin sent interim responses without end and no final one.", Cause: err}
	}
	return &Failure{Status: 520, Reason: "origin_bad_response", Cause: err,
		Detail: "The origin closed the connection or sent something that is not a valid HTTP response. Its error log may tell why."}
}

// cause tells why the attempt's context ended.
func (a *attempt) cause() error { return context.Cause(a.ctx) }

func (a *attempt) gotConn(info httptrace.GotConnInfo) {
	a.mu.Lock()
	a.reused = info.Reused
	a.mu.Unlock()
}

// waitForOrigin allows the origin its time, beginning now; waitForClient stops the clock. Both do
// nothing once the response has begun.
func (a *attempt) waitForOrigin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.done {
		a.dog.Arm(a.timeout)
	}
}

func (a *attempt) waitForClient() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.done {
		a.dog.Disarm()
	}
}

// wroteRequest starts the clock: the time that a client takes to upload is not the origin's.
func (a *attempt) wroteRequest(httptrace.WroteRequestInfo) { a.waitForOrigin() }

func (a *attempt) got1xx(status int, h textproto.MIMEHeader) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.done {
		return errInterim
	}
	if a.interim++; a.interim > maxInterim {
		return errInterim
	}
	if status != http.StatusContinue && a.ex.Inform != nil {
		var fields Header
		convertHeader(&fields, h, nil)
		a.ex.Inform(status, &fields)
	}
	return nil
}

// respond makes the exchange's response of what the origin said.
func (a *attempt) respond(res *http.Response) error {
	out := &a.ex.Response
	*out = Response{Status: res.StatusCode, Length: res.ContentLength}
	a.ex.Note.OriginStatus = res.StatusCode
	convertHeader(&out.Header, res.Header, ours)
	if res.StatusCode == http.StatusSwitchingProtocols {
		return a.switchProtocols(res)
	}
	if res.StatusCode < 200 || res.StatusCode > 999 {
		res.Body.Close()
		return a.fail(errors.New("status out of range"))
	}
	if res.Body == http.NoBody || a.ex.Request.Method == http.MethodHead || !mayHaveBody(res.StatusCode) {
		res.Body.Close()
		a.end()
		return nil
	}
	out.Body = &responseBody{a: a, body: res.Body}
	if len(res.Trailer) > 0 || res.ContentLength < 0 {
		out.Trailer = func() Header {
			var h Header
			convertHeader(&h, res.Trailer, nil)
			return h
		}
	}
	return nil
}

// ours tells whether a response field is for the edge to set, or would lead clients past it.
func ours(name string) bool { return name == "Alt-Svc" || name == "Cf-Ray" || name == "Server" }

func (a *attempt) switchProtocols(res *http.Response) error {
	stream, ok := res.Body.(io.ReadWriteCloser)
	if !ok || a.ex.Request.Upgrade == "" {
		res.Body.Close()
		return a.fail(errors.New("switched protocols unasked"))
	}
	a.ex.Response.Tunnel = &originTunnel{ReadWriteCloser: stream, a: a}
	return nil
}

// originTunnel ends its attempt when closed.
type originTunnel struct {
	io.ReadWriteCloser
	a *attempt
}

// Close closes the connection.
func (t *originTunnel) Close() error {
	err := t.ReadWriteCloser.Close()
	t.a.end()
	return err
}

// responseBody is a response on its way. A pause longer than the attempt's timeout ends it.
type responseBody struct {
	a    *attempt
	body io.ReadCloser
}

// Read reads the next piece.
func (b *responseBody) Read(p []byte) (int, error) {
	b.a.dog.Arm(b.a.timeout)
	n, err := b.body.Read(p)
	b.a.dog.Disarm()
	if err != nil && err != io.EOF {
		if cause := b.a.cause(); cause != nil {
			err = cause
		}
	}
	return n, err
}

// Close gives the connection back, or cuts it if the response is not read to its end.
func (b *responseBody) Close() error {
	err := b.body.Close()
	b.a.end()
	return err
}
