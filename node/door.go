package node

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httputil"
	"sync/atomic"
)

// relayedFrom carries the client's address from a node that was taken over to its successor. It is
// believed only on DIR/relay.sock, which nobody but the node's user can open.
const relayedFrom = "Selvage-Relayed-From"

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
		defer d.leave()
		(*d.to.Load()).ServeHTTP(w, r)
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

// newRelay returns a handler that passes API requests to the successor's relay socket in dir.
func newRelay(dir string) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", "relay"
			p.Out.Host = p.In.Host
			p.Out.Header.Set(relayedFrom, p.In.RemoteAddr)
		},
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				path, done, err := socketPath(dir, relaySocket)
				if err != nil {
					return nil, err
				}
				defer done()
				return new(net.Dialer).DialContext(ctx, "unix", path)
			},
		},
		FlushInterval: -1,
		ModifyResponse: func(r *http.Response) error {
			r.Header.Set("Connection", "close") // the client's next connection reaches the successor
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			unavailable(w, "The node was taken over by a new process, which does not answer: try again.")
		},
	}
}

// relayed restores the client's address of requests that come through the relay socket.
func relayed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if from := r.Header.Get(relayedFrom); from != "" {
			r.RemoteAddr = from
			r.Header.Del(relayedFrom)
		}
		next.ServeHTTP(w, r)
	})
}
