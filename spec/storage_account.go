package spec

// AccountStorage is everything about the stored data of one account: what its products hold, not the
// data itself. Immutable: compare pointers to find out what has to be prepared again.
type AccountStorage struct {
	Namespaces  map[string]*KVNamespace   // by ID
	Buckets     map[string]*Bucket        // by name
	Databases   map[string]*Database      // by ID
	Queues      map[string]*Queue         // by ID
	Consumers   map[string]*QueueConsumer // by ID
	Hyperdrives map[string]*Hyperdrive    // by ID
	Quotas      *Quotas                   // nil: the defaults hold

	Certificates map[string]*MTLSCertificate // that databases are verified by, and shown; by ID
}

// noStorage stands for an account without any. Never changed.
var noStorage = &AccountStorage{}

// StorageOf returns the storage of an account, never nil.
func (s *Snapshot) StorageOf(accountID string) *AccountStorage {
	if a := s.Storage[accountID]; a != nil {
		return a
	}
	return noStorage
}

// nouns returns everything as it would be stored.
func (a *AccountStorage) nouns() []Noun {
	var all []Noun
	for _, n := range a.Namespaces {
		all = append(all, n)
	}
	for _, b := range a.Buckets {
		all = append(all, b)
	}
	for _, d := range a.Databases {
		all = append(all, d)
	}
	for _, q := range a.Queues {
		all = append(all, q)
	}
	for _, c := range a.Consumers {
		all = append(all, c)
	}
	for _, h := range a.Hyperdrives {
		all = append(all, h)
	}
	for _, m := range a.Certificates {
		all = append(all, m)
	}
	if a.Quotas != nil {
		all = append(all, a.Quotas)
	}
	return all
}

// storage returns this edit's own copy of an account's storage, whose map chosen by the caller may be
// changed once it is cloned: an account may have tens of thousands of databases, and a change of a
// queue does not copy them.
func (e *edit) storage(accountID string) *AccountStorage {
	if a := e.storageTouched[accountID]; a != nil {
		return a
	}
	own := *e.next.StorageOf(accountID)
	if e.storageTouched == nil {
		e.storageTouched = map[string]*AccountStorage{}
		e.next.Storage = cloneOf(e.next.Storage)
	}
	e.storageTouched[accountID] = &own
	e.next.Storage[accountID] = &own
	return &own
}

// ownMap returns this edit's own copy of one of an account's maps.
func ownMap[T any](e *edit, accountID string, kind Kind, field *map[string]*T) map[string]*T {
	key := Key{Kind: kind, Scope: accountID}
	if !e.mapsTouched[key] {
		if e.mapsTouched == nil {
			e.mapsTouched = map[Key]bool{}
		}
		e.mapsTouched[key] = true
		*field = cloneOf(*field)
	}
	return *field
}

func applyKVNamespace(e *edit, c Change) {
	put(ownMap(e, c.Key.Scope, c.Key.Kind, &e.storage(c.Key.Scope).Namespaces), c.Key.ID, c.Noun)
}

func applyBucket(e *edit, c Change) {
	put(ownMap(e, c.Key.Scope, c.Key.Kind, &e.storage(c.Key.Scope).Buckets), c.Key.ID, c.Noun)
}

func applyDatabase(e *edit, c Change) {
	put(ownMap(e, c.Key.Scope, c.Key.Kind, &e.storage(c.Key.Scope).Databases), c.Key.ID, c.Noun)
}

func applyQueue(e *edit, c Change) {
	put(ownMap(e, c.Key.Scope, c.Key.Kind, &e.storage(c.Key.Scope).Queues), c.Key.ID, c.Noun)
}

func applyQueueConsumer(e *edit, c Change) {
	put(ownMap(e, c.Key.Scope, c.Key.Kind, &e.storage(c.Key.Scope).Consumers), c.Key.ID, c.Noun)
}

func applyHyperdrive(e *edit, c Change) {
	put(ownMap(e, c.Key.Scope, c.Key.Kind, &e.storage(c.Key.Scope).Hyperdrives), c.Key.ID, c.Noun)
}

func applyMTLSCertificate(e *edit, c Change) {
	put(ownMap(e, c.Key.Scope, c.Key.Kind, &e.storage(c.Key.Scope).Certificates), c.Key.ID, c.Noun)
}

func applyQuotas(e *edit, c Change) {
	a := e.storage(c.Key.Scope)
	a.Quotas, _ = c.Noun.(*Quotas)
}
