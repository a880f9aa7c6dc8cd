// Package r2 is R2: buckets of objects, for S3 clients, Workers and the web. buckets.go, rules.go,
// domains.go, notifications.go and objects.go are its API, binding.go and wire.go answer the runtime's
// client, phase.go is the origin of public buckets; objects themselves are kept by the package store.
package r2

import (
	"cmp"
	"context"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/edge"
	"selvage/engine/seal"
	"selvage/engine/state"
	"selvage/engine/volume"
	"selvage/foundation/clock"
	"selvage/foundation/fault"
	"selvage/foundation/observe"
	"selvage/foundation/supervise"
	"selvage/product"
	"selvage/product/r2/s3"
	"selvage/product/r2/store"
	"selvage/spec"
)

// Options is what R2 is made of. A field that is zero gets its default.
type Options struct {
	State  product.State
	DB     *state.Shared // of the node; keys of R2 begin with Prefix
	Dir    string        // holds the content of objects
	Seal   *seal.Key     // of temporary credentials; nil: there are none
	Volume volume.Volume // for the content of objects in place of Dir

	// Keys returns the API token with an ID for a client at an address that signs requests with it; a
	// fault.Unauthenticated says that it cannot be used. nil: S3 clients are not let in.
	Keys func(id string, from netip.Addr) (*product.SigningKey, error)

	Domain      string   // of buckets' own names; r2.localhost
	NameServers []string // of the zones of those names

	// Notify puts a message about an object into a queue. A fault.NotFound says that there is no such
	// queue; after other errors it is called again. nil: nobody is notified.
	Notify func(ctx context.Context, accountID, queueID string, body []byte) error

	// Hands is how the index of objects changes hands between processes at a takeover; nil: it does not.
	Hands *Hands
	// Finish is how long requests of S3 clients have to finish when the node ends; default 25 seconds.
	Finish time.Duration

	Observe observe.Observer
	Clock   clock.Clock
}

// Hands is how requests that take long go on while the index of objects changes hands.
type Hands struct {
	// Enter is asked at each request of an S3 client who has the index.
	Enter func(ctx context.Context) (s3.Entry, error)
	// Public answers a request at a bucket's public name with own, or has the process that has the index do
	// that with AnswerPublic.
	Public func(ctx context.Context, ex *edge.Exchange, at PublicName, own edge.Handler) error
	// Aside and Elsewhere are those of store.Options; Elsewhere has the process that has the index Settle.
	Aside     func(ctx context.Context) (back func() (here bool, err error))
	Elsewhere func(ctx context.Context, message []byte) (answer []byte, err error)
}

// R2 is the product. Safe for concurrent use.
type R2 struct {
	o       Options
	objects *store.Store
	front   *s3.Server
	current atomic.Pointer[table]
	quotas  quotas
	metrics *metrics
	due     chan struct{} // rung when lifecycle rules changed
}

// New returns R2 over what is stored already.
func New(o Options) (*R2, error) {
	o.Domain = cmp.Or(o.Domain, "r2.localhost")
	if o.Volume == nil {
		v, err := volume.OpenLocal(filepath.Join(o.Dir, "objects"), volume.LocalOptions{})
		if err != nil {
			return nil, err
		}
		o.Volume = v
	}
	p := &R2{o: o, metrics: newMetrics(o.Observe), due: make(chan struct{}, 1)}
	p.quotas = newQuotas(p)
	if o.Hands == nil {
		o.Hands = &Hands{}
	}
	p.objects = store.New(store.Options{
		DB: o.DB, Prefix: Prefix, Volume: o.Volume, Event: p.tell, Notify: p.wanted, Protect: p.protect, Admit: p.admit,
		Aside: o.Hands.Aside, Elsewhere: o.Hands.Elsewhere, Observe: o.Observe, Clock: o.Clock,
	})
	p.front = s3.New(s3.Options{
		Objects: p.objects, Buckets: buckets{p}, Lookup: p.Lookup, Enter: o.Hands.Enter, Finish: o.Finish, Observe: o.Observe, Clock: o.Clock,
	})
	p.current.Store(&table{})
	return p, nil
}

