// Package s3 is the S3 API of R2 over HTTP: signatures, routing, XML and S3's own words for everything.
// What it serves lies in product/r2/store; whose buckets there are and who may use them it asks
// product/r2. Where AWS and R2 differ it does as R2.
package s3

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"runtime/debug"
	"time"

	"selvage/foundation/clock"
	"selvage/foundation/observe"
	"selvage/product/r2/store"
	"selvage/spec"
)

// Bounds of connections.
const (
	headWithin  = 30 * time.Second // for the whole head of a request
	idleFor     = 2 * time.Minute  // between two requests
	maxHead     = 64 << 10         // bytes; presigned URLs of temporary credentials are long
	finishIn    = 25 * time.Second // that requests under way have when the server is told to end, by default
	writeWithin = 2 * time.Minute  // for each step of an answer
)

// Options say what the front stands on. All but Observe and Clock are required.
type Options struct {
	Objects *store.Store
	Buckets Buckets
	// Lookup returns what an access key ID stands for when it is used from an address. session is the token
	// of a temporary credential, empty if none came. A *Error is told to the client as it is.
	Lookup func(id, session string, from netip.Addr) (*Credential, error)
	// Enter is asked at each request who has the objects' index, which changes hands at a takeover; it may
	// wait. An error turns the request away. Default: this process has it.
	Enter func(ctx context.Context) (Entry, error)
	// Finish is how long requests under way have when Serve is told to end; default 25 seconds.
	Finish  time.Duration
	Observe observe.Observer
	Clock   clock.Clock
}

// Buckets is where buckets are found, made and changed.
type Buckets interface {
	// Snapshot returns the accounts and buckets there are.
	Snapshot() *spec.Snapshot
	// Create makes a bucket; one of that name that is there already is a fault with code 10004.
	Create(ctx context.Context, actor spec.Actor, b *spec.Bucket) error
	// Delete removes a bucket; one that holds objects is a fault with code 10008.
	Delete(ctx context.Context, actor spec.Actor, b *spec.Bucket) error
	// Edit changes a copy of a bucket and stores that.
	Edit(ctx context.Context, actor spec.Actor, b *spec.Bucket, change func(b *spec.Bucket)) error
}

// Entry is how a request goes on.
type Entry struct {
	Context   context.Context //nolint:containedctx // of this one request, in the place of its own
	Leave     func()          // to be called at its end
	Elsewhere http.Handler    // of the process that has the index, if that is another: then nothing else is set
}

// Server answers S3 clients. Safe for concurrent use.
type Server struct {
	o       Options
	keys    keyCache
	metrics *metrics
}

var _ http.Handler = (*Server)(nil)

// New returns a server over o.
func New(o Options) *Server {
	o.Finish = cmp.Or(o.Finish, finishIn)
	return &Server{o: o, metrics: newMetrics(o.Observe)}
}

// request is one request on its way through.
type request struct {
	*target
	s      *Server
	w      *answer
	r      *http.Request
	id     string
	start  time.Time
	client netip.Addr

	op      *operation
	sign    *signature
	cred    *Credential
	account string       // whose buckets it is about; empty until it is known
	found   *spec.Bucket // that it is about; nil if it is about the account or makes the bucket
	body    *body
}

// ServeHTTP answers one request. Refusals are XML in S3's words.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e, refusal := s.enter(r.Context())
	if e.Elsewhere != nil {
		e.Elsewhere.ServeHTTP(w, r)
		return
	}
	defer e.Leave()
	r = r.WithContext(e.Context)
	x := &request{s: s, r: r, id: requestID(), start: s.o.Clock.Now(), client: peer(r)}
	x.w = newAnswer(w, r.Method == http.MethodHead)
	h := x.w.Header()
	h["X-Amz-Request-Id"] = []string{x.id}
	defer x.note()
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler {
			x.w.aborted = true
			panic(p)
		}
		x.fail(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
	}()
	err := refusal
	if err == nil {
		err = x.handle()
	}
	if err != nil {
		x.fail(err)
	}
	x.w.finish(r.ContentLength != 0 && (x.body == nil || x.body.unread()))
}

// enter asks who has the index. An entry that is refused can be used as any other.
func (s *Server) enter(ctx context.Context) (Entry, error) {
	if s.o.Enter == nil {
		return Entry{Context: ctx, Leave: func() {}}, nil
	}
	e, err := s.o.Enter(ctx)
	if err != nil {
		return Entry{Context: ctx, Leave: func() {}}, err
	}
	return e, nil
}

// handle lets the request in, or refuses it: first who sent it is looked at, then what it is about,
// then what it asks for.
func (x *request) handle() error {
	snap := x.s.o.Buckets.Snapshot()
	t, refusal := readTarget(x.r, func(id string) bool { return snap.Accounts[id] != nil })
	if refusal != nil {
		x.target = &target{rawPath: x.r.URL.Path}
		return refusal
	}
	x.target = t
	if x.r.Method == http.MethodOptions {
		return x.preflight(snap)
	}
	if x.formUpload() {
		return notImplemented("Presigned post requests are not yet implemented")
	}
	if err := x.admit(); err != nil {
		return err
	}
	if err := x.findBucket(snap); err != nil {
		return err
	}
	x.allowOrigin()
	op, refusal := x.detect()
	if refusal != nil {
		return refusal
	}
	x.op = op
	if refusal := x.screen(); refusal != nil {
		return refusal
	}
	if err := x.permit(); err != nil {
		return err
	}
	return op.handle(x)
}

// formUpload tells whether this is a browser's form upload, which carries its signature in the form.
func (x *request) formUpload() bool {
	return x.r.Method == http.MethodPost && x.bucket != "" && x.key == "" && !x.query.Has("delete") &&
		x.r.Header.Get("Authorization") == "" && !x.query.Has(queryCredential)
}

// fail answers with what went wrong, or breaks the connection off if an answer has begun.
func (x *request) fail(err error) {
	e := asError(err)
	if e == nil {
		if x.r.Context().Err() != nil {
			e = refuse(http.StatusBadRequest, "ClientDisconnect", "The client disconnected before the request was complete.")
		} else {
			x.s.o.Observe.Logger().Error("s3 request failed", "id", x.id, "operation", x.operation(), "error", err)
			e = refuse(http.StatusInternalServerError, "InternalError", "We encountered an internal error. Please try again.")
		}
	}
	x.w.code = e.Code
	if x.w.wrote {
		x.w.aborted = true
		panic(http.ErrAbortHandler)
	}
	h := x.w.Header()
	for _, name := range []string{"Etag", "Last-Modified", "Content-Range", "Content-Length", "Accept-Ranges", "Content-Encoding", "Cache-Control", "Content-Disposition", "Content-Language", "Expires"} {
		h.Del(name)
	}
	if x.body.unread() {
		h.Set("Connection", "close") // what is left of the body would be taken for the next request
	}
	if e.Status == http.StatusNotModified {
		x.w.WriteHeader(e.Status)
		return
	}
	x.w.xml(e.Status, errorDocument(e, x.rawPath, x.id))
}

// operation names what the request asks for, for people.
func (x *request) operation() string {
	if x.op == nil {
		return "unknown"
	}
	return x.op.name
}

func peer(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

func requestID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
