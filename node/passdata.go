package node

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"selvage/edge"
	childsocket "selvage/edge/socket"
	"selvage/engine/isolate"
	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/r2"
	"selvage/product/r2/s3"
	"selvage/spec"
)

// dataSocket is where a node that took over answers what scripts of its predecessor ask of bindings:
// the data is the successor's, while the predecessor's last requests still run there.
const dataSocket = "data.sock"

// ticketField says, on that socket only, which binding a request is meant for; failureField is there
// on answers that the predecessor shall write, in its Detail.
const (
	ticketField  = "Selvage-Binding"
	failureField = "Selvage-Failure"
)

// dataDoor is the way to the store of data. What reaches the node that took over is set before it relays.
type dataDoor struct {
	passage
	successor http.RoundTripper // its data socket
	relay     http.RoundTripper // its relay socket
	s3        http.Handler      // its S3
}

// reach prepares the way to the node that takes over in dir.
func (d *dataDoor) reach(dir string) {
	d.successor, d.relay = newSuccessorData(dir), newRelayTransport(dir)
	d.s3 = relay{d.relay, relayS3, func(w http.ResponseWriter, r *http.Request, _ error) { s3.Unavailable(w, r, successorGone) }}.handler()
}

// ticket names a binding and whose it is, or a bucket that is public.
type ticket struct {
	User    product.BindingUser `json:"user"`
	Binding *spec.WorkerBinding `json:"binding,omitempty"`
	Public  *r2.PublicName      `json:"public,omitempty"`
}

func (n *Node) guardedAll(types map[string]product.BindingType) map[string]product.BindingType {
	all := map[string]product.BindingType{}
	for name, t := range types {
		all[name] = n.guarded(t)
	}
	return all
}

// guarded returns a type of binding whose requests wait while the data changes hands, and go to the
// successor afterwards.
func (n *Node) guarded(t product.BindingType) product.BindingType {
	if t.Handle == nil {
		return t
	}
	answer := t.Handle
	t.Handle = func(user product.BindingUser, b *spec.WorkerBinding) edge.Handler {
		own := answer(user, b)
		return func(ctx context.Context, ex *edge.Exchange) error {
			return n.throughData(ctx, ex, ticket{User: user, Binding: b}, own)
		}
	}
	return t
}

// throughData has own answer, or the successor what the ticket names, when one of them has the data.
func (n *Node) throughData(ctx context.Context, ex *edge.Exchange, t ticket, own edge.Handler) error {
	switch state, reason := n.data.enter(ctx); state {
	case passOpen:
		ctx, v := visiting(ctx, &n.data.passage)
		defer v.leave()
		return own(ctx, ex)
	case passRelays:
		return n.successorAnswers(ctx, ex, t)
	case passShut:
		return dataUnavailable(reason)
	}
	return dataUnavailable(stillHandingOver)
}

func dataUnavailable(reason string) error {
	return &edge.Failure{Status: http.StatusServiceUnavailable, Reason: "data", Detail: reason}
}

// successorAnswers passes a request at a binding to the node that has the data.
func (n *Node) successorAnswers(ctx context.Context, ex *edge.Exchange, t ticket) error {
	named, err := json.Marshal(t)
	if err != nil {
		return err
	}
	q := &ex.Request
	host := q.Host
	if q.Port != "" {
		host = net.JoinHostPort(q.Host, q.Port)
	}
	// Opaque keeps path and query as they came.
	r := (&http.Request{Method: q.Method, URL: &url.URL{Scheme: "http", Host: host, Opaque: "//" + host + q.URI()}, Host: host, Header: http.Header{}}).WithContext(ctx)
	for _, f := range q.Header.Fields() {
		r.Header[f.Name] = append(r.Header[f.Name], f.Value)
	}
	r.Header.Set(ticketField, string(named))
	if q.Body != nil {
		r.Body, r.ContentLength = io.NopCloser(q.Body), q.Length
	}
	if cf := childsocket.CF(ctx); cf != "" {
		r.Header.Set(isolate.CFHeader, cf)
	}
	res, err := n.data.successor.RoundTrip(r)
	if err != nil {
		n.log.Error("successor does not answer what is asked of its data", "ticket", string(named), "error", err)
		return dataUnavailable(successorGone)
	}
	if detail := res.Header.Get(failureField); detail != "" {
		res.Body.Close()
		return &edge.Failure{Status: res.StatusCode, Reason: "data", Detail: detail}
	}
	_, text, _ := strings.Cut(res.Status, " ")
	ex.Response = edge.Response{Status: res.StatusCode, Text: text, Length: res.ContentLength, Body: res.Body}
	if res.Body == http.NoBody {
		ex.Response.Body = nil
	}
	for name, values := range res.Header {
		for _, v := range values {
			if name != "Content-Length" {
				ex.Response.Header.Add(name, v)
			}
		}
	}
	return nil
}

// newSuccessorData returns what reaches the successor's data socket in dir.
func newSuccessorData(dir string) *http.Transport {
	return &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		path, done, err := socketPath(dir, dataSocket)
		if err != nil {
			return nil, err
		}
		defer done()
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
}

// serveData answers the predecessor's scripts on l until ctx ends.
func (n *Node) serveData(ctx context.Context, l net.Listener) {
	s := &childsocket.Server{Name: "data", Log: n.log, CFField: isolate.CFHeader, ProtoField: isolate.ProtoHeader, Handle: n.answerTicket, Refuse: passFailure}
	s.Serve(ctx, l)
}

func (n *Node) answerTicket(ctx context.Context, ex *edge.Exchange) error {
	var t ticket
	named := ex.Request.Header.Get(ticketField)
	ex.Request.Header.Del(ticketField)
	if err := json.Unmarshal([]byte(named), &t); err != nil || (t.Binding == nil) == (t.Public == nil) {
		return fault.New(fault.Invalid, "The request names no binding.")
	}
	if t.Public != nil {
		return n.throughData(ctx, ex, t, func(ctx context.Context, ex *edge.Exchange) error {
			return n.parts.storage.r2.AnswerPublic(ctx, ex, *t.Public)
		})
	}
	kind, ok := n.parts.bindings[t.Binding.Type]
	if !ok {
		return fault.New(fault.NotFound, "There are no bindings of type %s.", t.Binding.Type)
	}
	return kind.Handle(t.User, t.Binding)(ctx, ex)
}

// passFailure answers a failure for the predecessor to write, which knows the client.
func passFailure(ex *edge.Exchange, f *edge.Failure) {
	ex.Respond(f.Status, edge.NewHeader(failureField, f.Detail), nil)
}
