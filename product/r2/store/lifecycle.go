package store

import (
	"bytes"
	"context"
	"time"

	"selvage/engine/state"
)

const lifecycleAtOnce = 250 // objects whose keys are locked together

// ApplyLifecycle does what the rules say should be done by now: deletes objects, moves them to
// InfrequentAccess, aborts uploads. It looks only at the keys under the rules' prefixes, and only at the
// first bytes of their records.
func (s *Store) ApplyLifecycle(ctx context.Context, b Bucket, rules []Rule, now time.Time) (r LifecycleReport, err error) {
	for i := range rules {
		rule := &rules[i]
		if rule.expires() || rule.transitions() {
			w := &aging{s: s, b: b, rule: rule, now: now, report: &r}
			if err := w.run(ctx); err != nil {
				return r, err
			}
		}
		if rule.AbortAfter > 0 {
			n, err := s.abortOld(ctx, b, rule.Prefix, now.Add(-rule.AbortAfter))
			r.Aborted += n
			if err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

func (r *Rule) expires() bool { return r.ExpireAfter > 0 || !r.ExpireAt.IsZero() }

func (r *Rule) transitions() bool { return r.TransitionAfter > 0 || !r.TransitionAt.IsZero() }

// due tells whether something that happens after an age, or at a time, should have happened by now.
func due(uploaded time.Time, after time.Duration, at, now time.Time) bool {
	return after > 0 && !uploaded.Add(after).After(now) || !at.IsZero() && !at.After(now)
}

func (r *Rule) expired(uploaded, now time.Time) bool {
	return due(uploaded, r.ExpireAfter, r.ExpireAt, now)
}

func (r *Rule) moves(uploaded time.Time, class string, now time.Time) bool {
	return class == Standard && due(uploaded, r.TransitionAfter, r.TransitionAt, now)
}

// aging applies a rule to objects.
type aging struct {
	s      *Store
	b      Bucket
	rule   *Rule
	now    time.Time
	report *LifecycleReport

	expire, move []string
}

func (w *aging) run(ctx context.Context) error {
	base := w.s.bucketKey(tableObject, w.b)
	err := w.s.scan(ctx, state.Prefix(append(bytes.Clone(base), w.rule.Prefix...)), func(p state.Pair) error {
		if len(p.Value) < headSize {
			return errRecord
		}
		w.report.Looked++
		uploaded := uploadedOf(p.Value)
		switch {
		case w.rule.expired(uploaded, w.now):
			w.expire = append(w.expire, string(p.Key[len(base):]))
		case w.rule.moves(uploaded, classOf(p.Value), w.now):
			w.move = append(w.move, string(p.Key[len(base):]))
		}
		return w.flush(ctx, lifecycleAtOnce)
	})
	if err != nil {
		return err
	}
	return w.flush(ctx, 1)
}

// flush does what has come together, if it is so much.
func (w *aging) flush(ctx context.Context, atLeast int) error {
	if len(w.expire) >= atLeast {
		// The object may be another by now.
		r := removal{action: ActionLifecycle, only: func(o *Object) bool {
			is := w.rule.expired(o.Uploaded, w.now)
			if is {
				w.report.Expired++
			}
			return is
		}}
		if err := w.s.remove(ctx, w.b, w.expire, r); err != nil {
			return err
		}
		w.expire = w.expire[:0]
	}
	if len(w.move) >= atLeast {
		if err := w.transition(); err != nil {
			return err
		}
		w.move = w.move[:0]
	}
	return nil
}

func (w *aging) transition() error {
	locks := make([]lockName, len(w.move))
	for i, k := range w.move {
		locks[i] = lockName{w.b, k}
	}
	n, err := w.s.session()
	if err != nil {
		return err
	}
	a, err := w.transitionLocked(n, w.s.lock(locks...))
	if err != nil {
		return err
	}
	return a.wait()
}

func (w *aging) transitionLocked(n *session, unlock func()) (*applied, error) {
	defer unlock()
	c := w.s.begin(n, w.b)
	for _, k := range w.move {
		o, err := w.s.lookup(n, w.b, k)
		if err != nil {
			c.batch.Drop()
			return nil, err
		}
		if o == nil || !w.rule.moves(o.Uploaded, o.StorageClass, w.now) {
			continue
		}
		c.usage.add(o, -1)
		o.StorageClass = InfrequentAccess
		c.usage.add(o, 1)
		c.put(w.s.objectKey(w.b, k), o.encode())
		w.report.Transitioned++
	}
	return c.apply()
}

// abortOld aborts the uploads under a prefix that were initiated before a time.
func (s *Store) abortOld(ctx context.Context, b Bucket, prefix string, before time.Time) (aborted int64, err error) {
	base := s.bucketKey(tableUpload, b)
	err = s.scan(ctx, state.Prefix(appendEscaped(bytes.Clone(base), prefix)), func(p state.Pair) error {
		key, u, ok := splitUpload(p.Key[len(base):])
		if !ok || len(p.Value) < headSize {
			return errRecord
		}
		if uploadedOf(p.Value).After(before) {
			return nil
		}
		aborted++
		return s.Abort(ctx, b, key, u.String())
	})
	return aborted, err
}
