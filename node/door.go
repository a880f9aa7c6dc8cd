package node

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"time"
)

// holdAtMost is how long an API request waits for the store while it changes hands.
const holdAtMost = 20 * time.Second

// relayedFrom carries the client's address from a node that was taken over to its successor. It is
// believed only on DIR/relay.sock, which nobody but the node's user can open.
const relayedFrom = "Selvage-Relayed-From"

// door stands before the API. While the store is open requests pass; while it is being handed over
// they wait; when it is gone they are told why, or relayed to the node that has it.
type door struct {
	mu         sync.Mutex // guards the fields below
	state      doorState
	to         http.Handler  // the API, or the successor
	reason     string        // why it is shut, for users
	changed    chan struct{} // closed with the next change of state
	inside     int           // requests being served
	streamless bool          // see endStreams
	left       chan struct{} // closed when inside reaches 0 while held; nil if nobody waits
}

type doorState uint8

const (
	doorHeld   doorState = iota // wait for another state
	doorOpen                    // serve
	doorShut                    // say why not
	doorRelays                  // pass on to the successor
)

func newDoor() *door { return &door{changed: make(chan struct{})} }

// open lets requests into the API.
func (d *door) open(api http.Handler) { d.turn(doorOpen, api, "") }

// shut turns requests away with a reason.
func (d *door) shut(reason string) { d.turn(doorShut, nil, reason) }

// pass relays requests to a successor.
func (d *door) pass(successor http.Handler) { d.turn(doorRelays, successor, "") }

func (d *door) turn(state doorState, to http.Handler, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.state, d.to, d.reason = state, to, reason
	close(d.changed)
	d.changed = make(chan struct{})
}

// changes returns a channel that is closed when the door's state changes: streams end then, for
// whoever has the store next serves them.
func (d *door) changes() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.streamless {
		ended := make(chan struct{})
		close(ended)
		return ended
	}
	return d.changed
}

// endStreams ends streams for good, for a node that stops: they would never leave by themselves.
func (d *door) endStreams() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.streamless = true
	close(d.changed)
	d.changed = make(chan struct{})
}

// hold makes new requests wait and returns when those inside have left, or ctx ends.
func (d *door) hold(ctx context.Context) error {
	d.turn(doorHeld, nil, "")
	d.mu.Lock()
	if d.inside == 0 {
		d.mu.Unlock()
		return nil
	}
	left := make(chan struct{})
	d.left = left
	d.mu.Unlock()
	select {
	case <-left:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ServeHTTP serves the API.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := d.enter(r.Context())
	if h == nil {
		unavailable(w, "The node is handing over to a new process and has not finished yet: try again.")
		return
	}
	h.ServeHTTP(w, r)
}

// enter waits until the door's state says what happens to a request; nil if that takes too long.
func (d *door) enter(ctx context.Context) http.Handler {
	patience := time.NewTimer(holdAtMost)
	defer patience.Stop()
	for {
		d.mu.Lock()
		state, reason, to, changed := d.state, d.reason, d.to, d.changed
		if state == doorOpen {
			d.inside++
		}
		d.mu.Unlock()
		switch state {
		case doorOpen:
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer d.leave()
				to.ServeHTTP(w, r)
			})
		case doorRelays:
			return to
		case doorShut:
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { unavailable(w, reason) })
		}
		select {
		case <-changed:
		case <-patience.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

func (d *door) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside--
	if d.inside == 0 && d.left != nil {
		close(d.left)
		d.left = nil
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
