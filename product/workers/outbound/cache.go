package outbound

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"

	"selvage/edge"
	"selvage/edge/socket"
)

// Keeper is what keeps responses for the Cache API, as product/cache's API does. zone is a zone's ID
// or a name for what belongs to none, space a cache in it that others do not see.
type Keeper interface {
	// Match gives ex its response and returns true if a fresh one is kept under its URL.
	Match(zone, space string, ex *edge.Exchange) bool
	// Put keeps res, whose body it closes; false if its header does not allow that.
	Put(ctx context.Context, zone, space string, ex *edge.Exchange, res *edge.Response) (bool, error)
	// Delete forgets what is kept under the URL of ex; false if nothing was there.
	Delete(zone, space string, ex *edge.Exchange) bool
}

// cacheDoor is the Cache API for one script.
type cacheDoor struct {
	*Outbound
	caller Caller
	count  func()
}

// nameField carries the name that caches.open was called with; without it it is caches.default.
const nameField = "CF-Cache-Namespace"

// Cache returns the service behind Program.Cache. The runtime says match as a GET that wants
// what is stored only, put as a PUT with a whole HTTP response for its body, and delete as PURGE.
// What an account's scripts keep is seen by its scripts only. It lies with the zone of the URL's
// host if that is the account's, or else with the caller's zone, so purges of that zone reach it.
func (o *Outbound) Cache(caller Caller) func(context.Context, net.Listener) {
	d := &cacheDoor{o, caller, o.metrics.requests.WithLabelValues("cache").Inc}
	return o.serve(&socket.Server{Name: "cache", Handle: d.handle})
}

func (d *cacheDoor) handle(ctx context.Context, ex *edge.Exchange) error {
	d.count()
	q := &ex.Request
	zone, space := d.place(q)
	q.Header.Del(nameField)
	switch q.Method {
	case http.MethodGet:
		q.Header.Del("Cache-Control")
		if d.o.Cache == nil || !d.o.Cache.Match(zone, space, ex) {
			ex.Respond(http.StatusGatewayTimeout, edge.NewHeader("CF-Cache-Status", "MISS"), nil)
		}
		return nil
	case http.MethodPut:
		return d.put(ctx, ex, zone, space)
	case "PURGE":
		q.Header.Del("X-Real-IP")
		status := http.StatusNotFound
		if d.o.Cache != nil && d.o.Cache.Delete(zone, space, ex) {
			status = http.StatusOK
		}
		ex.Respond(status, edge.Header{}, nil)
		return nil
	}
	return &edge.Failure{Status: http.StatusMethodNotAllowed, Reason: "bad_method", Detail: "The Cache API has match, put and delete."}
}

// place returns where what is kept under a URL lies.
func (d *cacheDoor) place(q *edge.Request) (zone, space string) {
	space = d.caller.AccountID + "\x00" + q.Header.Get(nameField)
	if d.caller.ZoneOf != nil {
		if z := d.caller.ZoneOf(q.Host); z != nil {
			return z.Zone.ID, space
		}
	}
	if d.caller.Zone != nil {
		if z := d.caller.Zone(); z != nil {
			return z.Zone.ID, space
		}
	}
	return "account " + d.caller.AccountID, space
}

// put keeps the response that the body is. The runtime understands 204 and 413 (not kept).
func (d *cacheDoor) put(ctx context.Context, ex *edge.Exchange, zone, space string) error {
	q := &ex.Request
	if q.Body == nil {
		return errPut
	}
	res, err := readResponse(q.Body)
	if err != nil {
		return errPut
	}
	kept := false
	if d.o.Cache != nil {
		if kept, err = d.o.Cache.Put(ctx, zone, space, ex, &res); err != nil {
			return &edge.Failure{Status: http.StatusBadRequest, Reason: "body_incomplete", Detail: "The response to keep broke off.", Cause: err}
		}
	}
	status := http.StatusNoContent
	if !kept {
		status = http.StatusRequestEntityTooLarge
	}
	ex.Respond(status, edge.Header{}, nil)
	return nil
}

var errPut = &edge.Failure{Status: http.StatusBadRequest, Reason: "bad_response", Detail: "The body is not an HTTP response."}

// maxHead is how many bytes the head of a response to keep may have.
const maxHead = 256 << 10

var errHead = errors.New("not the head of an HTTP response")

// readResponse reads a serialised response. Its body is what follows the head, whatever
// Transfer-Encoding says: the runtime writes it without chunks.
func readResponse(r io.Reader) (edge.Response, error) {
	limited := &io.LimitedReader{R: r, N: maxHead}
	in := bufio.NewReaderSize(limited, 4<<10)
	tp := textproto.NewReader(in)
	line, err := tp.ReadLine()
	if err != nil {
		return edge.Response{}, err
	}
	proto, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	if err != nil || !strings.HasPrefix(proto, "HTTP/1.") || status < 200 || status > 999 {
		return edge.Response{}, errHead
	}
	fields, err := tp.ReadMIMEHeader()
	if err != nil {
		return edge.Response{}, err
	}
	limited.N = 1<<63 - 1
	res := edge.Response{Status: status, Length: -1, Body: io.NopCloser(in)}
	if n, err := strconv.ParseInt(fields.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		res.Length = n
	}
	for name, values := range fields {
		for _, v := range values {
			res.Header.Add(name, v)
		}
	}
	return res, nil
}
