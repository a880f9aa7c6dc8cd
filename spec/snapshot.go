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
	Storage map[string]*AccountStorage    // by account ID; see StorageOf

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
	next := &Snapshot{Version: version, Accounts: maps.Clone(s.Accounts), Zones: maps.Clone(s.Zones), Origins: maps.Clone(s.Origins), Workers: s.Workers, Storage: s.Storage}
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
	for _, a := range s.Storage {
		all = append(all, a.nouns()...)
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
