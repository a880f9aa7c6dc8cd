package store

import (
	"context"

	"selvage/foundation/fault"
)

// protect asks whether an object may be replaced or deleted; nil is no object.
func (s *Store) protect(b Bucket, o *Object) error {
	if s.o.Protect == nil || o == nil {
		return nil
	}
	return s.o.Protect(b, o)
}

// admit asks whether a change may add to what a bucket uses.
func (s *Store) admit(b Bucket, more Usage) error {
	if s.o.Admit == nil || more.Objects <= 0 && more.Bytes+more.UploadBytes <= 0 {
		return nil
	}
	return s.o.Admit(b, more)
}

// codeNotEmpty is Cloudflare's for a bucket that cannot be deleted.
const codeNotEmpty = 10008

// DropEmpty is Drop for a bucket without objects; of one that has some it is a fault.Conflict.
func (s *Store) DropEmpty(ctx context.Context, b Bucket) error {
	u, err := s.Usage(b)
	if err != nil {
		return err
	}
	if u.Objects > 0 {
		return fault.New(fault.Conflict, "The bucket you tried to delete is not empty.").WithCode(codeNotEmpty)
	}
	return s.Drop(ctx, b)
}

// ScrubSoon has the scrubber begin a run now.
func (s *Store) ScrubSoon() { ring(s.scrub.ask) }
