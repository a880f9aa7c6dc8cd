package spec

import (
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Snapshot is everything that should be, at one version. It is immutable and shares what did not
// change with the snapshots before it: a product may compare *ZoneConfig pointers to find out
// which zones it has to prepare again.
type Snapshot struct {
	Version  uint64                 // grows by one with every acknowledged change
	Accounts map[string]*Account    // by account ID
	Zones    map[string]*ZoneConfig // by zone ID

	Origins map[string]*OriginCertificate // issued by the origin CA, by ID
	Workers map[string]*AccountWorkers    // by account ID; see WorkersOf

	trail trail
}

// maxTrail is how many versions a snapshot knows the steps from. It is more than are ever rolled out
// at once.
const maxTrail = 64

// trail is how a snapshot came about, so that its difference to one of the last needs no comparison
// of all zones.
type trail struct {
	zones map[string]*ZoneConfig // that it is true of: in a copy of the snapshot with other zones it is not
	self  *mark
	steps []step // oldest first; shared between snapshots, never changed in place
}

// step leads from one snapshot to the next.
type step struct {
	from    *mark
	touched []string // zones, by ID
}

// mark stands for a snapshot without keeping it in memory.
type mark struct{ _ byte }

// valid tells whether the trail is that of s.
func (t *trail) valid(s *Snapshot) bool {
	return t.self != nil && reflect.ValueOf(t.zones).Pointer() == reflect.ValueOf(s.Zones).Pointer()
}

// next returns the trail of a snapshot with these zones that came out of s.
func (t *trail) next(s *Snapshot, zones map[string]*ZoneConfig, touched []string) trail {
	next := trail{zones: zones, self: &mark{}}
	if t.valid(s) {
		next.steps = append(slices.Clone(t.steps[max(0, len(t.steps)-maxTrail+1):]), step{t.self, touched})
	}
	return next
}

// since returns the zones touched since old; false if that is not known.
func (t *trail) since(old *trail) (touched map[string]bool, ok bool) {
	i := len(t.steps) - 1
	for i >= 0 && t.steps[i].from != old.self {
		i--
	}
	if i < 0 {
		return nil, false
	}
	touched = map[string]bool{}
	for _, s := range t.steps[i:] {
		for _, id := range s.touched {
			touched[id] = true
		}
	}
	return touched, true
}

// Changed yields the zones that differ from those of old, by ID: first those that are gone, with
// nil, then those that are new or another. It compares all zones only if s did not come out of old
// by a few calls of With.
func (s *Snapshot) Changed(old *Snapshot) iter.Seq2[string, *ZoneConfig] {
	return func(yield func(string, *ZoneConfig) bool) {
		if reflect.ValueOf(s.Zones).Pointer() == reflect.ValueOf(old.Zones).Pointer() {
			return
		}
		gone, changed := s.compare(old)
		for _, id := range gone {
			if !yield(id, nil) {
				return
			}
		}
		for _, id := range changed {
			if !yield(id, s.Zones[id]) {
				return
			}
		}
	}
}

func (s *Snapshot) compare(old *Snapshot) (gone, changed []string) {
	if s.trail.valid(s) && old.trail.valid(old) {
		if touched, ok := s.trail.since(&old.trail); ok {
			for id := range touched {
				switch z := s.Zones[id]; {
				case z == old.Zones[id]:
				case z == nil:
					gone = append(gone, id)
				default:
					changed = append(changed, id)
				}
			}
			return gone, changed
		}
	}
	kept := 0
	for id, z := range s.Zones {
		before := old.Zones[id]
		if before != nil {
			kept++
		}
		if before != z {
			changed = append(changed, id)
		}
	}
	if kept < len(old.Zones) {
		for id := range old.Zones {
			if s.Zones[id] == nil {
				gone = append(gone, id)
			}
		}
	}
	return gone, changed
}

// ZoneConfig is everything about one zone. Immutable.
type ZoneConfig struct {
	Version      uint64 // the snapshot version at which any part of it last changed
	Zone         *Zone
	Settings     *Settings          // never nil: defaults where nothing was set
	Records      []*Record          // sorted by name, type, ID
	Rulesets     []*Ruleset         // sorted by phase, ID
	Certificates []*Certificate     // sorted by ID
	Packs        []*CertificatePack // what the node orders certificates for
	WorkerRoutes []*WorkerRoute     // sorted by ID
}

// Change is one noun put (Noun set) or deleted (Noun nil) under Key.
type Change struct {
	Key  Key
	Noun Noun
	// Known says that Old is what Key stood for before, nil for nothing. It is no duty, but spares
	// With a look at every record of a large zone.
	Known bool
	Old   Noun
}

// NewSnapshot returns the empty snapshot, version 0.
func NewSnapshot() *Snapshot {
	return &Snapshot{Accounts: map[string]*Account{}, Zones: map[string]*ZoneConfig{}}
}

// With returns the snapshot at version after changes. s is not touched. Nouns whose zone does not
// exist are left out; deleting a zone takes all of its nouns with it.
func (s *Snapshot) With(version uint64, changes []Change) *Snapshot {
	next := &Snapshot{Version: version, Accounts: maps.Clone(s.Accounts), Zones: maps.Clone(s.Zones), Origins: maps.Clone(s.Origins), Workers: s.Workers}
	if next.Origins == nil {
		next.Origins = map[string]*OriginCertificate{}
	}
	e := &edit{next: next, records: map[string]map[string]recordEdit{}}
	for _, c := range changes {
		if def := kinds[c.Key.Kind]; def.apply != nil {
			def.apply(e, c)
		}
	}
	e.finish()
	next.trail = s.trail.next(s, next.Zones, slices.Collect(maps.Keys(e.touched)))
	return next
}

// Nouns returns everything in the snapshot as it would be stored, zones after their accounts: how a
// store is made again from a snapshot. Tokens and users are not in snapshots.
func (s *Snapshot) Nouns() []Noun {
	var all []Noun
	for _, a := range s.Accounts {
		all = append(all, a)
	}
	for _, o := range s.Origins {
		all = append(all, o)
	}
	for _, z := range s.Zones {
		all = append(all, z.Zone)
		if len(z.Settings.Values) > 0 {
			all = append(all, z.Settings)
		}
		for _, r := range z.Records {
			all = append(all, r)
		}
		for _, r := range z.Rulesets {
			all = append(all, r)
		}
		for _, c := range z.Certificates {
			all = append(all, c)
		}
		for _, p := range z.Packs {
			all = append(all, p)
		}
		for _, r := range z.WorkerRoutes {
			all = append(all, r)
		}
	}
	for _, w := range s.Workers {
		all = append(all, w.nouns()...)
	}
	return all
}

// WithZone returns a copy of the snapshot in which zone id is replaced by z, or is absent if z is
// nil: how a rollout keeps one bad zone on its last good version while the others move on.
func (s *Snapshot) WithZone(id string, z *ZoneConfig) *Snapshot {
	next := *s
	next.Zones = maps.Clone(s.Zones)
	if z == nil {
		delete(next.Zones, id)
	} else {
		next.Zones[id] = z
	}
	return &next
}

// ZoneByName returns the zone called name, or nil.
func (s *Snapshot) ZoneByName(name string) *ZoneConfig {
	for _, z := range s.Zones {
		if z.Zone.Name == name {
			return z
		}
	}
	return nil
}

// Ruleset returns the zone's entry point ruleset of phase, or nil.
func (z *ZoneConfig) Ruleset(phase string) *Ruleset {
	for _, r := range z.Rulesets {
		if r.Phase == phase && r.Kind == "zone" {
			return r
		}
	}
	return nil
}

// ChangedNames yields each name whose records differ between two lists that are sorted by name, with
// its records in next, none if it is gone. Records are compared by pointer: snapshots share those
// that did not change, so a change of a large zone costs one look along the lists.
func ChangedNames(old, next []*Record) iter.Seq2[string, []*Record] {
	return func(yield func(string, []*Record) bool) {
		for i, j := 0, 0; i < len(old) || j < len(next); {
			if i < len(old) && j < len(next) && old[i] == next[j] {
				i, j = i+1, j+1
				continue
			}
			var name string
			switch {
			case i >= len(old):
				name = next[j].Name
			case j >= len(next):
				name = old[i].Name
			default:
				name = min(old[i].Name, next[j].Name)
			}
			for i < len(old) && old[i].Name == name {
				i++
			}
			for j < len(next) && next[j].Name == name {
				j++
			}
			if !yield(name, RecordsOf(next[:j], name)) {
				return
			}
		}
	}
}

// RecordsOf returns the records called name from a list sorted by name.
func RecordsOf(records []*Record, name string) []*Record {
	from, _ := slices.BinarySearchFunc(records, name, func(r *Record, n string) int { return strings.Compare(r.Name, n) })
	to := from
	for to < len(records) && records[to].Name == name {
		to++
	}
	return records[from:to]
}

// edit is one With in the making: zones are copied when first touched, changed records are gathered
// so that one costs a copy of the zone's list, and a batch of thousands one sort of the batch.
type edit struct {
	next    *Snapshot
	touched map[string]bool
	records map[string]map[string]recordEdit // by zone ID and record ID

	workersTouched map[string]*AccountWorkers // by account ID: copies that are this edit's own
}

// recordEdit is what becomes of one record.
type recordEdit struct {
	next  *Record // nil if it is deleted
	known bool    // whether old is what was there, nil for none
	old   *Record
}

// zone returns this edit's own copy of a zone, or nil if there is none.
func (e *edit) zone(id string) *ZoneConfig {
	z := e.next.Zones[id]
	if z == nil {
		return nil
	}
	if e.touched[id] {
		return z
	}
	own := *z
	own.Version = e.next.Version
	e.keep(id, &own)
	return &own
}

func (e *edit) keep(id string, z *ZoneConfig) {
	e.touch(id)
	e.next.Zones[id] = z
}

func (e *edit) touch(id string) {
	if e.touched == nil {
		e.touched = map[string]bool{}
	}
	e.touched[id] = true
}

func (e *edit) finish() {
	for zoneID, changed := range e.records {
		if z := e.next.Zones[zoneID]; z != nil {
			z.Records = mergeRecords(z.Records, changed)
		}
	}
}

// mergeRecords returns a new list: old, which is sorted, with changed.
func mergeRecords(old []*Record, changed map[string]recordEdit) []*Record {
	put := make([]*Record, 0, len(changed))
	for _, c := range changed {
		if c.next != nil {
			put = append(put, c.next)
		}
	}
	slices.SortFunc(put, compareRecords)
	gone := findGone(old, changed)
	merged := make([]*Record, 0, len(old)-len(gone)+len(put))
	from := 0 // what is before it in old is done
	for len(put) > 0 || len(gone) > 0 {
		to := len(old)
		if len(put) > 0 {
			at, _ := slices.BinarySearchFunc(old[from:], put[0], compareRecords)
			to = from + at
		}
		if len(gone) > 0 && gone[0] <= to {
			merged = append(merged, old[from:gone[0]]...)
			from, gone = gone[0]+1, gone[1:]
			continue
		}
		merged = append(append(merged, old[from:to]...), put[0])
		from, put = to, put[1:]
	}
	return append(merged, old[from:]...)
}

// findGone returns where in old the records stand that are changed, in order.
func findGone(old []*Record, changed map[string]recordEdit) []int {
	var gone []int
	for _, c := range changed {
		if c.known && c.old == nil {
			continue
		}
		at, ok := 0, false
		if c.known {
			at, ok = slices.BinarySearchFunc(old, c.old, compareRecords)
		}
		if !ok {
			return searchGone(old, changed)
		}
		gone = append(gone, at)
	}
	slices.Sort(gone)
	return gone
}

func searchGone(old []*Record, changed map[string]recordEdit) []int {
	var gone []int
	for i, r := range old {
		if _, is := changed[r.ID]; is {
			gone = append(gone, i)
		}
	}
	return gone
}

func compareRecords(a, b *Record) int {
	if c := strings.Compare(a.Name, b.Name); c != 0 {
		return c
	}
	if c := strings.Compare(a.Type, b.Type); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}

func applyAccount(e *edit, c Change) {
	key, next := c.Key, c.Noun
	if next == nil {
		delete(e.next.Accounts, key.ID)
		if e.next.Workers[key.ID] != nil {
			e.workers(key.ID)
			delete(e.next.Workers, key.ID)
		}
		return
	}
	e.next.Accounts[key.ID] = next.(*Account)
}

func applyZone(e *edit, c Change) {
	key, next := c.Key, c.Noun
	if next == nil {
		e.touch(key.ID)
		delete(e.next.Zones, key.ID)
		delete(e.records, key.ID)
		return
	}
	z := e.zone(key.ID)
	if z == nil {
		z = &ZoneConfig{Version: e.next.Version, Settings: DefaultSettings(key.ID)}
		e.keep(key.ID, z)
	}
	z.Zone = next.(*Zone)
}

func applySettings(e *edit, c Change) {
	key, next := c.Key, c.Noun
	z := e.zone(key.Scope)
	if z == nil {
		return
	}
	if next == nil {
		z.Settings = DefaultSettings(key.Scope)
		return
	}
	z.Settings = next.(*Settings)
}

func applyRecord(e *edit, c Change) {
	if e.zone(c.Key.Scope) == nil {
		return
	}
	changed := e.records[c.Key.Scope]
	if changed == nil {
		changed = map[string]recordEdit{}
		e.records[c.Key.Scope] = changed
	}
	r := recordEdit{known: c.Known}
	r.old, _ = c.Old.(*Record)
	if earlier, again := changed[c.Key.ID]; again {
		r = earlier
	}
	r.next, _ = c.Noun.(*Record)
	changed[c.Key.ID] = r
}

func applyRuleset(e *edit, c Change) {
	key, next := c.Key, c.Noun
	z := e.zone(key.Scope)
	if z == nil {
		return
	}
	z.Rulesets = replace(z.Rulesets, key.ID, next, func(r *Ruleset) string { return r.ID })
	slices.SortFunc(z.Rulesets, func(a, b *Ruleset) int { return strings.Compare(a.Phase+a.ID, b.Phase+b.ID) })
}

func applyCertificate(e *edit, c Change) {
	key, next := c.Key, c.Noun
	z := e.zone(key.Scope)
	if z == nil {
		return
	}
	z.Certificates = replace(z.Certificates, key.ID, next, func(c *Certificate) string { return c.ID })
	slices.SortFunc(z.Certificates, func(a, b *Certificate) int { return strings.Compare(a.ID, b.ID) })
}

// replace returns a new list without the entry called id and, unless next is nil, with next.
func replace[T any](list []*T, id string, next Noun, idOf func(*T) string) []*T {
	out := make([]*T, 0, len(list)+1)
	for _, v := range list {
		if idOf(v) != id {
			out = append(out, v)
		}
	}
	if next != nil {
		out = append(out, any(next).(*T))
	}
	return out
}
