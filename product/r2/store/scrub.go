package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"selvage/engine/state"
	"selvage/engine/volume"
)

const (
	scrubFirst  = 15 * time.Minute // after the start: there is enough to do then
	scrubEvery  = 24 * time.Hour   // from the start of one run to that of the next, if it does not take longer
	scrubPage   = 1000
	maxDamages  = 10_000 // that are listed
	cursorScrub = "scrub"
)

// scrubState is what is known of the scrubber.
type scrubState struct {
	ask  chan struct{} // for a run now
	one  sync.Mutex    // held by the run under way
	mu   sync.Mutex    // guards last
	last ScrubReport
}

// scrubOften reads all content through, slowly, again and again.
func (s *Store) scrubOften(ctx context.Context) error {
	wait := scrubFirst
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.scrub.ask:
		case <-time.After(wait):
		}
		began := time.Now()
		if _, err := s.Scrub(ctx, 0); err != nil && ctx.Err() == nil {
			s.o.Observe.Logger().Warn("the scrubber of R2 could not go on", "error", err)
		}
		wait = max(scrubEvery-time.Since(began), time.Minute)
	}
}

// Scrub reads all content and compares it with its checksums, at a rate in bytes a second: 0 is that of the
// options, below 0 as fast as it can. What is damaged is logged, counted, and listed by Damages; the rest
// is served all the while. It goes on where a run was interrupted; one run at a time.
func (s *Store) Scrub(ctx context.Context, bytesPerSecond int64) (ScrubReport, error) {
	s.scrub.one.Lock()
	defer s.scrub.one.Unlock()
	n, err := s.session()
	if err != nil {
		return ScrubReport{}, err
	}
	r := &scrubbing{s: s, limit: limiter(bytesPerSecond, s.o.ScrubRate), report: ScrubReport{Started: s.now()}}
	r.publish()
	from, err := n.db.Get(s.cursorKey(cursorScrub))
	if err != nil {
		return r.report, err
	}
	if from == nil {
		if err := r.inline(ctx); err != nil {
			return r.report, err
		}
		from = s.table(tableContent)
	}
	for from != nil {
		if from, err = r.page(ctx, from); err != nil {
			return r.report, err
		}
	}
	r.report.Ended = s.now()
	r.publish()
	if r.report.Damaged > 0 {
		s.o.Observe.Logger().Error("the scrubber found damaged content of R2", "damaged", r.report.Damaged, "contents", r.report.Contents)
	}
	return r.report, nil
}

func limiter(perSecond, otherwise int64) *rate.Limiter {
	if perSecond < 0 {
		return nil
	}
	if perSecond == 0 {
		perSecond = otherwise
	}
	return rate.NewLimiter(rate.Limit(perSecond), int(max(perSecond/4, 1<<20)))
}

// LastScrub returns the report of the run under way, or else of the last one since the start.
func (s *Store) LastScrub() ScrubReport {
	s.scrub.mu.Lock()
	defer s.scrub.mu.Unlock()
	return s.scrub.last
}

func (s *Store) cursorKey(name string) []byte { return append(s.table(tableCursor), name...) }

// scrubbing is a run under way.
type scrubbing struct {
	s      *Store
	limit  *rate.Limiter // nil: none
	report ScrubReport
}

func (r *scrubbing) publish() {
	r.s.scrub.mu.Lock()
	defer r.s.scrub.mu.Unlock()
	r.s.scrub.last = r.report
}

func (r *scrubbing) pace(ctx context.Context, n int) error {
	r.s.metrics.scrubbed.Add(float64(n))
	r.report.Bytes += int64(n)
	if r.limit == nil {
		return ctx.Err()
	}
	return r.limit.WaitN(ctx, n)
}

// inline reads what lies in the index; the node's store has checksums of its own.
func (r *scrubbing) inline(ctx context.Context) error {
	var last []byte
	head := len(r.s.table(tableData))
	err := r.s.scan(ctx, state.Prefix(r.s.table(tableData)), func(p state.Pair) error {
		r.report.Contents++
		last = append(last[:0], p.Key...)
		return r.pace(ctx, len(p.Value))
	})
	if err == nil || ctx.Err() != nil {
		return err
	}
	n, serr := r.s.session()
	if serr != nil || n.db.Err() != nil {
		return err // the store is closed
	}
	b := Bucket{}
	if len(last) > head {
		b, _, _ = splitBucket(last[head:])
	}
	r.report.Damaged++
	return r.s.note(n, append(r.s.table(tableDamage), "index"...), Damage{Bucket: b, Found: r.s.now(), Reason: "the node's store cannot be read: small objects of this bucket, or of those after it, are damaged"})
}

