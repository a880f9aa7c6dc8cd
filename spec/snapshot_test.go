package spec_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"selvage/spec"
)

func zoneChange(id string) spec.Change {
	z := &spec.Zone{ID: id, Name: id + ".test"}
	return spec.Change{Key: z.Key(), Noun: z}
}

func recordChange(zone, id, name string) spec.Change {
	r := &spec.Record{ID: id, ZoneID: zone, Name: name, Type: "A"}
	return spec.Change{Key: r.Key(), Noun: r}
}

func gone(c spec.Change) spec.Change { return spec.Change{Key: c.Key} }

func recordsOf(s *spec.Snapshot, zone string) string {
	var list []string
	for _, r := range s.Zones[zone].Records {
		list = append(list, r.Name+"="+r.ID)
	}
	return strings.Join(list, " ")
}

func TestWithSharesWhatDidNotChange(t *testing.T) {
	one := spec.NewSnapshot().With(1, []spec.Change{zoneChange("a"), zoneChange("b"), recordChange("a", "1", "x"), recordChange("b", "2", "y")})
	two := one.With(2, []spec.Change{recordChange("a", "3", "w")})
	if two.Zones["b"] != one.Zones["b"] {
		t.Error("an unchanged zone was copied")
	}
	if got := recordsOf(one, "a"); got != "x=1" || one.Zones["a"].Version != 1 {
		t.Errorf("the old snapshot changed: %s, version %d", got, one.Zones["a"].Version)
	}
	if got := recordsOf(two, "a"); got != "w=3 x=1" || two.Zones["a"].Version != 2 {
		t.Errorf("records = %s, version %d", got, two.Zones["a"].Version)
	}
}

func TestWithDeletesAndRecreatesAZone(t *testing.T) {
	one := spec.NewSnapshot().With(1, []spec.Change{zoneChange("a"), recordChange("a", "1", "x")})
	if two := one.With(2, []spec.Change{gone(zoneChange("a")), recordChange("a", "2", "y")}); two.Zones["a"] != nil {
		t.Error("a deleted zone came back with a record")
	}
	three := one.With(3, []spec.Change{recordChange("a", "2", "y"), gone(zoneChange("a")), zoneChange("a"), recordChange("a", "3", "z")})
	if got := recordsOf(three, "a"); got != "z=3" {
		t.Errorf("records = %s", got)
	}
}

// However records are changed, the list is that of a plain model, sorted.
func TestRecordListsAgreeWithAModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	s := spec.NewSnapshot().With(1, []spec.Change{zoneChange("a")})
	model := map[string]string{}
	for version := range uint64(300) {
		var changes []spec.Change
		for range rng.IntN(20) {
			id := fmt.Sprint(rng.IntN(60))
			c := recordChange("a", id, fmt.Sprint("name", rng.IntN(9)))
			model[id] = c.Noun.(*spec.Record).Name
			if rng.IntN(3) == 0 {
				c = gone(c)
				delete(model, id)
			}
			if rng.IntN(2) == 0 {
				c.Known, c.Old = true, recordOf(s, "a", id)
			}
			changes = append(changes, c)
		}
		s = s.With(version+2, changes)
		var want []string
		for id, name := range model {
			want = append(want, name+"="+id)
		}
		slices.Sort(want)
		if got := recordsOf(s, "a"); got != strings.Join(want, " ") {
			t.Fatalf("version %d: records = %s\nwant %s", version, got, want)
		}
	}
}

// Changed says the same of two snapshots however they came about.
func TestChangedIsWhatDiffers(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	s := spec.NewSnapshot()
	var past []*spec.Snapshot
	for version := range uint64(1000) {
		past = append(past, s)
		var changes []spec.Change
		for range rng.IntN(4) {
			id := fmt.Sprint("z", rng.IntN(12))
			switch c := zoneChange(id); rng.IntN(4) {
			case 0:
				changes = append(changes, gone(c))
			case 1:
				changes = append(changes, gone(c), c)
			case 2:
				changes = append(changes, c)
			default:
				changes = append(changes, recordChange(id, "r", "x"))
			}
		}
		s = s.With(version+1, changes)
		if rng.IntN(10) == 0 { // as when a rollout holds a zone back
			id := fmt.Sprint("z", rng.IntN(12))
			s = s.WithZone(id, past[rng.IntN(len(past))].Zones[id])
		}
		for _, old := range []*spec.Snapshot{s, past[len(past)-1], past[rng.IntN(len(past))], past[max(0, len(past)-60)]} {
			want := map[string]*spec.ZoneConfig{}
			for i := range 12 {
				if id := fmt.Sprint("z", i); old.Zones[id] != s.Zones[id] {
					want[id] = s.Zones[id]
				}
			}
			got := map[string]*spec.ZoneConfig{}
			come := false
			for id, z := range s.Changed(old) {
				if z == nil && come {
					t.Errorf("version %d: zone %s is gone, but comes after others", s.Version, id)
				}
				come, got[id] = z != nil, z
			}
			if !maps.Equal(got, want) {
				t.Fatalf("from version %d to %d: changed %v, want %v", old.Version, s.Version, got, want)
			}
		}
	}
}

func recordOf(s *spec.Snapshot, zone, id string) spec.Noun {
	for _, r := range s.Zones[zone].Records {
		if r.ID == id {
			return r
		}
	}
	return nil
}

func BenchmarkWithOneOf10k(b *testing.B) {
	changes := []spec.Change{zoneChange("a")}
	for i := range 10_000 {
		changes = append(changes, recordChange("a", spec.NewID(), fmt.Sprint("host", i)))
	}
	s := spec.NewSnapshot().With(1, changes)
	one := []spec.Change{recordChange("a", spec.NewID(), "www")}
	s = s.With(2, one)
	one[0].Known, one[0].Old = true, one[0].Noun
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		s = s.With(s.Version+1, one)
	}
}
