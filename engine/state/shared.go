package state

import (
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/foundation/fault"
)

// Shared is a store that changes hands between processes: it is opened when it is free and closed for
// a successor, and products that hold it go on holding it. Safe for concurrent use.
type Shared struct {
	dir     string
	o       Options
	db      atomic.Pointer[DB]
	metrics atomic.Pointer[prometheus.Registry]

	mu  sync.Mutex // one opening or closing at a time
	why atomic.Pointer[fault.Error]
}

// NewShared returns the store in dir, not yet open.
func NewShared(dir string, o Options) *Shared {
	s := &Shared{dir: dir, o: o}
	s.why.Store(fault.New(fault.Unavailable, "The store in %s is not open yet: try again.", dir))
	return s
}

// DB returns the open store, or a fault.Unavailable that says why it is not.
func (s *Shared) DB() (*DB, error) {
	if db := s.db.Load(); db != nil {
		return db, nil
	}
	return nil, s.why.Load()
}

// Open opens the store; nothing happens if it is open. After an error DB returns that.
func (s *Shared) Open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db.Load() != nil {
		return nil
	}
	o := s.o
	registry := prometheus.NewRegistry()
	o.Observe.Metrics = registry
	db, err := Open(s.dir, o)
	if err != nil {
		reason := fault.Wrap(err, fault.Unavailable, "The store in %s cannot be opened; the node's log says why.", s.dir)
		if all := fault.All(err); len(all) > 0 {
			reason = fault.Wrap(err, fault.Unavailable, "%s", all[0].Message)
		}
		s.why.Store(reason)
		return err
	}
	s.metrics.Store(registry)
	s.db.Store(db)
	return nil
}

// Close waits for what is under way and closes the store, which may be opened again by anybody.
// reason is what those who use it meanwhile are told.
func (s *Shared) Close(reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	db := s.db.Swap(nil)
	s.why.Store(fault.New(fault.Unavailable, "%s", reason))
	if db == nil {
		return nil
	}
	return db.Close()
}

// Metrics returns those of this opening; nil while it is closed.
func (s *Shared) Metrics() *prometheus.Registry { return s.metrics.Load() }
