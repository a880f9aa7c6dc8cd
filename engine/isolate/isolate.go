// Package isolate runs other people's JavaScript: it knows units of programs, the child processes
// they live in, and nothing of Workers as a product. The runtime in the children is workerd; the
// words here are neutral, so that another one could stand behind them.
//
// A Unit is what shares one child: usually one version of one script. Stateless units are immutable:
// another version is another unit, started beside the old one, which falls asleep when nothing asks
// for it. A unit with Objects is exclusive: at no moment do two of its children live.
package isolate

import (
	"context"
	"encoding/json"
	"io"
	"iter"
	"net"
	"time"

	"selvage/engine/isolate/wire"
)

// What is written on the sockets between the node and its children. Scripts see none of it.
const (
	// CFHeader carries request.cf as JSON, to programs and from them to services.
	CFHeader = "x-selvage-cf"
	// ProtoHeader carries the scheme of the URL to services that are not Proxy.
	ProtoHeader = "x-selvage-proto"
	// RPCHost is what a CONNECT names that starts an RPC session, on both sides of a relay.
	RPCHost = "rpc.selvage"

	markHeader = "x-selvage-answer" // only what scripts answered has it
)

// Unit is what shares a child.
type Unit struct {
	Key      string // a unit with the same key and another content takes the place of the old one
	Tenant   string // account ID; a child never holds code of two tenants
	Programs []Program
	Services []Service // what the node offers to it, each at a unix socket of its own
	Objects  string    // directory of the storage of its Durable Objects; empty if there are none
}

// Program is one script, ready to run.
type Program struct {
	Name    string // unique in the unit; the script name in traces
	Version string // goes into traces
	CPU     time.Duration

	Modules            []Module // main module first
	ServiceWorker      bool     // the one module is a script in addEventListener syntax
	CompatibilityDate  string
	CompatibilityFlags []string
	Bindings           []Binding
	Classes            []Class  // Durable Object classes that have a namespace
	Entrypoints        []string // named exports that can be addressed from outside
	Doors              []Door   // further ways in, with props
	Outbound           string   // service that fetch() and connect() go to
	Cache              string   // service behind the Cache API; empty: it is refused
	Trace              string   // service that gets traces as POST / with a JSON array; empty: none are made
}

// Door is a way into a program whose callee finds Props in ctx.props. Address.Entrypoint names it;
// its name must not be that of an entrypoint.
type Door struct {
	Name       string
	Entrypoint string // empty is the default export
	Props      json.RawMessage
}

// Module is one file of a program. Its bytes come from Options.Code when a child is started.
type Module struct {
	Name   string
	Type   string // esm, cjs, text, data, wasm, json, python
	Digest string // hex SHA-256

	source []byte // instead, for modules of our own
}

// Class is a Durable Object class of a program and where its objects live.
type Class struct {
	Name      string
	Namespace string // 32 hex digits: objects and their IDs belong to it
	SQLite    bool   // has the storage.sql API
}

// Binding is one env.NAME. Kind says which other fields count.
type Binding struct {
	Name string
	Kind BindingKind

	Text    string     // Text; JSON: the document
	Data    []byte     // Data, Wasm
	Service string     // Service, Objects...: name in Unit.Services, or of a program of the unit
	Entry   string     // Fetcher to a program of the unit: named export; empty is the default one
	Props   string     // Fetcher to a program of the unit: JSON for ctx.props
	Program string     // Objects: program of the unit that exports the class
	Class   string     // Objects
	Wrapper string     // Wrapped: name of one of our own modules (Options.Modules), or of one of the runtime's
	Inner   []Binding  // Wrapped: what that module gets as its env
	Key     *CryptoKey // Key
	Login   *Login     // Hyperdrive
}

// Login is what a script finds in a Hyperdrive binding: how to log in at the service behind it, which
// the runtime connects to by CONNECT.
type Login struct {
	Scheme   string // postgres, postgresql, mysql
	Database string
	User     string
	Password string
}

// BindingKind says what a binding is.
type BindingKind string

// Kinds of bindings.
const (
	Text      BindingKind = "text"
	JSON      BindingKind = "json"
	Data      BindingKind = "data"
	Wasm      BindingKind = "wasm"
	Key       BindingKind = "key"
	Fetcher   BindingKind = "service"   // fetch and RPC
	Objects   BindingKind = "objects"   // a Durable Object namespace
	KV        BindingKind = "kv"        // the runtime's own client, speaking HTTP to Service
	R2        BindingKind = "r2"        // the same
	Queue     BindingKind = "queue"     // the same
	Analytics BindingKind = "analytics" // the same
	Wrapped   BindingKind = "wrapped"   // an object made by one of our modules

	Hyperdrive BindingKind = "hyperdrive" // a database behind Service
)

