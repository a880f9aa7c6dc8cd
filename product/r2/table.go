package r2

import (
	"selvage/edge"
	"selvage/product/r2/store"
	"selvage/spec"
)

// table is which buckets there are and where they are public, by account ID. Immutable; its next version
// shares the accounts that did not change.
type table map[string]*accountBuckets

type accountBuckets struct {
	from   *spec.AccountStorage
	byID   map[string]*spec.Bucket
	places map[name]place
}

// name is a host name in a zone.
type name struct{ zone, host string }

// place is a bucket that is public at a name.
type place struct {
	bucket  *spec.Bucket
	enabled bool
}

// with returns the table of next.
func (p *R2) with(t table, next *spec.Snapshot) table {
	made := make(table, len(next.Storage))
	for id, a := range next.Storage {
		if old := t[id]; old != nil && old.from == a {
			made[id] = old
			continue
		}
		made[id] = p.accountBuckets(a)
	}
	return made
}

func (p *R2) accountBuckets(from *spec.AccountStorage) *accountBuckets {
	a := &accountBuckets{from: from, byID: make(map[string]*spec.Bucket, len(from.Buckets)), places: map[name]place{}}
	for _, b := range from.Buckets {
		a.byID[b.ID] = b
		for i := range b.Domains {
			a.places[name{b.Domains[i].ZoneID, b.Domains[i].Domain}] = place{b, b.Domains[i].Enabled}
		}
		if b.ManagedZone != "" {
			a.places[name{b.ManagedZone, p.managedName(b)}] = place{b, true}
		}
	}
	return a
}

// bucket returns what id names, or nil.
func (t *table) bucket(id store.Bucket) *spec.Bucket {
	if a := (*t)[id.Account]; a != nil {
		return a.byID[id.ID]
	}
	return nil
}

// public returns the bucket that is public where a request goes: only a zone of the bucket's own account
// leads to it.
func (t *table) public(ex *edge.Exchange) (at place, ok bool) {
	if ex.Zone == nil {
		return at, false
	}
	return t.place(PublicName{ex.Zone.Zone.AccountID, ex.Zone.Zone.ID, ex.Request.Host})
}

// place returns the bucket that is public at a name.
func (t *table) place(n PublicName) (at place, ok bool) {
	a := (*t)[n.Account]
	if a == nil {
		return at, false
	}
	at, ok = a.places[name{n.Zone, n.Host}]
	return at, ok
}
