package spec_test

import (
	"testing"

	"selvage/foundation/fault"
	"selvage/spec"
)

func TestPacksFollowTheirZone(t *testing.T) {
	z := &spec.Zone{ID: "z", Name: "one.test"}
	p := &spec.CertificatePack{ID: "p", ZoneID: "z", Type: "advanced", Method: "txt", Hosts: []string{"one.test"}}
	o := &spec.OriginCertificate{ID: "o", ZoneIDs: []string{"z"}}
	put := func(n spec.Noun) spec.Change { return spec.Change{Key: n.Key(), Noun: n} }
	first := spec.NewSnapshot().With(1, []spec.Change{put(z), put(p), put(o)})
	if got := first.Zones["z"].Packs; len(got) != 1 || got[0] != p || first.Origins["o"] != o {
		t.Fatalf("packs %v, origin certificates %v", got, first.Origins)
	}
	second := first.With(2, []spec.Change{{Key: p.Key()}, {Key: o.Key()}})
	if len(second.Zones["z"].Packs) != 0 || len(second.Origins) != 0 {
		t.Errorf("after deletion: packs %v, origin certificates %v", second.Zones["z"].Packs, second.Origins)
	}
	if len(first.Zones["z"].Packs) != 1 || len(first.Origins) != 1 {
		t.Error("the snapshot before changed")
	}
	// A snapshot of an older program has no map for them.
	old := &spec.Snapshot{Zones: map[string]*spec.ZoneConfig{}, Accounts: map[string]*spec.Account{}}
	if got := old.With(1, []spec.Change{put(o)}); got.Origins["o"] != o {
		t.Error("an origin certificate is lost in an older snapshot")
	}
}

func TestPackValidate(t *testing.T) {
	good := spec.CertificatePack{ID: "p", ZoneID: "z", Type: "universal", Method: "http", Hosts: []string{"one.test", "*.one.test"}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	bad := spec.CertificatePack{Type: "x", Method: "y", Hosts: append(make([]string, 0, 101), "a b")}
	if n := len(fault.All(bad.Validate())); n != 3 {
		t.Errorf("%d faults, want type, method and host: %v", n, bad.Validate())
	}
	bad.Hosts = make([]string, 101)
	if err := bad.Validate(); fault.KindOf(err) == fault.Internal {
		t.Error(err)
	}
}
