package store

import (
	"context"
	"crypto/md5"
	"fmt"
	"strings"
)

// Complete makes an object of parts, in place of what is under the key. Nothing is copied: the object is the
// list of its parts. As in R2 all parts but the last must have the same size. Parts that are not named are
// given up. It returns when that is durable; an upload that ended is CodeNoSuchUpload.
func (s *Store) Complete(_ context.Context, b Bucket, key, upload string, o CompleteOptions) (*Object, error) {
	n, err := s.session()
	if err != nil {
		return nil, err
	}
	u, ok := parseUploadID(upload)
	if !ok {
		return nil, errNoSuchUpload()
	}
	obj, a, err := s.completeLocked(n, b, lockName{b, key}, u, o)
	if err != nil {
		return nil, err
	}
	return obj, a.wait()
}

func (s *Store) completeLocked(n *session, b Bucket, at lockName, u uploadID, o CompleteOptions) (*Object, *applied, error) {
	defer s.lock(at, lockUpload(b, u))()
	_, rec, err := s.underWay(n, b, at.name, u.String())
	if err != nil {
		return nil, nil, err
	}
	all, err := s.partsOf(n, b, at.name, u)
	if err != nil {
		return nil, nil, err
	}
	chosen, err := s.choose(all, o.Parts)
	if err != nil {
		return nil, nil, err
	}
	obj, err := rec.assemble(chosen, o)
	if err != nil {
		return nil, nil, err
	}
	more := func(c *change) error {
		c.endUpload(at.name, u, all)
		used := make(map[int]bool, len(chosen))
		var segments []segment
		for _, p := range chosen {
			used[p.number] = true
			segments = append(segments, p.content.segments...)
		}
		for _, p := range all {
			if !used[p.number] {
				c.discard(p.content.segments, false)
			}
		}
		if obj.content.parts {
			c.put(s.segmentsKey(b, obj.content.version), encodeSegments(segments))
		}
		return c.err
	}
	a, err := s.replaceLocked(n, b, obj, replacing{condition: &o.If, action: ActionComplete, more: more}, func() {})
	return obj, a, err
}

// choose returns the parts that were asked for.
func (s *Store) choose(all []numbered, want []CompletedPart) ([]numbered, error) {
	by := make(map[int]numbered, len(all))
	for _, p := range all {
		by[p.number] = p
	}
	chosen := make([]numbered, len(want))
	for i, w := range want {
		if i > 0 && w.Number <= want[i-1].Number {
			return nil, errPartOrder()
		}
		p, ok := by[w.Number]
		if !ok || p.ETag != strings.Trim(w.ETag, `"`) || p.Checksums.match(&w.Checksums) != nil {
			return nil, errInvalidPart(w.Number)
		}
		chosen[i] = p
	}
	for i, p := range chosen {
		last := i == len(chosen)-1
		switch {
		case !last && p.Size < s.o.MinPart:
			return nil, errEntityTooSmall(s.o.MinPart)
		case !last && p.Size != chosen[0].Size:
			return nil, errBadUpload("All non-trailing parts must have the same length")
		case last && p.Size > chosen[0].Size:
			return nil, errBadUpload("The last part must not be longer than the others")
		}
	}
	return chosen, nil
}

// assemble returns the object that an upload's parts make.
func (o *Object) assemble(parts []numbered, want CompleteOptions) (*Object, error) {
	obj := &Object{
		Key: o.Key, HTTP: o.HTTP, Custom: o.Custom, StorageClass: o.StorageClass, SSECKeyMD5: o.SSECKeyMD5,
		content: content{version: newID(), parts: len(parts) > 0, ssec: o.content.ssec},
	}
	obj.Version = obj.content.version.String()
	tag := md5.New()
	for _, p := range parts {
		tag.Write(p.Checksums.MD5)
		obj.Parts = append(obj.Parts, p.Size)
		obj.Size += p.Size
	}
	obj.ETag = fmt.Sprintf("%x-%d", tag.Sum(nil), len(parts))
	if obj.Size > MaxObject {
		return nil, errEntityTooLarge(MaxObject)
	}
	if want.Size > 0 && obj.Size != want.Size {
		return nil, errIncompleteBody(want.Size, obj.Size)
	}
	if kind := o.content.checksum; kind != "" {
		*obj.Checksums.of(kind) = wholeSum(kind, o.Checksums.Composite, parts)
		obj.Checksums.Composite = o.Checksums.Composite
	}
	return obj, obj.Checksums.match(&want.Expect)
}

// wholeSum returns the checksum of an object of parts.
func wholeSum(kind string, composite bool, parts []numbered) []byte {
	if composite {
		h := newHash(kind)
		for _, p := range parts {
			h.Write(p.Checksums.Of(kind))
		}
		return h.Sum(nil)
	}
	sum := newHash(kind).Sum(nil)
	for _, p := range parts {
		sum = combine(kind, sum, p.Checksums.Of(kind), p.Size)
	}
	return sum
}
