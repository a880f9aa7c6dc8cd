package product

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"

	"selvage/spec"
)

// Route is one operation of the v4 API. control/api authenticates, checks Permission on the zone
// or account that the path names, bounds the body, and writes the envelope.
type Route struct {
	Method     string // GET, POST, ...
	Path       string // below /client/v4: "/zones/{zone_id}/dns_records/{record_id}"; a last {name...} takes slashes too
	Permission Permission
	Summary    string // one line, imperative: "List the DNS records of a zone."
	MaxBody    int64  // bytes; 0 means 1 MiB. Beyond 64 MiB a body may take as long as it likes while it flows
	Handle     func(ctx context.Context, c *Call) (Reply, error)

	// Public routes are answered without a token: the handler knows by itself who may ask, as by a
	// secret in the path or a token of its own kind.
	Public bool

	// Operator routes are only for tokens with all rights over all accounts, such as the node's own.
	Operator bool
}

// Permission is a right in the words of Cloudflare's permission groups: Group "DNS" and Write
// false is "DNS Read". Write includes read. The zero value asks only for a valid token.
type Permission struct {
	Group string
	Write bool
}

// Call is one API request as a handler sees it.
type Call struct {
	Actor   spec.Actor
	Zone    *spec.ZoneConfig // of {zone_id}; nil if the path has none
	Account *spec.Account    // of {account_id}, or the zone's owner; nil if neither is in the path
	Query   url.Values
	Header  http.Header
	Body    io.Reader // bounded by Route.MaxBody
	Length  int64     // of Body as the client announced it; -1 unknown

	// Origin is how the caller named the API: scheme and host, as in "http://127.0.0.1:4400".
	// Addresses handed to the caller begin with it. Empty if the request named no host.
	Origin string

	// Params holds the values of the path's {names}, unescaped.
	Params map[string]string

	// Allowed tells whether the caller's token has p on a zone or account; an empty ID asks for the
	// account or for any. Listings filter by it.
	Allowed func(p Permission, accountID, zoneID string) bool
}

// Reply is what a handler answers. The zero value is an empty success.
type Reply struct {
	Status   int       // 0 means 200
	Result   any       // becomes "result"
	Info     *PageInfo // becomes "result_info"; nil leaves it out
	Messages []Message // becomes "messages"
	Raw      *Raw      // instead of an envelope: exports, values, streams

	// Upgrade is set with Status 101: once the head, with Header, is sent, the connection is the
	// function's, which ends when ctx does. r holds what the client sent already.
	Upgrade func(ctx context.Context, conn net.Conn, r *bufio.Reader)
	Header  http.Header // of an Upgrade: further fields of the head
}

// PageInfo is the v4 API's result_info. Page and PerPage count from 1.
type PageInfo struct {
	Page       int    `json:"page"`
	PerPage    int    `json:"per_page"`
	TotalPages int    `json:"total_pages"`
	Count      int    `json:"count"`
	TotalCount int    `json:"total_count"`
	Cursor     string `json:"cursor,omitempty"`

	// Objects goes with Cursor in listings of R2's objects.
	Objects *ObjectsInfo `json:"-"`

	// ByCursor says that the listing has a cursor, empty at its end, and no pages.
	ByCursor bool `json:"-"`

	// Cursors is what some listings use instead of pages and of Cursor.
	Cursors *Cursors `json:"cursors,omitempty"`
}

// ObjectsInfo is what a listing of objects says beside its cursor.
type ObjectsInfo struct {
	Truncated bool     `json:"is_truncated"`
	Delimited []string `json:"delimited,omitempty"` // common prefixes
}

// Cursors says where a listing goes on; After is empty at its end.
type Cursors struct {
	After string `json:"after"`
}

// Message is one entry of "errors" or "messages" in the envelope.
type Message struct {
	Code             int     `json:"code"`
	Message          string  `json:"message"`
	DocumentationURL string  `json:"documentation_url,omitempty"`
	Source           *Source `json:"source,omitempty"`
}

// Source names the part of a request's body that a message is about, as a JSON pointer (RFC 6901).
type Source struct {
	Pointer string `json:"pointer"`
}

// Raw is an answer outside of the envelope. Write may stream: it is called once and flushes as it
// goes; it ends when ctx ends.
type Raw struct {
	ContentType string
	Header      http.Header // further fields; nil if none
	Write       func(ctx context.Context, w io.Writer) error
}
