package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"selvage/engine/state"
	"selvage/foundation/clock"
	"selvage/foundation/fault"
	"selvage/spec"
)

const (
	defaultAuditAge     = 30 * 24 * time.Hour
	defaultAuditEntries = 100_000
	trimEvery           = 10 * time.Minute
	entryIDBytes        = 16
)

// entryHead is what all entries of one transaction share.
type entryHead struct {
	When    time.Time
	Actor   spec.Actor
	Version uint64
	Index   uint32 // of the entry in its transaction
}

// of returns the entry of one change, without Old and New.
func (h entryHead) of(t *tx, c *change) *spec.AuditEntry {
	e := &spec.AuditEntry{ID: hex.EncodeToString(h.key()[len(auditPrefix):]), Version: h.Version, When: h.When, Actor: h.Actor, Action: "update", Kind: c.key.Kind, NounID: c.key.ID}
	noun := c.new
	switch {
	case c.old == nil:
		e.Action = "create"
	case c.new == nil:
		e.Action, noun = "delete", c.old
	}
	switch n := noun.(type) {
	case *spec.Account:
		e.Account = n.ID
	case *spec.Token:
		e.Account = n.AccountID
	case *spec.OriginCertificate:
		e.Account = n.AccountID
	case *spec.Zone:
		e.Account, e.Zone, e.Name = n.AccountID, n.ID, n.Name
	default:
		findOwner(e, t, c.key.Scope)
	}
	return e
}

// key orders entries by time: 7 bytes of microseconds last until the year 4253, 5 bytes of version
// for 10,000 changes a second over three years, and 4 bytes for the entries of one change.
func (h entryHead) key() []byte {
	k := slices.Clone(auditPrefix)
	micros := binary.BigEndian.AppendUint64(nil, uint64(max(0, h.When.UnixMicro())))
	version := binary.BigEndian.AppendUint64(nil, h.Version)
	k = append(append(k, micros[1:]...), version[3:]...)
	return binary.BigEndian.AppendUint32(k, h.Index)
}

// findOwner names the zone or account that a scope stands for, even if this change deletes it.
func findOwner(e *spec.AuditEntry, t *tx, scope string) {
	key := spec.Key{Kind: spec.KindZone, ID: scope}
	n := t.get(key)
	if n == nil {
		n = t.nouns.get(key)
	}
	if z, ok := n.(*spec.Zone); ok {
		e.Account, e.Zone, e.Name = z.AccountID, z.ID, z.Name
		return
	}
	e.Account = scope
}

// putEntry writes an entry; value is the new noun's JSON as it was stored.
func putEntry(b *state.Batch, e *spec.AuditEntry, c *change, value []byte) error {
	text, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode audit entry of %s: %w", c.key, err)
	}
	// The values are JSON already: they are put in as they are, for a bulk change has thousands.
	text = text[:len(text)-1]
	if c.old != nil {
		old, err := json.Marshal(redacted(c.old))
		if err != nil {
			return fmt.Errorf("encode old %s: %w", c.key, err)
		}
		text = append(append(text, `,"old":`...), old...)
	}
	if c.new != nil {
		if shown := redacted(c.new); shown != c.new {
			if value, err = json.Marshal(shown); err != nil {
				return fmt.Errorf("encode new %s: %w", c.key, err)
			}
		}
		text = append(append(text, `,"new":`...), value...)
	}
	id, err := hex.DecodeString(e.ID)
	if err != nil {
		return err
	}
	return b.Put(append(slices.Clone(auditPrefix), id...), append(text, '}'))
}

func redacted(n spec.Noun) spec.Noun {
	if r, ok := n.(spec.Redacted); ok {
		return r.Redact()
	}
	return n
}