// Name returns "r2".
func (p *R2) Name() string { return "r2" }

// Prepare finds out which buckets there are and where they are public.
func (p *R2) Prepare(_ context.Context, next *spec.Snapshot) (product.Change, error) {
	t := p.with(*p.current.Load(), next)
	return product.Commit(func() { p.current.Store(&t) }), nil
}

// Run does background work until ctx ends.
func (p *R2) Run(ctx context.Context) error {
	g := supervise.New(ctx, p.o.Observe.Logger())
	g.Go("r2 objects", p.objects.Run)
	g.Go("r2 lifecycle", p.lifecycle)
	g.Wait()
	return nil
}

// Routes serves the API.
func (p *R2) Routes() []product.Route {
	var all []product.Route
	for _, part := range [][]product.Route{
		p.bucketRoutes(), p.ruleRoutes(), p.domainRoutes(), p.objectRoutes(), p.notificationRoutes(), p.credentialRoutes(), p.usageRoutes(), p.scrubRoutes(),
	} {
		all = append(all, part...)
	}
	return all
}

var (
	_ product.Resourcer = (*R2)(nil)
	_ product.Binder    = (*R2)(nil)
	_ product.Metered   = (*R2)(nil)
	_ product.Phaser    = (*R2)(nil)
	_ product.Grapher   = (*R2)(nil)
)

// Settle enters an object that another process has taken in, as its Hands.Elsewhere says.
func (p *R2) Settle(ctx context.Context, message []byte) (answer []byte, err error) {
	return p.objects.Settle(ctx, message)
}

// Prefix is how keys of R2 in the node's store begin.
const Prefix = "r/"

// idOf names a bucket for the store.
func idOf(b *spec.Bucket) store.Bucket { return store.Bucket{Account: b.AccountID, ID: b.ID} }

// protect keeps what a bucket's lock rules keep.
func (p *R2) protect(id store.Bucket, o *store.Object) error {
	b := p.current.Load().bucket(id)
	if b == nil || len(b.Lock) == 0 {
		return nil
	}
	if r := b.Locked(o.Key, o.Uploaded, p.o.Clock.Now()); r != nil {
		return fault.New(fault.Denied, "The object is locked by the bucket's lock rule %.80q and can be neither replaced nor deleted.", r.ID).WithCode(codeLocked)
	}
	return nil
}

// codeLocked is Cloudflare's for an object that a bucket lock keeps.
const codeLocked = 10069

type metrics struct {
	operations *prometheus.CounterVec
	failures   *prometheus.CounterVec
	messages   *prometheus.CounterVec
	lifecycle  *prometheus.CounterVec
}

func newMetrics(o observe.Observer) *metrics {
	m := &metrics{
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_r2_operations_total", Help: "Operations on objects, by where they came from (binding, public, api) and what they did."}, []string{"via", "operation"}),
		failures:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_r2_failures_total", Help: "Operations on objects that failed, by kind of fault; those that found nothing or lost a condition are not counted."}, []string{"kind"}),
		messages:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_r2_notifications_total", Help: "Messages about objects for queues, by what became of them: sent, lost (there is no such queue), failed (and tried again)."}, []string{"outcome"}),
		lifecycle:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_r2_lifecycle_total", Help: "What lifecycle rules did: expired, aborted, transitioned."}, []string{"action"}),
	}
	o.Register(m.operations, m.failures, m.messages, m.lifecycle)
	return m
}

// operation counts one; names that are not R2's count as other.
func (m *metrics) operation(via, name string) {
	switch name {
	case "head", "get", "put", "list", "delete", "options", "createMultipartUpload", "uploadPart", "completeMultipartUpload", "abortMultipartUpload":
	default:
		name = "other"
	}
	m.operations.WithLabelValues(via, name).Inc()
}

func (m *metrics) failed(err error) {
	if code := store.CodeOf(err); code != store.CodeNoSuchKey && code != store.CodePreconditionFailed {
		m.failures.WithLabelValues(fault.KindOf(err).String()).Inc()
	}
}
