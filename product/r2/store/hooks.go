package store

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

// ScrubSoon has the scrubber begin a run now.
func (s *Store) ScrubSoon() { ring(s.scrub.ask) }
