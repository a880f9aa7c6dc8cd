package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
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
	maxAuditPage        = 1000
)

// Entry is one change in the audit log: who did what to which noun, and when.
type Entry struct {
	ID        string     `json:"id"`      // 40 hex digits, in the order of time
	Version   uint64     `json:"version"` // of the snapshot that the change made
	When      time.Time  `json:"when"`
	Actor     spec.Actor `json:"actor"`
	Action    string     `json:"action"` // create, update, delete
	Kind      spec.Kind  `json:"kind"`
	Scope     string     `json:"scope,omitempty"`
	Resource  string     `json:"resource"`             // ID of the noun
	AccountID string     `json:"account_id,omitempty"` // owner, if one is known
	ZoneID    string     `json:"zone_id,omitempty"`
	ZoneName  string     `json:"zone_name,omitempty"`

	// Old and New are the noun in JSON before and after, without its secrets; nil where there was none.
	Old json.RawMessage `json:"old,omitempty"`
	New json.RawMessage `json:"new,omitempty"`
}

// entryHead is what all entries of one transaction share.
type entryHead struct {
	When    time.Time
	Actor   spec.Actor
	Version uint64
	Index   uint32 // of the entry in its transaction
}

// of returns the entry of one change, without Old and New.
func (h entryHead) of(t *tx, c *change) *Entry {
	e := &Entry{ID: hex.EncodeToString(h.key()[len(auditPrefix):]), Version: h.Version, When: h.When, Actor: h.Actor, Action: "update", Kind: c.key.Kind, Scope: c.key.Scope, Resource: c.key.ID}
	noun := c.new
	switch {
	case c.old == nil:
		e.Action = "create"
	case c.new == nil:
		e.Action, noun = "delete", c.old
	}
	switch n := noun.(type) {
	case *spec.Account:
		e.AccountID = n.ID
	case *spec.Token:
		e.AccountID = n.AccountID
	case *spec.Zone:
		e.owner(n)
	default:
		e.findOwner(t, c.key.Scope)
	}
	return e
}

func (h entryHead) key() []byte {
	k := binary.BigEndian.AppendUint64(slices.Clone(auditPrefix), uint64(max(0, h.When.UnixMicro())))
	k = binary.BigEndian.AppendUint64(k, h.Version)
	return binary.BigEndian.AppendUint32(k, h.Index)
}

func (e *Entry) owner(z *spec.Zone) {
	e.AccountID, e.ZoneID, e.ZoneName = z.AccountID, z.ID, z.Name
}

// findOwner names the zone or account that a scope stands for, even if this change deletes it.
func (e *Entry) findOwner(t *tx, scope string) {
	zoneKey := spec.Key{Kind: spec.KindZone, ID: scope}
	n := t.get(zoneKey)
	if n == nil {
		n = t.nouns.get(zoneKey)
	}
	if z, ok := n.(*spec.Zone); ok {
		e.owner(z)
		return
	}
	e.AccountID = scope
}

// putEntry writes an entry; value is the new noun's JSON as it was stored.
func putEntry(b *state.Batch, e *Entry, c *change, value []byte) error {
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

// AuditQuery says which entries of the audit log to list. Zero fields do not filter.
type AuditQuery struct {
	Since     time.Time // entries at or after it
	Before    time.Time // entries before it
	ID        string    // the entry with this ID
	Actor     string    // email address, IP address, user ID or token ID of who made the change
	Action    string    // create, update, delete
	AccountID string
	Zone      string // ID or name
	Kind      spec.Kind
	Resource  string // ID of the noun

	OldestFirst bool   // default: newest first
	Skip        int    // matching entries to leave out first
	Limit       int    // entries on the page, at most 1000; default 100
	Cursor      string // AuditPage.Cursor of the page before; instead of Skip
	Count       bool   // also count all entries that match, which reads them all
}

// AuditPage is a part of the audit log.
type AuditPage struct {
	Entries []Entry
	Cursor  string // of the next page; empty if this is the last one
	Total   int    // how many match in all; only with AuditQuery.Count
}

// Audit lists entries of the audit log. A bad cursor or limit is a fault.Invalid.
func (s *Store) Audit(ctx context.Context, q AuditQuery) (AuditPage, error) {
	return s.audit.list(ctx, q)
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
		if err != nil || len(p.Key) < len(auditPrefix)+8 {
			return time.Time{}, err
		}
		return spec.Timestamp(time.UnixMicro(int64(binary.BigEndian.Uint64(p.Key[len(auditPrefix):])))), nil
	}
	return time.Time{}, nil
}

func (a auditLog) list(ctx context.Context, q AuditQuery) (AuditPage, error) {
	if q.Limit == 0 {
		q.Limit = 100
	}
	if q.Limit < 0 || q.Limit > maxAuditPage || q.Skip < 0 {
		return AuditPage{}, fault.New(fault.Invalid, "A page of the audit log has 1 to %d entries.", maxAuditPage).At("per_page")
	}
	r, err := q.keys()
	if err != nil {
		return AuditPage{}, err
	}
	var page AuditPage
	skip := q.Skip
	for p, err := range a.db.Scan(r) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return AuditPage{}, err
		}
		var e Entry
		if err := json.Unmarshal(p.Value, &e); err != nil {
			return AuditPage{}, fault.Wrap(err, fault.Internal, "Entry %x of the audit log cannot be read.", p.Key[len(auditPrefix):])
		}
		if !q.matches(&e) {
			continue
		}
		page.Total++
		if skip--; skip >= 0 {
			continue
		}
		if len(page.Entries) < q.Limit {
			page.Entries = append(page.Entries, e)
			continue
		}
		page.Cursor = page.Entries[q.Limit-1].ID
		if !q.Count {
			break
		}
	}
	if !q.Count {
		page.Total = 0
	}
	return page, nil
}

// keys returns the range of the log that a query has to look at.
func (q *AuditQuery) keys() (state.Range, error) {
	r := state.Prefix(auditPrefix)
	r.Reverse = !q.OldestFirst
	if !q.Since.IsZero() {
		r.Lower = entryHead{When: q.Since}.key()
	}
	if !q.Before.IsZero() {
		r.Upper = entryHead{When: q.Before}.key()
	}
	if q.ID != "" {
		key, err := entryKey("id", q.ID)
		r.Lower, r.Upper = key, append(bytes.Clone(key), 0)
		return r, err
	}
	if q.Cursor == "" {
		return r, nil
	}
	key, err := entryKey("cursor", q.Cursor)
	if q.OldestFirst {
		r.Lower = append(key, 0)
	} else {
		r.Upper = key
	}
	return r, err
}

func entryKey(field, id string) ([]byte, error) {
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) != 20 {
		return nil, fault.New(fault.Invalid, "%.80q is not the ID of an entry of the audit log.", id).At(field)
	}
	return append(slices.Clone(auditPrefix), raw...), nil
}

func (q *AuditQuery) matches(e *Entry) bool {
	a := &e.Actor
	return (q.Actor == "" || strings.EqualFold(q.Actor, a.Email) || q.Actor == a.UserID || q.Actor == a.TokenID || a.IP.IsValid() && q.Actor == a.IP.String()) &&
		(q.Action == "" || q.Action == e.Action) &&
		(q.AccountID == "" || q.AccountID == e.AccountID) &&
		(q.Zone == "" || q.Zone == e.ZoneID || strings.EqualFold(q.Zone, e.ZoneName)) &&
		(q.Kind == "" || q.Kind == e.Kind) &&
		(q.Resource == "" || q.Resource == e.Resource)
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
