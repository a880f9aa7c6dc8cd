package store

import (
	"context"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"selvage/engine/state"
	"selvage/engine/volume"
	"selvage/foundation/clock"
	"selvage/foundation/fault"
	"selvage/foundation/observe"
	"selvage/foundation/supervise"
)

const (
	defaultInline    = 64 << 10
	defaultScrubRate = 16 << 20
	stripes          = 1024
)

// Options are what a Store is made of. A field that is zero gets its default.
type Options struct {
	DB     *state.Shared // holds the index; keys begin with Prefix
	Prefix string
	Volume volume.Volume // holds what is not small

	// Event is told what was done, in the order in which it took effect, one call at a time. An event is
	// told again later if it returns an error, and may be told twice if the node ends meanwhile. Default:
	// nobody is told, and nothing is kept.
	Event func(ctx context.Context, e Event) error

	// Notify tells whether anybody wants the events of a bucket; those of others are not kept. It must not
	// block. Default: all are kept if there is an Event.
	Notify func(b Bucket) bool

	// Protect may refuse to have an object that is there replaced or deleted, as lock rules do. It is asked
	// while the key is locked and must not block. Default: all may be.
	Protect func(b Bucket, o *Object) error

	// Admit may refuse a change that grows what a bucket uses, as quotas do; more is what the change adds.
	// It must not block. Default: all may.
	Admit func(b Bucket, more Usage) error

	// Aside is told that the operation under ctx does without the index for a while, which may change hands
	// meanwhile. What it returns, which may stay uncalled, waits until the index is to be had again and tells
	// whether that is by this process. Default: it always is.
	Aside func(ctx context.Context) (back func() (here bool, err error))

	// Elsewhere has the process that has the index Settle what message says, and returns its answer.
	// Required with Aside.
	Elsewhere func(ctx context.Context, message []byte) (answer []byte, err error)

	Inline    int64 // bytes up to which content lies in the index; default 64 KiB
	MinPart   int64 // bytes of all parts but the last; default MinPart
	ScrubRate int64 // bytes a second that the scrubber reads; default 16 MiB

	Observe observe.Observer
	Clock   clock.Clock
}

// Store keeps objects. Safe for concurrent use.
type Store struct {
	o       Options
	seed    maphash.Seed
	keys    [stripes]sync.Mutex // held while a key's record is compared and changed
	current atomic.Pointer[session]
	opening sync.Mutex // one new session at a time
	using   using
	wake    wakes
	buffers buffers
	metrics metrics
	scrub   scrubState
}

// wakes tell background work that there is some.
type wakes struct{ collect, drop, tell chan struct{} }

// New returns the store over what is stored already. Its background work is done by Run.
func New(o Options) *Store {
	if o.Inline == 0 {
		o.Inline = defaultInline
	}
	if o.MinPart == 0 {
		o.MinPart = MinPart
	}
	if o.ScrubRate == 0 {
		o.ScrubRate = defaultScrubRate
	}
	if o.Notify == nil {
		o.Notify = func(Bucket) bool { return true }
	}
	s := &Store{o: o, seed: maphash.MakeSeed(), buffers: newBuffers(o.Inline)}
	s.wake = wakes{make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)}
	s.scrub.ask = make(chan struct{}, 1)
	s.metrics = newMetrics(o.Observe)
	return s
}

// Run collects what is no longer needed, tells events, ends uploads that are too old, and reads all
// content slowly through, until ctx ends. It may run again afterwards.
func (s *Store) Run(ctx context.Context) error {
	g := supervise.New(ctx, s.o.Observe.Logger())
	g.Go("r2 collector", s.collect)
	g.Go("r2 sweeper", s.sweepOften)
	g.Go("r2 drops", s.dropAll)
	g.Go("r2 events", s.tell)
	g.Go("r2 uploads", s.expireOften)
	g.Go("r2 scrubber", s.scrubOften)
	g.Wait()
	return nil
}

func ring(bell chan struct{}) {
	select {
	case bell <- struct{}{}:
	default:
	}
}

// session is what is known of one opening of the index. At a takeover the index is closed, changed by
// another process, and maybe opened again: then nothing that was known holds.
type session struct {
	db *state.DB

	mu     sync.Mutex // guards meters
	meters map[Bucket]*meter

	telling sync.Mutex // held from taking a number of an event to its entry in the log; guards next
	next    uint64     // number of the next event
	durable atomic.Uint64
}

// meter is the use of one bucket.
type meter struct {
	mu      sync.Mutex // held from reading to the new value's entry in the log; guards the fields below
	loaded  bool
	dropped bool
	usage   Usage
}

// session returns that of the index as it is open now. A change has to be begun and committed in the same.
func (s *Store) session() (*session, error) {
	db, err := s.o.DB.DB()
	if err != nil {
		return nil, err
	}
	if now := s.current.Load(); now != nil && now.db == db {
		return now, nil
	}
	s.opening.Lock()
	defer s.opening.Unlock()
	if now := s.current.Load(); now != nil && now.db == db {
		return now, nil
	}
	n := &session{db: db, meters: map[Bucket]*meter{}}
	last := state.Prefix(s.table(tableEvent))
	last.Reverse = true
	for p, err := range db.Scan(last) {
		if err != nil {
			return nil, err
		}
		n.next = eventNumber(p.Key) + 1
		break
	}
	n.durable.Store(n.next)
	s.current.Store(n)
	return n, nil
}

