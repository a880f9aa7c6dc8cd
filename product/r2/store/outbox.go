package store

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"time"

	"selvage/engine/state"
)

const (
	tellAgain = time.Second // after an event that nobody took
	tellMost  = time.Minute
)

func (e *Event) encode() []byte {
	b, err := json.Marshal(e)
	if err != nil {
		panic(err) // strings, numbers and a time
	}
	return b
}

func eventNumber(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-8:]) }

// tell tells of events that are durable, in their order.
func (s *Store) tell(ctx context.Context) error {
	if s.o.Event == nil {
		return nil
	}
	pause := tellAgain
	for {
		more, err := s.tellSome(ctx)
		if err == nil {
			pause = tellAgain
		}
		if more && err == nil {
			continue
		}
		var again <-chan time.Time
		if err != nil {
			t := time.NewTimer(pause)
			defer t.Stop()
			again, pause = t.C, min(2*pause, tellMost)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake.tell:
		case <-again:
		}
	}
}

// tellSome tells of some events and forgets them; it returns whether there may be more.
func (s *Store) tellSome(ctx context.Context) (more bool, err error) {
	n, err := s.session()
	if err != nil {
		return false, err
	}
	type told struct {
		key   []byte
		event Event
	}
	var some []told
	r := state.Prefix(s.table(tableEvent))
	r.Upper = s.eventKey(n.durable.Load())
	for p, err := range n.db.Scan(r) {
		if err != nil {
			return false, err
		}
		t := told{key: append([]byte{}, p.Key...)}
		if err := json.Unmarshal(p.Value, &t.event); err != nil {
			s.o.Observe.Logger().Error("an event of R2 cannot be read and is dropped", "error", err)
		}
		if some = append(some, t); len(some) == 100 {
			more = true
			break
		}
	}
	if len(some) == 0 {
		return false, nil
	}
	batch := n.db.NewBatch()
	for i := range some {
		if some[i].event.Action != "" {
			if err = s.o.Event(ctx, some[i].event); err != nil {
				break
			}
		}
		if err := batch.Delete(some[i].key); err != nil {
			batch.Drop()
			return false, err
		}
	}
	if batch.Len() == 0 {
		batch.Drop()
		return false, err
	}
	if cerr := n.db.Commit(batch); cerr != nil {
		return false, cerr
	}
	return more, err
}