// page verifies some contents and remembers where it was. It returns where to go on; nil: nowhere.
func (r *scrubbing) page(ctx context.Context, from []byte) (next []byte, err error) {
	n, err := r.s.session()
	if err != nil {
		return nil, err
	}
	var some []volume.Content
	var ids []id
	head := len(r.s.table(tableContent))
	for p, err := range n.db.Scan(state.Range{Lower: from, Upper: beyond(r.s.table(tableContent))}) {
		if err != nil {
			return nil, err
		}
		var d id
		copy(d[:], p.Key[head:])
		if len(ids) > 0 && ids[len(ids)-1] == d {
			continue // a copy shares it
		}
		if len(ids) == scrubPage {
			next = append(r.s.table(tableContent), d[:]...)
			break
		}
		w, err := decodeOwned(p.Value)
		if err != nil {
			return nil, err
		}
		some, ids = append(some, volume.Content{Name: d.String(), Size: w.size, Sum: w.sum}), append(ids, d)
	}
	for i := range some {
		if err := r.verify(ctx, n, ids[i], some[i]); err != nil {
			return nil, err
		}
		r.publish()
	}
	return next, r.remember(n, next)
}

func (r *scrubbing) remember(n *session, next []byte) error {
	batch := n.db.NewBatch()
	err := batch.Delete(r.s.cursorKey(cursorScrub))
	if next != nil {
		err = errors.Join(err, batch.Put(r.s.cursorKey(cursorScrub), next))
	}
	if err != nil {
		batch.Drop()
		return err
	}
	return n.db.Commit(batch)
}

func (r *scrubbing) verify(ctx context.Context, n *session, d id, c volume.Content) error {
	r.report.Contents++
	err := r.s.o.Volume.Verify(ctx, c, r.pace)
	if err == nil {
		return r.s.forgetDamage(n, d)
	}
	if !volume.IsDamage(err) {
		return err
	}
	if has, oerr := r.s.hasOwner(n, d); oerr != nil || !has {
		return oerr // it was deleted meanwhile
	}
	r.report.Damaged++
	r.s.report(n, err)
	return nil
}

// report notes damage of the content of the volume for all whose it is.
func (s *Store) report(n *session, err error) {
	var damage *volume.Damage
	if !errors.As(err, &damage) {
		return
	}
	d, ok := parseID(damage.Name)
	if !ok {
		return
	}
	prefix := append(s.table(tableContent), d[:]...)
	for p, serr := range n.db.Scan(state.Prefix(prefix)) {
		var w owned
		if serr == nil {
			w, serr = decodeOwned(p.Value)
		}
		if serr == nil {
			key := append(append(s.table(tableDamage), d[:]...), p.Key[len(prefix):]...)
			serr = s.note(n, key, Damage{Bucket: w.bucket, Key: w.key, Upload: w.upload, Found: s.now(), Reason: damage.Error()})
		}
		if serr != nil {
			s.o.Observe.Logger().Error("damage of R2's content could not be noted", "content", damage.Name, "error", serr)
			return
		}
	}
}

// note remembers damage, and tells of it the first time.
func (s *Store) note(n *session, key []byte, d Damage) error {
	if known, err := n.db.Get(key); err != nil || known != nil {
		return err
	}
	s.metrics.damaged.Inc()
	s.o.Observe.Logger().Error("content of an object is damaged: put the object again", "account", d.Bucket.Account, "bucket", d.Bucket.ID, "key", d.Key, "reason", d.Reason)
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	batch := n.db.NewBatch()
	if err := batch.Put(key, b); err != nil {
		batch.Drop()
		return err
	}
	return n.db.Commit(batch)
}

// forgetDamage is called when content turns out to be what it should be.
func (s *Store) forgetDamage(n *session, d id) error {
	prefix := append(s.table(tableDamage), d[:]...)
	for _, err := range n.db.Scan(state.Prefix(prefix)) {
		if err != nil {
			return err
		}
		batch := n.db.NewBatch()
		if err := batch.DeleteRange(state.Prefix(prefix)); err != nil {
			batch.Drop()
			return err
		}
		return n.db.Commit(batch)
	}
	return nil
}

// Damages lists content that was found damaged and is still somebody's: of an account, or with "" of all.
func (s *Store) Damages(account string) (list []Damage, err error) {
	n, err := s.session()
	if err != nil {
		return nil, err
	}
	prefix := s.table(tableDamage)
	for p, err := range n.db.Scan(state.Prefix(prefix)) {
		if err != nil {
			return nil, err
		}
		var d Damage
		if err := json.Unmarshal(p.Value, &d); err != nil {
			return nil, err
		}
		if account != "" && d.Bucket.Account != account {
			continue
		}
		if name := p.Key[len(prefix):]; len(name) == 2*len(id{}) {
			owner, err := n.db.Get(append(s.table(tableContent), bytes.Clone(name)...))
			if err != nil {
				return nil, err
			}
			if owner == nil {
				continue // the object was deleted or replaced
			}
		}
		if list = append(list, d); len(list) == maxDamages {
			break
		}
	}
	return list, nil
}