// AuditLog yields the entries that q asks for, until ctx ends. An ID that is none is a fault.Invalid.
func (s *Store) AuditLog(ctx context.Context, q spec.AuditQuery) iter.Seq2[*spec.AuditEntry, error] {
	return func(yield func(*spec.AuditEntry, error) bool) {
		r, err := keysOf(&q)
		if err != nil {
			yield(nil, err)
			return
		}
		for p, err := range s.db.Scan(r) {
			if err == nil {
				err = ctx.Err()
			}
			var e *spec.AuditEntry
			if err == nil {
				e, err = decodeEntry(p)
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if q.Matches(e) && !yield(e, nil) {
				return
			}
		}
	}
}

func decodeEntry(p state.Pair) (*spec.AuditEntry, error) {
	e := &spec.AuditEntry{}
	if err := json.Unmarshal(p.Value, e); err != nil {
		return nil, fault.Wrap(err, fault.Internal, "Entry %x of the audit log cannot be read.", p.Key[len(auditPrefix):])
	}
	return e, nil
}

// keysOf returns the range of the log that a query has to look at.
func keysOf(q *spec.AuditQuery) (state.Range, error) {
	r := state.Prefix(auditPrefix)
	r.Reverse = !q.OldestFirst
	if !q.Since.IsZero() {
		r.Lower = entryHead{When: q.Since}.key()
	}
	if !q.Before.IsZero() {
		r.Upper = entryHead{When: q.Before}.key()
	}
	if q.ID != "" {
		key, err := entryKey(q.ID)
		r.Lower, r.Upper = key, append(bytes.Clone(key), 0)
		return r, err
	}
	if q.After == "" {
		return r, nil
	}
	key, err := entryKey(q.After)
	if q.OldestFirst {
		r.Lower = append(key, 0)
	} else {
		r.Upper = key
	}
	return r, err
}

func entryKey(id string) ([]byte, error) {
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) != entryIDBytes {
		return nil, fault.New(fault.Invalid, "%.80q is not the ID of an entry of the audit log.", id).At("id")
	}
	return append(slices.Clone(auditPrefix), raw...), nil
}

// auditLog is the log on disk and what bounds it.
type auditLog struct {
	db         *state.DB
	maxAge     time.Duration
	maxEntries int
	entries    *atomic.Int64 // since run counted them
	crowded    chan struct{} // has a slot taken when entries went over maxEntries
}

func newAuditLog(db *state.DB, o Options) auditLog {
	a := auditLog{db: db, maxAge: o.AuditAge, maxEntries: o.AuditEntries, entries: &atomic.Int64{}, crowded: make(chan struct{}, 1)}
	if a.maxAge == 0 {
		a.maxAge = defaultAuditAge
	}
	if a.maxEntries == 0 {
		a.maxEntries = defaultAuditEntries
	}
	return a
}

// last returns the time of the newest entry, zero if there is none.
func (a auditLog) last() (time.Time, error) {
	r := state.Prefix(auditPrefix)
	r.Reverse = true
	for p, err := range a.db.Scan(r) {
		if err != nil || len(p.Key) != len(auditPrefix)+entryIDBytes {
			return time.Time{}, err
		}
		micros := append([]byte{0}, p.Key[len(auditPrefix):len(auditPrefix)+7]...)
		return spec.Timestamp(time.UnixMicro(int64(binary.BigEndian.Uint64(micros)))), nil
	}
	return time.Time{}, nil
}

// added notes new entries and wakes run when there are too many.
func (a auditLog) added(n int) {
	if a.entries.Add(int64(n)) <= int64(a.maxEntries+a.maxEntries/10) {
		return
	}
	select {
	case a.crowded <- struct{}{}:
	default:
	}
}

// run trims the log until ctx ends.
func (a auditLog) run(ctx context.Context, c clock.Clock) error {
	count := int64(0)
	for _, err := range a.db.Scan(state.Prefix(auditPrefix)) {
		if err != nil {
			return err
		}
		count++
	}
	// Entries added while it counted may count twice; then the log is trimmed a little early, once.
	a.entries.Add(count)
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		if err := a.trim(c.Now()); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-a.crowded:
		}
	}
}

// trim removes what is too old, and the oldest of what is too much.
func (a auditLog) trim(now time.Time) error {
	oldest := entryHead{When: now.Add(-a.maxAge)}.key()
	surplus := a.entries.Load() - int64(a.maxEntries)
	var end []byte
	removed := int64(0)
	for p, err := range a.db.Scan(state.Prefix(auditPrefix)) {
		if err != nil {
			return err
		}
		if removed >= surplus && bytes.Compare(p.Key, oldest) >= 0 {
			break
		}
		removed++
		end = append(bytes.Clone(p.Key), 0)
	}
	if removed == 0 {
		return nil
	}
	b := a.db.NewBatch()
	if err := b.DeleteRange(state.Range{Lower: auditPrefix, Upper: end}); err != nil {
		b.Drop()
		return err
	}
	if err := a.db.Commit(b); err != nil {
		return fmt.Errorf("trim the audit log: %w", err)
	}
	a.entries.Add(-removed)
	return nil
}
