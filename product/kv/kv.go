// Package kv is Workers KV: namespaces of keys and values that are read far more often than written.
// store keeps them; here are the API (namespaces.go, values.go, bulk.go), the binding of scripts
// (binding.go) and the rules for what both take (check.go).
package kv

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/edge"
	"selvage/engine/isolate"
	"selvage/engine/state"
	"selvage/foundation/clock"
	"selvage/foundation/fault"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/product/kv/store"
	"selvage/spec"
)

// Prefix is how keys of KV in the node's store begin.
const Prefix = "k/"

// Options is what KV is made of. A field that is zero gets its default.
type Options struct {
	State   product.State
	DB      *state.Shared // of the node; keys of KV begin with Prefix
	Dir     string        // holds large values
	Memory  int64         // bytes of keys that are read often; 32 MiB
	Observe observe.Observer
	Clock   clock.Clock
}

// KV is the product. Safe for concurrent use.
type KV struct {
	o          Options
	store      *store.Store
	bulk       chan struct{} // has an element for each large request that is worked on
	coming     coming
	operations *prometheus.CounterVec
	quotas     quotas
}

var (
	_ product.Product   = (*KV)(nil)
	_ product.Resourcer = (*KV)(nil)
	_ product.Binder    = (*KV)(nil)
	_ product.Metered   = (*KV)(nil)
)

// maxBulk is how many requests that may take 100 MB are worked on at once, and how many of an account come in
// at once; others wait.
const maxBulk = 4

// New returns KV over what is stored already.
func New(o Options) (*KV, error) {
	p := &KV{o: o, bulk: make(chan struct{}, maxBulk)}
	p.operations = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_kv_operations_total", Help: "Operations on keys, by way in (binding, api), operation and outcome (ok, none, refused, failed)."}, []string{"from", "operation", "outcome"})
	o.Observe.Register(p.operations)
	p.quotas = p.newQuotas()
	var err error
	p.store, err = store.New(store.Options{
		DB: o.DB, Prefix: Prefix, Dir: o.Dir, Memory: o.Memory, Exists: p.existsSpace, Allow: p.quotas.allow, Observe: o.Observe, Clock: o.Clock,
	})
	return p, err
}

// Name returns "kv".
func (p *KV) Name() string { return "kv" }

// Prepare has nothing to prepare: what namespaces there are is looked up with each operation.
func (p *KV) Prepare(context.Context, *spec.Snapshot) (product.Change, error) {
	return product.Commit(func() {}), nil
}

// Run removes what has expired or was deleted until ctx ends.
func (p *KV) Run(ctx context.Context) error { return p.store.Run(ctx) }

// Bindings returns the binding type kv_namespace.
func (p *KV) Bindings() []product.BindingType {
	return []product.BindingType{{
		Type: "kv_namespace", Kind: isolate.KV,
		Check: func(_ context.Context, accountID string, b *spec.WorkerBinding) error {
			if p.exists(accountID, b.NamespaceID) {
				return nil
			}
			return fault.New(fault.Invalid, "KV namespace '%.64s' is not valid. Please verify the namespace_id in your configuration.", b.NamespaceID).WithCode(10042)
		},
		Handle: func(user product.BindingUser, b *spec.WorkerBinding) edge.Handler {
			sp, err := store.SpaceOf(user.AccountID, b.NamespaceID)
			bound := &bound{p: p, space: sp, account: user.AccountID, namespace: b.NamespaceID, valid: err == nil}
			return bound.handle
		},
		Refuse: func(ex *edge.Exchange, f *edge.Failure) { refuse(ex, f.Status, f.Detail) },
	}}
}

// exists tells whether an account has a namespace.
func (p *KV) exists(accountID, namespaceID string) bool {
	return p.o.State.Snapshot().StorageOf(accountID).Namespaces[namespaceID] != nil
}

func (p *KV) existsSpace(sp store.Space) bool { return p.exists(sp.Account(), sp.Namespace()) }

// count counts an operation by how it ended.
func (p *KV) count(from, operation string, none bool, err error) {
	outcome := "ok"
	switch {
	case err == nil && none:
		outcome = "none"
	case err != nil && (fault.KindOf(err) == fault.Internal || fault.KindOf(err) == fault.Unavailable):
		outcome = "failed"
	case err != nil:
		outcome = "refused"
	}
	p.operations.WithLabelValues(from, operation, outcome).Inc()
}
