package store

import (
	"context"
	"encoding/binary"
	"time"

	"selvage/engine/state"
	"selvage/foundation/fault"
)

// Expired keys are never shown; how soon they are removed matters for space only.
const (
	lookEvery  = 5 * time.Second
	expireOnce = 500 // keys removed in one step
)

// Run removes what has expired, what was dropped and what a crash left, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	var swept *session
	for {
		if ss, err := s.session(); err == nil {
			left := s.files.pins.Load() == 0 && s.files.left.Swap(false)
			if err := s.keepHouse(ctx, ss, left || ss != swept); err == nil {
				swept = ss
			} else if ctx.Err() == nil && fault.KindOf(err) != fault.Unavailable {
				s.o.Observe.Logger().Error("what is over in KV could not be removed", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-s.wake:
		}
	}
}

func (s *Store) keepHouse(ctx context.Context, ss *session, sweep bool) error {
	if err := s.dropAll(ctx, ss); err != nil {
		return err
	}
	if sweep {
		if err := s.sweep(ctx, ss); err != nil {
			return err
		}
	}
	for {
		more, err := s.expire(ctx, ss)
		if err != nil || !more {
			return err
		}
	}
}

// expire removes keys whose time has come, some at a time.
func (s *Store) expire(ctx context.Context, ss *session) (more bool, err error) {
	from := s.layout.kind(nil, kindDue)
	r := state.Range{Lower: from, Upper: binary.BigEndian.AppendUint64(from[:len(from):len(from)], uint64(s.now())+1)}
	groups := map[Space][]change{}
	n := 0
	for p, err := range ss.db.Scan(r) {
		if err != nil {
			return false, err
		}
		at, sp, key, ok := s.layout.parseDue(p.Key)
		if !ok {
			continue
		}
		groups[sp] = append(groups[sp], change{key: key, due: at})
		if n++; n == expireOnce {
			break
		}
	}
	for sp, changes := range groups {
		if err := s.change(ctx, sp, unique(changes)); err != nil {
			return false, err
		}
		s.metrics.expired.Add(float64(len(changes)))
	}
	return n == expireOnce, nil
}

// unique leaves a key only once: what it leaves out, the next step finds again.
func unique(changes []change) []change {
	seen := make(map[string]bool, len(changes))
	kept := changes[:0]
	for _, c := range changes {
		if !seen[c.key] {
			seen[c.key] = true
			kept = append(kept, c)
		}
	}
	return kept
}
