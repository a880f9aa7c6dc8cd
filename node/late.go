package node

import (
	"context"
	"sync/atomic"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// lateState is the state as products and the API see it: the store while it is open, and the last
// good snapshot while it is not, so that a node can serve before, without and after its store.
type lateState struct {
	store    atomic.Pointer[product.State] // nil while closed
	fallback atomic.Pointer[spec.Snapshot]
	reason   atomic.Pointer[string]
}

var _ product.State = (*lateState)(nil)

func newLateState() *lateState {
	s := &lateState{}
	s.fallback.Store(spec.NewSnapshot())
	s.close("The configuration store is not open yet: try again.")
	return s
}

// open makes st the state.
func (s *lateState) open(st product.State) { s.store.Store(&st) }

// close goes back to snapshots; reason is what those who want to change something are told.
func (s *lateState) close(reason string) {
	s.reason.Store(&reason)
	if st := s.store.Swap(nil); st != nil {
		s.fallback.Store((*st).Snapshot())
	}
}

// Snapshot returns the newest snapshot known.
func (s *lateState) Snapshot() *spec.Snapshot {
	if st := s.store.Load(); st != nil {
		return (*st).Snapshot()
	}
	return s.fallback.Load()
}

// Update changes the state, or says why that cannot be done now.
func (s *lateState) Update(ctx context.Context, actor spec.Actor, fn func(tx product.Tx) error) error {
	if st := s.store.Load(); st != nil {
		return (*st).Update(ctx, actor, fn)
	}
	return fault.New(fault.Unavailable, "%s", *s.reason.Load())
}
