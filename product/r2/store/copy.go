package store

import (
	"context"
	"errors"
	"fmt"
)

// Copy makes an object of another's content, which is shared and not copied unless it is encrypted, is to be,
// or lacks a checksum that is asked for. The condition of the source or of the target that does not hold is
// CodePreconditionFailed. It returns when the copy is durable.
func (s *Store) Copy(ctx context.Context, from Bucket, fromKey string, to Target, o CopyOptions) (*Object, error) {
	if err := errors.Join(CheckKey(fromKey), CheckKey(to.Key)); err != nil {
		return nil, err
	}
	if err := checkMetadata(o.Custom); err != nil {
		return nil, err
	}
	if _, err := checkClass(o.StorageClass); err != nil {
		return nil, err
	}
	for {
		n, err := s.session()
		if err != nil {
			return nil, err
		}
		src, err := s.lookup(n, from, fromKey)
		if err != nil {
			return nil, err
		}
		if src == nil {
			return nil, errNoSuchKey()
		}
		if o.IfSource.Test(src) != Held {
			return nil, errPrecondition()
		}
		if err := src.CheckSSEC(o.SourceSSECKey); err != nil {
			return nil, err
		}
		c := copying{s: s, n: n, from: from, src: src, to: to, o: o}
		obj, err := c.run(ctx)
		if !errors.Is(err, errReplaced) {
			return obj, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// copying is a copy under way.
type copying struct {
	s    *Store
	n    *session
	from Bucket
	src  *Object
	to   Target
	o    CopyOptions
}

// run returns errReplaced if the source changed meanwhile.
func (c *copying) run(ctx context.Context) (*Object, error) {
	obj := &Object{Key: c.to.Key, Size: c.src.Size, HTTP: c.src.HTTP, Custom: c.src.Custom, StorageClass: c.src.StorageClass}
	if c.o.Replace {
		obj.HTTP, obj.Custom = c.o.HTTP, c.o.Custom
	}
	if c.o.StorageClass != "" {
		obj.StorageClass = c.o.StorageClass
	}
	obj.content.version = newID()
	if c.src.content.ssec.on() || c.o.SSECKey != nil || c.lacks() {
		return c.rewrite(ctx, obj)
	}
	return c.share(obj)
}

// lacks tells whether the source has not all checksums that are asked for.
func (c *copying) lacks() bool {
	for _, k := range c.o.Compute {
		if c.src.Checksums.Of(k) == nil || c.src.Checksums.Composite {
			return true
		}
	}
	return false
}

// rewrite reads the source and puts it anew.
func (c *copying) rewrite(ctx context.Context, obj *Object) (*Object, error) {
	cipher, keyMD5, err := newSSEC(c.o.SSECKey)
	if err != nil {
		return nil, err
	}
	if err := c.s.early(c.n, c.to.Bucket, c.to.Key, &c.o.If); err != nil {
		return nil, err
	}
	body, err := c.s.open(ctx, c.n, c.from, c.src, reading{Range{Length: c.src.Size}, c.o.SourceSSECKey})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	compute := c.o.Compute
	for _, k := range kinds() {
		if c.src.Checksums.Of(k) != nil {
			compute = append(compute[:len(compute):len(compute)], k)
		}
	}
	in, err := c.s.take(ctx, c.n, body, intake{size: c.src.Size, key: c.o.SSECKey, compute: compute})
	if err != nil {
		return nil, err
	}
	defer in.release()
	obj.ETag, obj.Checksums, obj.SSECKeyMD5 = fmt.Sprintf("%x", in.sums.MD5), in.sums, keyMD5
	obj.content.segments, obj.content.ssec = in.segments, cipher
	// The source was read as it was at one moment; what became of it since is of no account.
	return c.s.enter(ctx, c.to.Bucket, obj, replacing{in: in, condition: &c.o.If, action: ActionCopy, source: lockName{c.from, c.src.Key}})
}

// share makes the copy an owner of the source's content.
func (c *copying) share(obj *Object) (*Object, error) {
	obj.ETag, obj.Checksums, obj.Parts = c.src.ETag, c.src.Checksums, c.src.Parts
	obj.content.parts = c.src.content.parts
	return c.s.replace(c.n, c.to.Bucket, obj, replacing{condition: &c.o.If, action: ActionCopy, source: lockName{c.from, c.src.Key}, more: func(ch *change) error {
		return c.own(ch, obj)
	}})
}

// own enters the copy's share of the content. The source is locked: while it is there its content is.
func (c *copying) own(ch *change, obj *Object) error {
	now, err := c.s.lookup(c.n, c.from, c.src.Key)
	if err != nil {
		return err
	}
	if now == nil || now.content.version != c.src.content.version {
		return errReplaced
	}
	segments, err := c.s.segmentsOf(c.n, c.from, c.src)
	if err != nil {
		return err
	}
	shared := make([]segment, len(segments))
	for i, g := range segments {
		if g.inline {
			data, err := c.n.db.Get(c.s.dataKey(c.from, g.id))
			if err != nil {
				return err
			}
			g.id = newID()
			ch.put(c.s.dataKey(c.to.Bucket, g.id), data)
		} else {
			g.owner = obj.content.version
			ch.put(c.s.contentKey(g.id, g.owner), (&owned{bucket: c.to.Bucket, key: obj.Key, size: g.stored, sum: g.sum}).encode())
		}
		shared[i] = g
	}
	if obj.content.parts {
		ch.put(c.s.segmentsKey(c.to.Bucket, obj.content.version), encodeSegments(shared))
	} else {
		obj.content.segments = shared
	}
	return ch.err
}
