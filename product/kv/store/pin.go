package store

// Pin keeps the files of values from being removed until unpin is called, for a backup. Afterwards Run
// removes what should have gone meanwhile.
func (s *Store) Pin() (unpin func()) {
	s.files.pins.Add(1)
	return func() {
		s.files.pins.Add(-1)
		s.hurry()
	}
}
