package tail

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
)

// protocol is the WebSocket subprotocol of tails.
const protocol = "trace-v1"

// apiPrefix is where the paths of routes begin.
const apiPrefix = "/client/v4"

// codeNoScript is Cloudflare's code for a script that is not there.
const codeNoScript = 10007

// tailResult is a session as the API shows it.
type tailResult struct {
	ID      string    `json:"id"`
	URL     string    `json:"url"`
	Expires time.Time `json:"expires_at"`
}

// Routes returns the operations of the API that tails have.
func (h *Hub) Routes() []product.Route {
	const tails = "/accounts/{account_id}/workers/scripts/{script_name}/tails"
	read := product.Permission{Group: "Workers Tail"}
	return []product.Route{
		{Method: "POST", Path: tails, Permission: read, Summary: "Start a tail of a script: traces of what it does, live.", Handle: h.handleOpen},
		{Method: "GET", Path: tails, Permission: read, Summary: "List the tails of a script.", Handle: h.handleList},
		{Method: "DELETE", Path: tails + "/{tail_id}", Permission: read, Summary: "End a tail.", Handle: h.handleEnd},
		{Method: "GET", Path: "/selvage/tails/{tail_id}", Public: true, Summary: "Watch a tail: a WebSocket with the subprotocol trace-v1, at the URL that starting it gave.", Handle: h.handleWatch},
	}
}

// scriptOf returns the script that a call is about.
func (h *Hub) scriptOf(c *product.Call) (script, error) {
	of := script{c.Account.ID, c.Params["script_name"]}
	if h.o.Exists != nil && !h.o.Exists(of.account, of.name) {
		return of, fault.New(fault.NotFound, "This Worker does not exist on your account: %.80s.", of.name).WithCode(codeNoScript)
	}
	return of, nil
}

func (h *Hub) handleOpen(_ context.Context, c *product.Call) (product.Reply, error) {
	of, err := h.scriptOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	raw, err := readFilters(c)
	if err != nil {
		return product.Reply{}, err
	}
	filters, err := parseFilters(raw, c.Actor.IP)
	if err != nil {
		return product.Reply{}, err
	}
	if c.Origin == "" {
		return product.Reply{}, fault.New(fault.Invalid, "The request names no host, so that there is no address to watch the tail at. Use HTTP/1.1.")
	}
	s, err := h.open(of, filters)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: s.result(c.Origin)}, nil
}

// readFilters reads the body, which may be missing.
func readFilters(c *product.Call) ([]json.RawMessage, error) {
	if c.Body == nil {
		return nil, nil
	}
	data, err := io.ReadAll(c.Body)
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil
	}
	var body struct {
		Filters []json.RawMessage `json:"filters"`
	}
	return body.Filters, product.DecodeJSON(data, &body)
}

// result shows a session. The secret stands in the query, which no log keeps.
func (s *session) result(origin string) tailResult {
	address := "ws" + strings.TrimPrefix(origin, "http") + apiPrefix + "/selvage/tails/" + s.id + "?secret=" + s.secret
	return tailResult{ID: s.id, URL: address, Expires: s.expires.UTC().Truncate(time.Second)}
}

func (h *Hub) handleList(_ context.Context, c *product.Call) (product.Reply, error) {
	of, err := h.scriptOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	list := []tailResult{}
	for _, s := range h.watchers(of) {
		list = append(list, s.result(c.Origin))
	}
	return product.Reply{Result: list}, nil
}

func (h *Hub) handleEnd(_ context.Context, c *product.Call) (product.Reply, error) {
	of := script{c.Account.ID, c.Params["script_name"]}
	s := h.find(c.Params["tail_id"])
	if s == nil || s.of != of || !h.remove(s, "the tail was ended") {
		return product.Reply{}, noTail(c)
	}
	return product.Reply{}, nil
}

func noTail(c *product.Call) error {
	return fault.New(fault.NotFound, "There is no tail %.80s; it may have expired.", c.Params["tail_id"])
}

func (h *Hub) handleWatch(_ context.Context, c *product.Call) (product.Reply, error) {
	s := h.find(c.Params["tail_id"])
	if s == nil || subtle.ConstantTimeCompare([]byte(s.secret), []byte(c.Query.Get("secret"))) != 1 {
		return product.Reply{}, noTail(c)
	}
	accept, err := handshake(c.Header)
	if err != nil {
		return product.Reply{}, err
	}
	head := http.Header{"Upgrade": {"websocket"}, "Sec-Websocket-Accept": {accept}, "Sec-Websocket-Protocol": {protocol}}
	return product.Reply{Status: http.StatusSwitchingProtocols, Header: head,
		Upgrade: func(ctx context.Context, conn net.Conn, r *bufio.Reader) { s.serve(ctx, conn, r) }}, nil
}

// handshake checks the client's part of RFC 6455 section 4 and returns ours.
func handshake(head http.Header) (accept string, err error) {
	if !hasToken(head, "Connection", "upgrade") || !hasToken(head, "Upgrade", "websocket") {
		return "", fault.New(fault.Invalid, "A tail is watched over a WebSocket, with HTTP/1.1.")
	}
	if v := head.Get("Sec-Websocket-Version"); v != "13" {
		return "", fault.New(fault.Invalid, "The WebSocket has version %.20q; only 13 is known.", v)
	}
	if !hasToken(head, "Sec-Websocket-Protocol", protocol) {
		return "", fault.New(fault.Invalid, "The WebSocket has to ask for the subprotocol %s.", protocol)
	}
	key := head.Get("Sec-Websocket-Key")
	if b, err := base64.StdEncoding.DecodeString(key); err != nil || len(b) != 16 {
		return "", fault.New(fault.Invalid, "The Sec-WebSocket-Key is not 16 bytes in base 64.")
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:]), nil
}

// hasToken tells whether a comma-separated field has a token, whatever its case.
func hasToken(head http.Header, name, token string) bool {
	for _, line := range head.Values(name) {
		for part := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(part), token) {
				return true
			}
		}
	}
	return false
}
