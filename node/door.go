package node

import (
	"cmp"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// relayedFrom carries the client's address from a node that was taken over to its successor, relayedTo
// what there the request is for. They are believed only on DIR/relay.sock, which nobody but the node's user
// can open.
const (
	relayedFrom = "Selvage-Relayed-From"
	relayedTo   = "Selvage-Relayed-To"
)

// What requests are relayed to.
const (
	relayAPI    = "api"
	relayS3     = "s3"
	relaySettle = "settle"
)

// door stands before the API. While the store is open requests pass; while it is being handed over
// they wait; when it is gone they are told why, or relayed to the node that has it.
type door struct {
	passage
	to atomic.Pointer[http.Handler] // the API, or the successor
}

func newDoor() *door { return &door{passage: newPassage()} }

// open lets requests into the API.
func (d *door) open(api http.Handler) {
	d.to.Store(&api)
	d.turn(passOpen, "")
}

// shut turns requests away with a reason.
func (d *door) shut(reason string) { d.turn(passShut, reason) }

// pass relays requests to a successor.
func (d *door) pass(successor http.Handler) {
	d.to.Store(&successor)
	d.turn(passRelays, "")
}

// ServeHTTP serves the API.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch state, reason := d.enter(r.Context()); state {
	case passOpen:
		ctx, v := visiting(r.Context(), &d.passage)
		defer v.leave()
		(*d.to.Load()).ServeHTTP(w, r.WithContext(ctx))
	case passRelays:
		(*d.to.Load()).ServeHTTP(w, r)
	case passShut:
		unavailable(w, reason)
	case passHeld:
		unavailable(w, stillHandingOver)
	}
}

// unavailable answers in the v4 API's envelope.
func unavailable(w http.ResponseWriter, reason string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Retry-After", "5")
	w.WriteHeader(http.StatusServiceUnavailable)
	json.NewEncoder(w).Encode(map[string]any{
		"success": false, "errors": []map[string]any{{"code": 10000 + 503, "message": reason}}, "messages": []any{}, "result": nil,
	})
}

// successorGone is what clients are told whose request cannot be relayed.
const successorGone = "The node was taken over by a new process, which does not answer: try again."

// relay passes requests to the successor's relay socket.
type relay struct {
	transport http.RoundTripper
	to        string                                                // relayAPI, relayS3
	refuse    func(w http.ResponseWriter, r *http.Request, _ error) // if it does not answer
}

// newRelayTransport returns what reaches the relay socket in dir.
func newRelayTransport(dir string) http.RoundTripper {
	return &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		path, done, err := socketPath(dir, relaySocket)
		if err != nil {
			return nil, err
		}
		defer done()
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
}

// handler returns what passes requests on as they came, for their address may be signed.
func (y relay) handler() http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL = &url.URL{Scheme: "http", Host: "relay", Opaque: p.In.RequestURI}
			if !strings.HasPrefix(p.In.RequestURI, "/") || strings.HasPrefix(p.In.RequestURI, "//") {
				p.Out.URL = &url.URL{Scheme: "http", Host: "relay", Path: p.In.URL.Path, RawPath: p.In.URL.RawPath, RawQuery: p.In.URL.RawQuery}
			}
			p.Out.Host = p.In.Host
			p.Out.Header.Set(relayedFrom, p.In.RemoteAddr)
			p.Out.Header.Set(relayedTo, y.to)
		},
		Transport:     y.transport,
		FlushInterval: -1,
		ModifyResponse: func(r *http.Response) error {
			r.Header.Set("Connection", "close") // the client's next connection reaches the successor
			return nil
		},
		ErrorHandler: y.refuse,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The successor knows how long it may take.
		c := http.NewResponseController(w)
		c.SetReadDeadline(time.Time{})
		c.SetWriteDeadline(time.Time{})
		proxy.ServeHTTP(w, r)
	})
}

// fromRelay answers what comes through the relay socket.
func (n *Node) fromRelay(w http.ResponseWriter, r *http.Request) {
	to := r.Header.Get(relayedTo)
	r.RemoteAddr = cmp.Or(r.Header.Get(relayedFrom), r.RemoteAddr)
	r.Header.Del(relayedTo)
	r.Header.Del(relayedFrom)
	switch to {
	case relayAPI:
		n.door.ServeHTTP(w, r)
	case relayS3:
		n.parts.storage.r2.S3().ServeHTTP(w, r)
	case relaySettle:
		n.settle(w, r)
	}
}
