package store

import (
	"slices"
	"time"
)

// Empty tells whether the condition asks nothing.
func (c *Condition) Empty() bool {
	return c.ETagMatches == nil && c.ETagDoesNotMatch == nil && c.UploadedBefore.IsZero() && c.UploadedAfter.IsZero()
}

// Test tells whether the condition holds of o; nil is no object. Source: RFC 9110 section 13.2.2, with
// R2's reading of an absent object.
func (c *Condition) Test(o *Object) Failed {
	if o == nil {
		if c.ETagMatches != nil || !c.UploadedAfter.IsZero() {
			return Precondition
		}
		return Held
	}
	uploaded := c.round(o.Uploaded)
	matches := c.ETagMatches == nil || has(c.ETagMatches, o.ETag)
	differs := c.ETagDoesNotMatch == nil || !has(c.ETagDoesNotMatch, o.ETag)
	before := c.UploadedBefore.IsZero() || uploaded.Before(c.round(c.UploadedBefore)) || c.ETagMatches != nil && matches
	later := c.UploadedAfter.IsZero() || uploaded.After(c.round(c.UploadedAfter)) || c.ETagDoesNotMatch != nil && differs
	switch {
	case !matches || !before:
		return Precondition
	case !differs || !later:
		return NotModified
	}
	return Held
}

func (c *Condition) round(t time.Time) time.Time {
	if c.WholeSeconds {
		return t.Truncate(time.Second)
	}
	return t.Truncate(time.Millisecond)
}

func has(etags []string, etag string) bool {
	return slices.Contains(etags, "*") || slices.Contains(etags, etag)
}

// Resolve returns the range in full for content of size bytes, or a fault if it holds none of them.
func (r *Range) Resolve(size int64) (Range, error) {
	if r == nil {
		return Range{Length: size}, nil
	}
	offset, length := r.Offset, r.Length
	if r.Suffix != 0 {
		if r.Suffix < 0 {
			return Range{}, errInvalidRange()
		}
		length = min(r.Suffix, size)
		offset = size - length
	}
	if length == -1 {
		length = size - offset
	}
	if offset < 0 || offset > size || length <= 0 {
		return Range{}, errInvalidRange()
	}
	if length = min(length, size-offset); length == 0 {
		return Range{}, errInvalidRange()
	}
	return Range{Offset: offset, Length: length}, nil
}