func (n *session) meter(b Bucket) *meter {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.meters[b]
	if m == nil {
		m = &meter{}
		n.meters[b] = m
	}
	return m
}

// load reads the meter. Its lock must be held.
func (s *Store) load(n *session, m *meter, b Bucket) error {
	if m.loaded {
		return nil
	}
	raw, err := n.db.Get(s.bucketKey(tableUsage, b))
	if err != nil {
		return err
	}
	gone, err := n.db.Get(s.bucketKey(tableDropped, b))
	if err != nil {
		return err
	}
	if m.usage, err = decodeUsage(raw); err != nil {
		return err
	}
	m.loaded, m.dropped = true, gone != nil
	return nil
}

// lock holds keys of a bucket until the returned function is called.
func (s *Store) lock(names ...lockName) (unlock func()) {
	if len(names) == 1 {
		mu := &s.keys[s.stripe(names[0])]
		mu.Lock()
		return mu.Unlock
	}
	numbers := make([]int, len(names))
	for i, n := range names {
		numbers[i] = s.stripe(n)
	}
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	for _, i := range numbers {
		s.keys[i].Lock()
	}
	return func() {
		for _, i := range numbers {
			s.keys[i].Unlock()
		}
	}
}

// lockName is a key of an object, or the ID of an upload.
type lockName struct {
	bucket Bucket
	name   string
}

func (s *Store) stripe(n lockName) int {
	return int(maphash.Comparable(s.seed, n) % stripes)
}

// change is a set of changes to one bucket that takes effect as a whole.
type change struct {
	s       *Store
	n       *session
	bucket  Bucket
	batch   *state.Batch
	usage   Usage // to be added
	events  []Event
	garbage bool // it leaves content to collect
	err     error
}

func (s *Store) begin(n *session, b Bucket) *change {
	return &change{s: s, n: n, bucket: b, batch: n.db.NewBatch()}
}

func (c *change) put(key, value []byte) {
	if c.err == nil {
		c.err = c.batch.Put(key, value)
	}
}

func (c *change) delete(key []byte) {
	if c.err == nil {
		c.err = c.batch.Delete(key)
	}
}

// event notes what is done, for whoever wants to know.
func (c *change) event(e Event) {
	if c.s.o.Event != nil && c.s.o.Notify(c.bucket) {
		c.events = append(c.events, e)
	}
}

// applied is a change on its way to the disk.
type applied struct {
	c      *change
	commit *state.Commit
	event  uint64 // number after its last event
}

// apply makes the change visible; wait waits until it is durable. The keys that were compared must be
// locked until apply has returned, and need not be while waiting.
func (c *change) apply() (*applied, error) {
	if c.err != nil {
		c.batch.Drop()
		return nil, c.err
	}
	m := c.n.meter(c.bucket)
	m.mu.Lock()
	defer m.mu.Unlock()
	err := c.s.load(c.n, m, c.bucket)
	if err == nil && m.dropped {
		err = errNoSuchBucket()
	}
	if err == nil {
		err = c.s.admit(c.bucket, c.usage)
	}
	if err != nil {
		c.batch.Drop()
		return nil, err
	}
	total := m.usage.plus(c.usage)
	if err := c.batch.Put(c.s.bucketKey(tableUsage, c.bucket), total.encode()); err != nil {
		c.batch.Drop()
		return nil, err
	}
	a, err := c.log()
	if err != nil {
		return nil, err
	}
	m.usage = total
	return a, nil
}

// log enters the change in the log, with its events.
func (c *change) log() (*applied, error) {
	if len(c.events) == 0 {
		commit, err := c.n.db.Apply(c.batch)
		return &applied{c: c, commit: commit}, err
	}
	c.n.telling.Lock()
	defer c.n.telling.Unlock()
	next := c.n.next
	for i := range c.events {
		if err := c.batch.Put(c.s.eventKey(next), c.events[i].encode()); err != nil {
			c.batch.Drop()
			return nil, err
		}
		next++
	}
	commit, err := c.n.db.Apply(c.batch)
	if err == nil {
		c.n.next = next
	}
	return &applied{c, commit, next}, err
}

// wait returns when the change is on disk.
func (a *applied) wait() error {
	if err := a.commit.Wait(); err != nil {
		return err
	}
	for was := a.c.n.durable.Load(); was < a.event; was = a.c.n.durable.Load() {
		// Changes reach the disk in the order of their numbers.
		if a.c.n.durable.CompareAndSwap(was, a.event) {
			ring(a.c.s.wake.tell)
		}
	}
	if a.c.garbage {
		ring(a.c.s.wake.collect)
	}
	return nil
}

// now is the time in R2's precision.
func (s *Store) now() time.Time { return s.o.Clock.Now().UTC().Truncate(time.Millisecond) }

func (s *Store) explain(err error) error {
	if volume.IsDamage(err) {
		return fault.Wrap(err, fault.Internal, "The content of the object is damaged on this node's disk.").WithCode(CodeInternal)
	}
	return err
}
