package store

import (
	"context"
	"fmt"
	"io"
	"unicode/utf8"

	"selvage/foundation/fault"
)

// Put stores what body holds under key, in place of what is there. It returns when that is durable. A
// condition that does not hold is CodePreconditionFailed, and nothing has changed; so it is after any
// other error. body is not read further than MaxPut.
func (s *Store) Put(ctx context.Context, b Bucket, key string, body io.Reader, o PutOptions) (*Object, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	if err := checkMetadata(o.Custom); err != nil {
		return nil, err
	}
	class, err := checkClass(o.StorageClass)
	if err != nil {
		return nil, err
	}
	cipher, keyMD5, err := newSSEC(o.SSECKey)
	if err != nil {
		return nil, err
	}
	n, err := s.session()
	if err != nil {
		return nil, err
	}
	if err := s.early(n, b, key, &o.If); err != nil {
		return nil, err
	}
	in, err := s.take(ctx, n, body, intake{size: o.Size, key: o.SSECKey, compute: o.Compute, expect: o.Expect, trailer: o.Trailer})
	if err != nil {
		return nil, err
	}
	defer in.release()
	obj := &Object{
		Key: key, Size: in.size, ETag: fmt.Sprintf("%x", in.sums.MD5), HTTP: o.HTTP, Custom: o.Custom,
		Checksums: in.sums, StorageClass: class, SSECKeyMD5: keyMD5,
		content: content{version: newID(), segments: in.segments, ssec: cipher},
	}
	return s.enter(ctx, b, obj, replacing{in: in, condition: &o.If, action: ActionPut})
}

// early refuses, before anything is read, what a condition forbids already.
func (s *Store) early(n *session, b Bucket, key string, c *Condition) error {
	if c.Empty() {
		return nil
	}
	now, err := s.lookup(n, b, key)
	if err == nil && c.Test(now) != Held {
		err = errPrecondition()
	}
	return err
}

// lookup returns the object under key, nil if there is none.
func (s *Store) lookup(n *session, b Bucket, key string) (*Object, error) {
	raw, err := n.db.Get(s.objectKey(b, key))
	if err != nil || raw == nil {
		return nil, err
	}
	return decodeObject(key, raw)
}

// replacing is how an object takes its place.
type replacing struct {
	in        *taken // content that comes with it; nil: it is in the index already
	condition *Condition
	action    string
	more      func(c *change) error // what else changes with it; may be nil
	source    lockName              // of a copy
}

// enter puts an object whose content was taken in in the place of what is there, wherever the index is.
func (s *Store) enter(ctx context.Context, b Bucket, obj *Object, how replacing) (*Object, error) {
	if how.in.here {
		return s.replace(how.in.n, b, obj, how)
	}
	return s.elsewhere(ctx, how.in, settlement{
		Bucket: b, Key: obj.Key, Record: obj.encode(), Condition: *how.condition, Action: how.action, Source: how.source.bucket, SourceKey: how.source.name,
	})
}

// replace puts an object in the place of what is there, and returns when that is durable.
func (s *Store) replace(n *session, b Bucket, obj *Object, how replacing) (*Object, error) {
	obj.Version = obj.content.version.String()
	locks := []lockName{{b, obj.Key}}
	if how.source.name != "" {
		locks = append(locks, how.source)
	}
	a, err := s.replaceLocked(n, b, obj, how, s.lock(locks...))
	if err != nil {
		return nil, err
	}
	return obj, a.wait()
}

func (s *Store) replaceLocked(n *session, b Bucket, obj *Object, how replacing, unlock func()) (*applied, error) {
	defer unlock()
	old, err := s.lookup(n, b, obj.Key)
	if err != nil {
		return nil, err
	}
	if how.condition.Test(old) != Held {
		return nil, errPrecondition()
	}
	if err := s.protect(b, old); err != nil {
		return nil, err
	}
	obj.Uploaded = s.now()
	c := s.begin(n, b)
	if how.more != nil {
		c.err = how.more(c)
	}
	if how.in != nil {
		c.keep(how.in, obj.Key, "")
	}
	if old != nil {
		c.forget(old)
	}
	c.put(s.objectKey(b, obj.Key), obj.encode())
	c.usage.add(obj, 1)
	c.event(Event{Bucket: b, Action: how.action, Key: obj.Key, Size: obj.Size, ETag: obj.ETag, Time: obj.Uploaded, SourceBucket: how.source.bucket, SourceKey: how.source.name})
	a, err := c.apply()
	if err == nil && how.in != nil {
		how.in.kept = true
	}
	return a, err
}

