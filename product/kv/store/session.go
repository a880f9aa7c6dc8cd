package store

import (
	"fmt"
	"sync"
	"sync/atomic"

	"selvage/engine/state"
)

// session is what is known of one opening of the node's store. After a takeover that fails the store is
// opened again, and somebody else may have written.
type session struct {
	s   *Store
	db  *state.DB
	hot *hot

	mu       sync.Mutex // guards the map
	accounts map[[16]byte]*account
}

// account counts what the spaces of an account hold together.
type account struct {
	id string

	mu     sync.Mutex // guards the fields below
	used   Usage
	spaces map[Space]*space
}

// space is one namespace. Its changes are put in order under mu and wait for the disk without it.
type space struct {
	id      Space
	account *account
	last    atomic.Pointer[flight] // the newest change; when it is on disk, all are

	mu   sync.Mutex // guards the fields below, and the order of changes
	used Usage
	gone bool
}

// flight is a change on its way to the disk.
type flight struct {
	done chan struct{} // closed when it is over
	err  error         // valid then
}

func newSession(s *Store, db *state.DB) (*session, error) {
	h, err := newHot(s.o.Memory)
	if err != nil {
		return nil, err
	}
	return &session{s: s, db: db, hot: h, accounts: map[[16]byte]*account{}}, nil
}

// account returns an account with its counts, which are read once.
func (ss *session) account(id [16]byte) (*account, error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if a := ss.accounts[id]; a != nil {
		return a, nil
	}
	a := &account{id: fmt.Sprintf("%x", id), spaces: map[Space]*space{}}
	prefix := append(ss.s.layout.kind(nil, kindCount), id[:]...)
	for p, err := range ss.db.Scan(state.Prefix(prefix)) {
		if err != nil {
			return nil, err
		}
		sp := &space{account: a}
		if copy(sp.id[:], p.Key[len(prefix)-len(id):]) != len(sp.id) {
			return nil, errDamaged
		}
		if sp.used, err = decodeUsage(p.Value); err != nil {
			return nil, err
		}
		a.spaces[sp.id] = sp
		a.used = a.used.Plus(sp.used)
	}
	ss.accounts[id] = a
	return a, nil
}

func (ss *session) space(id Space) (*space, error) {
	a, err := ss.account([16]byte(id[:16]))
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	sp := a.spaces[id]
	if sp == nil {
		sp = &space{id: id, account: a}
		a.spaces[id] = sp
	}
	return sp, nil
}

// take counts what is about to be written, if the account may have it.
func (a *account) take(more Usage, allow func(string, Usage, Usage) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if allow != nil && (more.Bytes > 0 || more.Keys > 0) {
		if err := allow(a.id, a.used, more); err != nil {
			return err
		}
	}
	a.used = a.used.Plus(more)
	return nil
}

// give takes back what take counted.
func (a *account) give(more Usage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.used = a.used.Minus(more)
}
