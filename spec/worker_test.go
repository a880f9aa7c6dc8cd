package spec_test

import (
	"reflect"
	"testing"

	"selvage/spec"
)

func TestSnapshotsShareTheWorkersOfOtherAccounts(t *testing.T) {
	account := func(id string) spec.Change {
		a := &spec.Account{ID: id, Name: id}
		return spec.Change{Key: a.Key(), Noun: a}
	}
	put := func(n spec.Noun) spec.Change { return spec.Change{Key: n.Key(), Noun: n} }
	one := spec.NewSnapshot().With(1, []spec.Change{
		account("a"), account("b"),
		put(&spec.Worker{AccountID: "a", Name: "w"}), put(&spec.Worker{AccountID: "b", Name: "w"}),
		put(&spec.WorkerDomain{ID: "d", AccountID: "a", Hostname: "one.test", Service: "w"}),
		put(&spec.WorkerSubdomain{AccountID: "a", Name: "sub"}),
		put(&spec.ObjectNamespace{ID: "n", AccountID: "a", Script: "w", Class: "C"}),
		put(&spec.WorkerVersion{ID: "v2", AccountID: "a", Script: "w", Number: 2}), put(&spec.WorkerVersion{ID: "v1", AccountID: "a", Script: "w", Number: 1}),
	})
	two := one.With(2, []spec.Change{
		put(&spec.WorkerDomain{ID: "d", AccountID: "a", Hostname: "two.test", Service: "w"}),
		{Key: spec.Key{Kind: spec.KindObjectNamespace, Scope: "a", ID: "n"}},
	})
	if one.Workers["b"] != two.Workers["b"] {
		t.Error("the Workers of an account that did not change are another value")
	}
	a := two.WorkersOf("a")
	if a.Domains["one.test"] != nil || a.Domains["two.test"] == nil || len(a.Namespaces) != 0 {
		t.Errorf("after the change: domains %v, namespaces %v", a.Domains, a.Namespaces)
	}
	if old := one.WorkersOf("a"); old.Domains["one.test"] == nil || old.Namespace("w", "C") == nil {
		t.Error("the snapshot before the change was changed")
	}
	if vs := a.VersionsOf("w"); len(vs) != 2 || vs[0].ID != "v2" {
		t.Errorf("VersionsOf = %v, want v2 before v1", vs)
	}
	if w := two.WorkersOf("nobody"); w == nil || len(w.Scripts) != 0 {
		t.Errorf("WorkersOf an account without any = %v", w)
	}
	again := spec.NewSnapshot().With(2, changesOf(two))
	if !reflect.DeepEqual(again.Workers, two.Workers) {
		t.Errorf("made again of its nouns: %v, want %v", again.Workers, two.Workers)
	}
	gone := two.With(3, []spec.Change{{Key: spec.Key{Kind: spec.KindWorker, Scope: "a", ID: "w"}}, {Key: spec.Key{Kind: spec.KindAccount, ID: "a"}}})
	if gone.Workers["a"] != nil {
		t.Error("the Workers of a deleted account are still there")
	}
}

func changesOf(s *spec.Snapshot) []spec.Change {
	var list []spec.Change
	for _, n := range s.Nouns() {
		list = append(list, spec.Change{Key: n.Key(), Noun: n})
	}
	return list
}

func TestVersionsAreRedacted(t *testing.T) {
	v := &spec.WorkerVersion{ID: "v", Bindings: []spec.WorkerBinding{{Name: "KEY", Type: "secret_text", Sealed: []byte("sealed")}}}
	if r := v.Redact().(*spec.WorkerVersion); r.Bindings[0].Sealed != nil || r.Bindings[0].Name != "KEY" {
		t.Errorf("Redact() = %+v", r.Bindings)
	}
	if v.Bindings[0].Sealed == nil {
		t.Error("Redact changed the version itself")
	}
}