// keep enters content that was taken.
func (c *change) keep(in *taken, key, upload string) {
	for i := range in.segments {
		g := &in.segments[i]
		if g.inline {
			c.put(c.s.dataKey(c.bucket, g.id), in.inline)
			continue
		}
		c.put(c.s.contentKey(g.id, g.owner), (&owned{c.bucket, key, upload, g.stored, g.sum}).encode())
	}
}

// forget removes what an object has beside its record.
func (c *change) forget(o *Object) {
	segments, err := c.s.segmentsOf(c.n, c.bucket, o)
	if err != nil {
		c.err = err
		return
	}
	if o.content.parts {
		c.delete(c.s.segmentsKey(c.bucket, o.content.version))
	}
	c.discard(segments, o.content.parts)
	c.usage.add(o, -1)
}

// discard gives content up. What lies in the index goes at once, unless somebody may be reading other
// parts of the same object: whoever opens a single one has it all.
func (c *change) discard(segments []segment, parts bool) {
	for i := range segments {
		g := &segments[i]
		if g.inline && !parts {
			c.delete(c.s.dataKey(c.bucket, g.id))
			continue
		}
		if g.inline {
			c.put(c.s.garbageKey(g.id), (&owned{bucket: c.bucket}).encode())
			c.garbage = true
			continue
		}
		c.delete(c.s.contentKey(g.id, g.owner))
		c.put(c.s.garbageKey(g.id), nil)
		c.garbage = true
	}
}

// segmentsOf returns where an object's content lies.
func (s *Store) segmentsOf(n *session, b Bucket, o *Object) ([]segment, error) {
	if !o.content.parts {
		return o.content.segments, nil
	}
	raw, err := n.db.Get(s.segmentsKey(b, o.content.version))
	if err != nil {
		return nil, err
	}
	return decodeSegments(raw)
}

// CheckKey refuses what cannot be the key of an object.
func CheckKey(key string) error {
	switch {
	case key == "":
		return errObjectName("it is empty")
	case len(key) > MaxKey:
		return errObjectName(fmt.Sprintf("it has %d bytes, the limit is %d", len(key), MaxKey))
	case !utf8.ValidString(key):
		return errObjectName("it is not UTF-8")
	}
	return nil
}

func checkMetadata(m map[string]string) error {
	if n := customSize(m); n > MaxMetadata {
		return errMetadataTooLarge(n)
	}
	return nil
}

func checkClass(class string) (string, error) {
	switch class {
	case "":
		return Standard, nil
	case Standard, InfrequentAccess:
		return class, nil
	}
	return "", errArgument("There is no storage class %.40q: use Standard or InfrequentAccess.", class)
}

// Delete removes objects, and returns when that is durable. Keys that do not exist are no error. All go
// at once or none.
func (s *Store) Delete(ctx context.Context, b Bucket, keys ...string) error {
	return s.remove(ctx, b, keys, removal{action: ActionDelete})
}

// removal says which of the objects that are named go.
type removal struct {
	action string
	only   func(o *Object) bool // nil: all
}

func (s *Store) remove(_ context.Context, b Bucket, keys []string, r removal) error {
	if len(keys) > MaxDelete {
		return fault.New(fault.TooMuch, "%d keys are more than can be deleted at once: the limit is %d.", len(keys), MaxDelete).WithCode(CodeInvalidArgument)
	}
	locks := make([]lockName, len(keys))
	for i, k := range keys {
		if err := CheckKey(k); err != nil {
			return err
		}
		locks[i] = lockName{b, k}
	}
	if len(keys) == 0 {
		return nil
	}
	n, err := s.session()
	if err != nil {
		return err
	}
	a, err := s.removeLocked(n, b, keys, r, s.lock(locks...))
	if err != nil || a == nil {
		return err
	}
	return a.wait()
}

func (s *Store) removeLocked(n *session, b Bucket, keys []string, r removal, unlock func()) (*applied, error) {
	defer unlock()
	c := s.begin(n, b)
	seen := make(map[string]bool, len(keys))
	for _, k := range keys {
		if seen[k] {
			continue
		}
		seen[k] = true
		old, err := s.lookup(n, b, k)
		if err != nil {
			c.batch.Drop()
			return nil, err
		}
		if old == nil {
			continue
		}
		if err := s.protect(b, old); err != nil {
			if r.action == ActionLifecycle {
				continue // a lock goes before a lifecycle
			}
			c.batch.Drop()
			return nil, err
		}
		if r.only != nil && !r.only(old) {
			continue
		}
		c.forget(old)
		c.delete(s.objectKey(b, k))
		c.event(Event{Bucket: b, Action: r.action, Key: k, Time: s.now()})
	}
	if c.err == nil && c.usage == (Usage{}) {
		c.batch.Drop()
		return nil, nil
	}
	return c.apply()
}
