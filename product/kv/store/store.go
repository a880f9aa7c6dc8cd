// Package store keeps what Workers KV holds: spaces of keys in the order of their octets, each with a
// value, metadata and maybe a time to expire. Small things lie in the node's store, values over 64 KiB in
// files. What was acknowledged is on disk; what is read is, too, so that no power cut takes back what
// somebody has seen. How much there is, is counted with every change and never by looking.
//
// layout.go and record.go say how it lies there, session.go holds what is known of one opening of the
// node's store, hot.go keeps what is read often in memory, write.go changes, read.go reads and lists,
// files.go holds large values, expire.go and drop.go remove what is over.
package store

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/engine/state"
	"selvage/foundation/clock"
	"selvage/foundation/fault"
	"selvage/foundation/observe"
)

// MaxValue is the most bytes of a value.
const MaxValue = 25 << 20

// defaultMemory is what is kept of values in memory.
const defaultMemory = 32 << 20

// Options is what a store is made of.
type Options struct {
	DB     *state.Shared // has to be given
	Prefix string        // of keys in DB
	Dir    string        // of files; has to be given
	Memory int64         // bytes of what is read often; 32 MiB

	// Exists tells whether there is a namespace: what was dropped without one is removed.
	Exists func(Space) bool
	// Allow refuses what would make an account use more than it may; nil allows all.
	Allow func(accountID string, used, more Usage) error

	Observe observe.Observer
	Clock   clock.Clock
}

// Store is safe for concurrent use.
type Store struct {
	o       Options
	layout  layout
	metrics metrics
	files   files
	wake    chan struct{} // has an element when there may be something to expire or to drop

	mu      sync.Mutex // one session begins at a time
	current atomic.Pointer[session]
}

type metrics struct {
	hits    prometheus.Counter
	misses  prometheus.Counter
	expired prometheus.Counter
	damaged prometheus.Counter
	bytes   prometheus.GaugeFunc
}

// New returns the store over what there is.
func New(o Options) (*Store, error) {
	if o.Memory == 0 {
		o.Memory = defaultMemory
	}
	if err := os.MkdirAll(filepath.Join(o.Dir, tempDir), 0o700); err != nil {
		return nil, err
	}
	s := &Store{o: o, layout: layout{o.Prefix}, wake: make(chan struct{}, 1)}
	s.files = files{dir: o.Dir, writing: map[string]bool{}}
	reads := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "selvage_kv_reads_total", Help: "Reads of keys, by where they were found: memory, disk."}, []string{"from"})
	s.metrics = metrics{
		hits: reads.WithLabelValues("memory"), misses: reads.WithLabelValues("disk"),
		expired: prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_kv_expired_total", Help: "Keys removed because their time had come."}),
		damaged: prometheus.NewCounter(prometheus.CounterOpts{Name: "selvage_kv_damaged_total", Help: "Reads of values that were refused because the file is damaged."}),
		bytes: prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "selvage_kv_memory_bytes", Help: "Memory taken by keys that are read often."}, func() float64 {
			if ss := s.current.Load(); ss != nil {
				return float64(ss.hot.bytes())
			}
			return 0
		}),
	}
	o.Observe.Register(reads, s.metrics.expired, s.metrics.damaged, s.metrics.bytes)
	return s, nil
}

// session returns what is known of the node's store as it is open now.
func (s *Store) session() (*session, error) {
	db, err := s.o.DB.DB()
	if err != nil {
		return nil, err
	}
	if ss := s.current.Load(); ss != nil && ss.db == db {
		return ss, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ss := s.current.Load(); ss != nil && ss.db == db {
		return ss, nil
	}
	ss, err := newSession(s, db)
	if err != nil {
		return nil, err
	}
	s.current.Store(ss)
	return ss, nil
}

// Usage returns how much a space holds.
func (s *Store) Usage(sp Space) (Usage, error) {
	ss, err := s.session()
	if err != nil {
		return Usage{}, err
	}
	one, err := ss.space(sp)
	if err != nil {
		return Usage{}, err
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	return one.used, nil
}

// AccountUsage returns how much all spaces of an account hold.
func (s *Store) AccountUsage(accountID string) (Usage, error) {
	sp, err := SpaceOf(accountID, accountID)
	if err != nil {
		return Usage{}, err
	}
	ss, err := s.session()
	if err != nil {
		return Usage{}, err
	}
	a, err := ss.account([16]byte(sp[:16]))
	if err != nil {
		return Usage{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used, nil
}

func (s *Store) now() int64 { return s.o.Clock.Now().Unix() }

// hurry has Run look for work at once.
func (s *Store) hurry() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

var errGone = fault.New(fault.NotFound, "The namespace has been deleted.")

// damage reports what cannot be read.
func (s *Store) damage(sp Space, key string, cause error) error {
	s.metrics.damaged.Inc()
	s.o.Observe.Logger().Error("a value of KV is damaged", "account", sp.Account(), "namespace", sp.Namespace(), "key", key, "error", cause)
	return fault.Wrap(cause, fault.Unavailable, "The value of the key %q is damaged on this node's disk. Put it again.", key)
}
