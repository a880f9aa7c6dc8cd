package product

import (
	"context"
	"net"

	"selvage/edge"
	"selvage/engine/isolate"
	"selvage/spec"
)

// Binder is a product that scripts can use as env.NAME.
type Binder interface {
	Bindings() []BindingType
}

// BindingType is one type of binding, such as kv_namespace.
type BindingType struct {
	Type string // as in the v4 API
	// Check refuses a binding at upload, with a fault that names the field: what it names has to
	// exist and belong to the account.
	Check func(ctx context.Context, accountID string, b *spec.WorkerBinding) error
	// Kind is how the runtime's own client for it is called.
	Kind isolate.BindingKind
	// Wrapper is, with Kind isolate.Wrapped, the module that makes the object which scripts see; it
	// finds the service as env.fetcher.
	Wrapper string
	// Login is, with Kind isolate.Hyperdrive, what scripts read of a binding. It has to be the same each
	// time as long as this process lives and the database's scheme stays.
	Login func(user BindingUser, b *spec.WorkerBinding) isolate.Login

	// Handle returns what answers that client's requests. After a takeover the node has them answered by
	// its successor, so it is right for whatever keeps state. A type has Handle or Serve.
	Handle func(user BindingUser, b *spec.WorkerBinding) edge.Handler
	// Refuse answers that client in the place of Handle, or where that failed, in the form that it
	// makes an exception of: scripts read f's Detail there. Nil for clients that read no answers.
	Refuse func(ex *edge.Exchange, f *edge.Failure)
	// Serve answers that client on a socket that only the script reaches, until ctx ends: for what is
	// not HTTP.
	Serve func(ctx context.Context, user BindingUser, b *spec.WorkerBinding, l net.Listener)
}

// BindingUser says whose binding it is.
type BindingUser struct {
	AccountID string
	Script    string
}
