package storage

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"selvage/edge"
	"selvage/product/cache/semantics"
)

// maxVariants is the most responses kept for one key; the oldest go first. Without a bound, a Vary
// on User-Agent would make one key as long to search as there are browsers.
const maxVariants = 64

// memory is the first tier, in shards so that cores do not wait for each other.
type memory struct {
	shards  [16]shard
	evicted atomic.Uint64
}

type shard struct {
	mu     sync.RWMutex // guards the fields below
	keys   map[Key]*bucket
	policy policy[*slot]
}

// bucket holds the variants of a key, the newest first.
type bucket struct{ slots []*slot }

type slot struct {
	entry  entry[*slot]
	object *Object
}

func newMemory(limit int64) *memory {
	m := &memory{}
	for i := range m.shards {
		s := &m.shards[i]
		s.keys = map[Key]*bucket{}
		s.policy.limit = limit / int64(len(m.shards))
		s.policy.evict = func(e *entry[*slot]) {
			m.evicted.Add(1)
			s.unlist(e.value)
		}
	}
	return m
}

func (m *memory) shard(key *Key) *shard { return &m.shards[key[0]&15] }

// lookup returns the newest variant that request selects, or nil.
func (m *memory) lookup(key *Key, request *edge.Header) *Object {
	s := m.shard(key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	b := s.keys[*key]
	if b == nil {
		return nil
	}
	for _, sl := range b.slots {
		if o := sl.object; semantics.Selects(o.Vary, o.Selected, request) {
			sl.entry.touch()
			return o
		}
	}
	return nil
}

// put stores an object in the place of the same variant.
func (m *memory) put(o *Object) {
	s := m.shard(&o.Key)
	cost := o.cost()
	s.mu.Lock()
	defer s.mu.Unlock()
	if cost > s.policy.limit {
		return
	}
	b := s.keys[o.Key]
	if b == nil {
		b = &bucket{}
		s.keys[o.Key] = b
	}
	variant, freq := o.variant(), int32(0)
	for _, sl := range b.slots {
		if sl.object.variant() == variant {
			freq = sl.entry.freq.Load()
			s.drop(sl)
			break
		}
	}
	if len(b.slots) >= maxVariants {
		s.drop(b.slots[len(b.slots)-1])
	}
	sl := &slot{object: o}
	sl.entry.value, sl.entry.cost = sl, cost
	sl.entry.freq.Store(freq)
	sl.entry.id = binary.LittleEndian.Uint64(o.Key[8:]) ^ variant
	// The bucket may have been emptied and unlisted by drop.
	s.keys[o.Key] = b
	b.slots = append([]*slot{sl}, b.slots...)
	s.policy.add(&sl.entry)
}

// remove takes one object out, if it is still the one stored.
func (m *memory) remove(o *Object) {
	s := m.shard(&o.Key)
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.keys[o.Key]
	if b == nil {
		return
	}
	for _, sl := range b.slots {
		if sl.object == o {
			s.drop(sl)
			return
		}
	}
}

// removeKey takes every variant of a key out.
func (m *memory) removeKey(key *Key) {
	s := m.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.keys[*key]; b != nil {
		for _, sl := range b.slots {
			s.policy.remove(&sl.entry)
		}
		delete(s.keys, *key)
	}
}

// drop takes a slot off the policy and its bucket; s.mu is held.
func (s *shard) drop(sl *slot) {
	s.policy.remove(&sl.entry)
	s.unlist(sl)
}

func (s *shard) unlist(sl *slot) {
	key := sl.object.Key
	b := s.keys[key]
	if b == nil {
		return
	}
	for i, other := range b.slots {
		if other == sl {
			b.slots = append(b.slots[:i:i], b.slots[i+1:]...)
			break
		}
	}
	if len(b.slots) == 0 {
		delete(s.keys, key)
	}
}

// each calls f for every object of a copy of each shard's list.
func (m *memory) each(f func(*Object)) {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.RLock()
		all := make([]*Object, 0, len(s.keys))
		for _, b := range s.keys {
			for _, sl := range b.slots {
				all = append(all, sl.object)
			}
		}
		s.mu.RUnlock()
		for _, o := range all {
			f(o)
		}
	}
}

// size returns bytes and objects held.
func (m *memory) size() (bytes, objects int64) {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.RLock()
		bytes += s.policy.used
		objects += int64(s.policy.small.n + s.policy.main.n)
		s.mu.RUnlock()
	}
	return bytes, objects
}
