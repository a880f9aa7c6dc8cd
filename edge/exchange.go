// Package edge is the way of one request: listeners, the Exchange that travels through the
// phases, the phases' contract, and the client that reaches origins.
//
// Exchange and Phase know nothing of net/http: a hand-written engine can stand behind the same
// phases.
package edge

import (
	"io"
	"net/netip"
	"time"

	"selvage/spec"
)

// Exchange is one request and its response on their way through the phases. It belongs to one
// goroutine at a time; a phase must not keep it after its handler returned.
type Exchange struct {
	ID     string // the Ray ID: 16 hex digits, unique per request
	Start  time.Time
	Client netip.AddrPort // who sent it, after PROXY protocol or the like
	TLS    *TLS           // nil on a plain connection

	// Country is where Client is, two letters of ISO 3166-1; empty if unknown or not looked up.
	Country string

	Request  Request
	Response Response

	// AcceptEncoding is that field as the client sent it; in Request.Header it is brought to one of
	// three values before the phases.
	AcceptEncoding string

	Zone   *spec.ZoneConfig // whose request it is; set by the first phase
	Target Target           // where the origin is; set by the first phase
	Note   Note             // what phases learned, for the log event
	Wish   *CacheWish       // what the program that made the request asks of the cache; nil asks nothing

	// Inform sends an interim response (1xx) at once; never nil. Calls after the final response
	// began are ignored.
	Inform func(status int, h *Header)
}

// TLS is what the handshake told.
type TLS struct {
	Version    uint16 // as in crypto/tls
	Cipher     uint16
	ServerName string // SNI, lower case; empty if none was sent
	ALPN       string
	Resumed    bool
}

// Request is what the client asked for.
type Request struct {
	Method  string
	Scheme  string        // http, https
	Host    string        // lower case, without port or trailing dot
	Port    string        // as in the Host field; empty if it had none
	Path    string        // raw as it came, begins with "/"; "*" for OPTIONS *
	Query   string        // raw, without "?"
	Proto   string        // HTTP/1.0, HTTP/1.1, HTTP/2
	Header  Header        // without Host, Connection and what it names, Transfer-Encoding, Content-Length
	Length  int64         // of the body; -1 unknown (chunked), 0 none
	Body    io.Reader     // nil if there is none; reading may fail with a fault.TooMuch
	Trailer func() Header // fields after the body, valid at its end; nil if none can come
	Upgrade string        // protocol asked for by Upgrade, such as "websocket"; empty if none
}

// URI returns path and query as they came.
func (r *Request) URI() string {
	if r.Query == "" {
		return r.Path
	}
	return r.Path + "?" + r.Query
}

// Response is what goes back. Whoever takes Body out of a Response closes it.
type Response struct {
	Status  int           // 0 while there is no response
	Text    string        // what follows the status in the first line; "" for the usual. Only scripts' clients of bindings read it
	Header  Header        // without Connection, Transfer-Encoding, Content-Length
	Length  int64         // of the body; -1 unknown. For HEAD and 304 what Content-Length should say, -1 for none
	Body    io.ReadCloser // nil if there is none. May implement io.WriterTo, or be *os.File-backed
	Trailer func() Header // fields after the body, valid at its end; nil if none can come

	// Tunnel is set with status 101: after the head the bytes go both ways until either side ends.
	Tunnel io.ReadWriteCloser
}

// Respond replaces the response by one that is held in memory. It closes a body that stood there.
func (ex *Exchange) Respond(status int, h Header, body []byte) {
	ex.Response.Close()
	ex.Response = Response{Status: status, Header: h, Length: int64(len(body))}
	if len(body) > 0 {
		ex.Response.Body = memory(body)
	}
}

// Close closes body and tunnel, if any. Calling it again does nothing.
func (r *Response) Close() {
	if r.Body != nil {
		r.Body.Close()
		r.Body = nil
	}
	if r.Tunnel != nil {
		r.Tunnel.Close()
		r.Tunnel = nil
	}
}

// Note is what the log event of a request says besides request and response.
type Note struct {
	CacheStatus    string // HIT, MISS, EXPIRED, STALE, BYPASS, REVALIDATED, UPDATING, DYNAMIC; empty if not cached
	OriginAddr     string
	OriginStatus   int
	OriginDuration time.Duration // to the first byte of the response
	OriginReused   bool
	Reason         string   // why a request was refused or failed: a word for machines
	Broken         []string // names of phases that failed and were skipped
}

// CacheWish is what a program asks of the cache for one request of its own: the cf options of a
// Worker's fetch(). It goes over what the zone's settings and rules say.
type CacheWish struct {
	Everything bool          // eligible whatever its extension is
	Never      bool          // neither from the cache nor into it
	Forced     bool          // TTL counts instead of what the origin says
	TTL        time.Duration // with Forced; 0 validates before each use
	ByStatus   []StatusTTL   // before TTL; a TTL below 0 does not store
	Key        string        // instead of the URL; empty for the URL
	Tags       []string      // beside those of the response
}

// StatusTTL is a lifetime for a range of status codes, bounds included.
type StatusTTL struct {
	From, To int
	TTL      time.Duration
}
