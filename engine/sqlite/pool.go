package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"selvage/foundation/fault"
)

// acquire returns the open database of that name, opening it and closing an idle one where there is no room. Release it.
func (s *Store) acquire(ctx context.Context, name string) (*database, error) {
	for {
		d, victim, wait, err := s.claim(name)
		switch {
		case err != nil:
			return nil, err
		case d != nil:
			if err := d.await(ctx); err != nil {
				s.release(d)
				return nil, err
			}
			return d, nil
		case victim != nil:
			if err := s.shut(victim); err != nil {
				s.o.Observe.Logger().Error("close database", "name", victim.name, "error", err)
			}
		default:
			if err := s.waitRoom(ctx, wait); err != nil {
				return nil, err
			}
		}
	}
}

func (s *Store) waitRoom(ctx context.Context, changed <-chan struct{}) error {
	late := time.NewTimer(s.o.Limits.Duration)
	defer late.Stop()
	select {
	case <-changed:
		return nil
	case <-late.C:
		return ErrOverloaded
	case <-ctx.Done():
		return overloaded(ctx)
	}
}

// claim returns the database with one user more, or an idle one to close first, or when to ask again.
func (s *Store) claim(name string) (d, victim *database, wait <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, nil, errStopping
	}
	if d := s.open[name]; d != nil {
		if d.closing || d.ending.Load() {
			return nil, nil, s.change(), nil
		}
		d.users++
		d.used = time.Now()
		return d, nil, nil, nil
	}
	dir, err := s.dir(name)
	if err != nil {
		return nil, nil, nil, err
	}
	if len(s.open) >= s.o.MaxOpen {
		for _, o := range s.open {
			if o.users == 0 && !o.closing && (victim == nil || o.used.Before(victim.used)) {
				victim = o
			}
		}
		if victim != nil {
			victim.closing = true
			return nil, victim, nil, nil
		}
		return nil, nil, s.change(), nil
	}
	d = &database{s: s, name: name, dir: dir, ready: make(chan struct{})}
	d.users, d.used = 1, time.Now()
	s.open[name] = d
	s.work.Add(1)
	go func() {
		defer s.work.Done()
		d.failure = d.start(s.life)
		s.mu.Lock()
		d.opened = d.failure == nil
		if d.failure != nil {
			delete(s.open, name)
			s.wake()
		}
		s.mu.Unlock()
		close(d.ready)
	}()
	return d, nil, nil, nil
}

// await waits until the database is open.
func (d *database) await(ctx context.Context) error {
	select {
	case <-d.ready:
	case <-ctx.Done():
		return overloaded(ctx)
	}
	if errors.Is(d.failure, fs.ErrNotExist) {
		return notFound(d.name)
	}
	return d.explain(d.failure)
}

func (s *Store) release(d *database) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.users--
	d.used = time.Now()
	if d.users == 0 {
		s.wake()
	}
}

// wake wakes those who wait for room. s.mu is held.
func (s *Store) wake() {
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
}

// change returns what is closed at the next wake. s.mu is held.
func (s *Store) change() <-chan struct{} {
	if s.changed == nil {
		s.changed = make(chan struct{})
	}
	return s.changed
}

// shut closes a database that was marked as closing and has no users.
func (s *Store) shut(d *database) error {
	<-d.ready
	err := d.stop()
	s.mu.Lock()
	delete(s.open, d.name)
	s.wake()
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("close database %s: %w", d.name, err)
	}
	return nil
}

// alone closes the database and keeps it closed until release.
func (s *Store) alone(ctx context.Context, name string) (release func(), err error) {
	dir, err := s.dir(name)
	if err != nil {
		return nil, err
	}
	held := &database{s: s, name: name, dir: dir, ready: make(chan struct{})}
	held.closing = true
	close(held.ready)
	for {
		s.mu.Lock()
		d, wait := s.open[name], s.change()
		if d == nil {
			s.open[name] = held
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				delete(s.open, name)
				s.wake()
				s.mu.Unlock()
			}, nil
		}
		mine := d.users == 0 && !d.closing
		if mine {
			d.closing = true
		} else if !d.closing {
			d.ending.Store(true)
		}
		s.mu.Unlock()
		if mine {
			if err := s.shut(d); err != nil {
				s.o.Observe.Logger().Error("close database", "name", name, "error", err)
			}
			continue
		}
		select {
		case <-wait:
		case <-ctx.Done():
			if d != nil {
				d.ending.Store(false)
			}
			return nil, overloaded(ctx)
		}
	}
}

// ErrOverloaded says that a request waited for too long.
var ErrOverloaded = fault.New(fault.Unavailable, "D1 DB is overloaded. Requests queued for too long.")

func overloaded(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return ErrOverloaded
}
