package store

import "sync"

// using counts who needs content of the volume that the index may not show: readers of an object that was
// replaced meanwhile, and puts whose record is not there yet.
type using struct {
	mu sync.Mutex // guards of
	of map[id]int
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

func (u *using) has(d id) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.of[d] > 0
}