// CryptoKey is a key that scripts can use and not read.
type CryptoKey struct {
	Format    string // raw, pkcs8, spki, jwk
	Data      []byte
	Algorithm json.RawMessage
	Usages    []string
}

// Service is something that the node offers at a unix socket that only one child can reach: who
// connects is known by where. Requests carry the URL's host in Host and its scheme in ProtoHeader,
// or with Proxy the whole URL in their first line and no Host, which net/http's server refuses.
type Service struct {
	Name  string
	Proxy bool                                      // requests name the whole URL, as to an HTTP proxy
	RPC   bool                                      // also takes RPC sessions (CONNECT), to be joined to Host.Dial of the callee
	Serve func(ctx context.Context, l net.Listener) // until ctx ends; closes l
}

// Address says where an event goes.
type Address struct {
	Unit       string
	Program    string
	Entrypoint string // or door; empty is the default export
}

// Request is an HTTP request to a program.
type Request struct {
	Method string
	Scheme string // http, https
	Host   string // with port, if one was named
	Target string // path and query, raw
	Header iter.Seq2[string, string]
	Body   io.Reader // nil if there is none
	Length int64     // of the body; -1 unknown
	CF     []byte    // request.cf as JSON; nil: none
	// Upgrade is the protocol asked for, such as "websocket"; empty if none.
	Upgrade string
	// Again tells that the request may be sent a second time if the child dies: it is safe by its
	// method, and its body, if any, can be read again by Rewind.
	Again  bool
	Rewind func() io.Reader
}

// Field is one header field line.
type Field = wire.Field

// Response is what a program answers. Whoever got it closes Body and Tunnel.
type Response struct {
	Status int
	Header []Field
	Length int64 // -1 unknown
	Body   io.ReadCloser
	Tunnel io.ReadWriteCloser // with status 101

	// Exception tells that there is no answer of the script: with status 500 it threw or has no
	// handler, with 400, 431 and 501 the runtime refused the request.
	Exception bool
}

// Event is anything but a request.
type Event struct {
	Scheduled *Scheduled
	Queue     *QueueBatch
	Traces    json.RawMessage // for a tail handler: an array of trace items
}

// Scheduled is a cron event.
type Scheduled struct {
	Cron string
	Time time.Time
}

// QueueBatch is a batch of messages for a consumer.
type QueueBatch struct {
	Queue    string
	Messages []QueueMessage
}

// QueueMessage is one of them.
type QueueMessage struct {
	ID          string
	Timestamp   time.Time
	ContentType string // text, json, bytes, v8
	Body        []byte
	Attempts    int
}

// Outcome is what came of an event.
type Outcome struct {
	Outcome string          `json:"outcome"` // ok, exception, exceededCpu, exceededMemory, canceled, scriptNotFound
	NoRetry bool            `json:"no_retry,omitempty"`
	Error   string          `json:"error,omitempty"`
	Queue   json.RawMessage `json:"queue,omitempty"` // acks and retries of a batch
}

// Exports is what a program turned out to have when it was started once.
type Exports struct {
	Handlers []string
	Named    []Export
	Startup  time.Duration
}

// Export is a named export.
type Export struct {
	Name     string
	Kind     string // entrypoint, object, workflow, other
	Handlers []string
}

// Reason says why a child was stopped or a program could not run.
type Reason string

// Reasons.
const (
	ReasonCPU     Reason = "cpu"     // the request used more CPU than allowed
	ReasonMemory  Reason = "memory"  // the child used more memory than allowed
	ReasonCrash   Reason = "crash"   // the child ended by itself
	ReasonStart   Reason = "start"   // the script threw while starting, or did not start in time
	ReasonKilled  Reason = "killed"  // an operator asked for it
	ReasonMissing Reason = "missing" // the runtime is not installed
)

// Stopped is the error of a request whose child was stopped.
type Stopped struct {
	Reason Reason
	// Culprit tells that this request is, as far as can be known, the cause and not a victim.
	Culprit bool
	Detail  string // for the script's owner: what the runtime said, such as a stack
}

// Error names the reason.
func (s *Stopped) Error() string { return "child stopped: " + string(s.Reason) + ": " + s.Detail }

// Usage is what a unit takes at the moment.
type Usage struct {
	Unit     string        `json:"unit"`
	Tenant   string        `json:"tenant"`
	Children int           `json:"children"`
	Running  int           `json:"running"` // requests under way
	Requests uint64        `json:"requests"`
	CPU      time.Duration `json:"cpu"`
	RSS      int64         `json:"rss"` // bytes
	Kills    uint64        `json:"kills"`
	Since    time.Time     `json:"since"` // start of its oldest child; zero while asleep
}
