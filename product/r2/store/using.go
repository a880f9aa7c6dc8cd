package store

import "sync"

// using counts who needs content of the volume that the index may not show: readers of an object that was
// replaced meanwhile, and puts whose record is not there yet.
type using struct {
	mu   sync.Mutex // guards the fields below
	of   map[id]int
	pins int // backups under way
}

// Pin keeps content in the volume, also when nothing needs it any more, until unpin is called once: a
// backup copies the index first and the volume afterwards.
func (s *Store) Pin() (unpin func()) {
	s.using.mu.Lock()
	defer s.using.mu.Unlock()
	s.using.pins++
	return func() {
		s.using.mu.Lock()
		defer s.using.mu.Unlock()
		s.using.pins--
	}
}

func (u *using) add(segments []segment) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.of == nil {
		u.of = map[id]int{}
	}
	for i := range segments {
		u.of[segments[i].id]++
	}
}

func (u *using) done(segments []segment) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range segments {
		d := segments[i].id
		if u.of[d]--; u.of[d] == 0 {
			delete(u.of, d)
		}
	}
}

// has tells whether somebody needs content, or may need all.
func (u *using) has(d id) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.of[d] > 0 || u.pins > 0
}
