package postgres

// weight is the bytes that a client's statement counts for.
func (st *statement) weight() int64 {
	if st == nil {
		return 0
	}
	return int64(len(st.parse)) + 512 // and what is around it
}

// keep takes a statement of the client's in, under a name or as the unnamed one. It returns false if it has too much.
func (s *session) keep(name string, st *statement) bool {
	old := s.unnamed
	if name != "" {
		old = s.statements[name]
	}
	if !s.texts.Grow(st.weight() - old.weight()) {
		return false
	}
	if name == "" {
		s.unnamed = st
	} else {
		s.statements[name] = st
	}
	return true
}

// drop forgets a statement of the client's.
func (s *session) drop(name string) {
	if name == "" {
		s.texts.Grow(-s.unnamed.weight())
		s.unnamed = nil
		return
	}
	s.texts.Grow(-s.statements[name].weight())
	delete(s.statements, name)
}

// dropAll forgets those with names.
func (s *session) dropAll() {
	for name := range s.statements {
		s.drop(name)
	}
}

// maySet tells whether the settings of a statement are few enough, with those that there are. s.mu is held.
func (s *session) maySet(c *class) bool {
	if len(c.Sets) == 0 {
		return true
	}
	sizes, waiting := map[string]int{}, 0
	for _, one := range s.own.all {
		sizes[one.Name] = len(one.SQL)
	}
	for _, p := range s.pending {
		for _, one := range p.class.Sets {
			sizes[one.Name] = len(one.SQL)
			waiting += len(one.SQL)
		}
	}
	for _, one := range c.Sets {
		sizes[one.Name] = len(one.SQL)
		waiting += len(one.SQL)
	}
	total := 0
	for _, size := range sizes {
		total += size
	}
	return total <= maxSet && waiting <= maxInspect
}
