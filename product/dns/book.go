package dns

import (
	"fmt"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// MaxRecords is the most records a zone may have.
const MaxRecords = 100_000

// book is a zone's records during a change: what is stored, overlaid with what the change has done
// so far. It keeps out what cannot stand beside each other.
type book struct {
	tx    product.Tx
	zone  *spec.ZoneConfig
	names map[string]*page // the names that were touched
	count int              // records in the zone
}

// page is what a name has.
type page struct {
	records map[string]*spec.Record // by ID
	known   map[string]string       // identity to ID
	sizes   map[string]int          // type to octets on the wire
}

func openBook(tx product.Tx, zoneID string) (*book, error) {
	z := tx.Snapshot().Zones[zoneID]
	if z == nil {
		return nil, fault.New(fault.NotFound, "There is no such zone any more.")
	}
	return &book{tx: tx, zone: z, names: map[string]*page{}, count: len(z.Records)}, nil
}

// find returns a record by ID.
func (b *book) find(id string) (*spec.Record, error) {
	n, err := b.tx.Get(spec.Key{Kind: spec.KindRecord, Scope: b.zone.Zone.ID, ID: id})
	if err != nil {
		return nil, err
	}
	if r, ok := n.(*spec.Record); ok && r != nil {
		return r, nil
	}
	return nil, noRecord()
}

func noRecord() error {
	return fault.New(fault.NotFound, "Record does not exist.").WithCode(81044)
}

func (b *book) page(name string) (*page, error) {
	if p := b.names[name]; p != nil {
		return p, nil
	}
	p := &page{records: map[string]*spec.Record{}, known: map[string]string{}, sizes: map[string]int{}}
	for _, r := range spec.RecordsOf(b.zone.Records, name) {
		id, err := identity(r)
		if err != nil {
			return nil, fmt.Errorf("stored record %s: %w", r.ID, err)
		}
		p.write(r, id)
	}
	b.names[name] = p
	return p, nil
}

func (p *page) write(r *spec.Record, id string) {
	p.records[r.ID], p.known[id] = r, r.ID
	p.sizes[r.Type] += len(id)
}

func (p *page) strike(r *spec.Record, id string) {
	delete(p.records, r.ID)
	delete(p.known, id)
	p.sizes[r.Type] -= len(id)
}

// remove deletes a record.
func (b *book) remove(r *spec.Record) error {
	if err := b.forget(r); err != nil {
		return err
	}
	return b.tx.Delete(r.Key())
}

// forget takes a record out of the book only.
func (b *book) forget(r *spec.Record) error {
	p, err := b.page(r.Name)
	if err != nil {
		return err
	}
	id, err := identity(r)
	if err != nil {
		return err
	}
	p.strike(r, id)
	b.count--
	return nil
}

// put stores next in the place of old, which is nil for a new record.
func (b *book) put(old, next *spec.Record) error {
	if old != nil {
		if err := b.forget(old); err != nil {
			return err
		}
	}
	if b.count >= MaxRecords {
		return fault.New(fault.TooMuch, "The zone has %d records already, the limit is %d.", b.count, MaxRecords).WithCode(81045)
	}
	p, err := b.page(next.Name)
	if err != nil {
		return err
	}
	id, err := identity(next)
	if err != nil {
		return err
	}
	if err := b.admits(p, next, id); err != nil {
		return err
	}
	p.write(next, id)
	b.count++
	return b.tx.Put(next)
}

// admits tells why next cannot stand beside what its name has.
func (b *book) admits(p *page, next *spec.Record, id string) error {
	if p.known[id] != "" {
		return fault.New(fault.Conflict, "An identical record already exists.").WithCode(81058)
	}
	if size := p.sizes[next.Type] + len(id); size > maxSet {
		return fault.New(fault.TooMuch, "The %s records of %s would take %d octets together, the limit is %d: they have to fit one DNS message.", next.Type, next.Name, size, maxSet).At("content").WithCode(81045)
	}
	if next.Type != "CNAME" && p.sizes["CNAME"] == 0 {
		return nil
	}
	for _, other := range p.records {
		if err := b.beside(other, next); err != nil {
			return err
		}
	}
	return nil
}

// beside tells why two records of one name cannot stand together: a CNAME that is answered as such
// is alone (RFC 1034, 3.6.2), and one that is resolved here still leaves no room for addresses.
func (b *book) beside(other, next *spec.Record) error {
	switch {
	case next.Type == "CNAME" && other.Proxiable():
		return fault.New(fault.Conflict, "An A, AAAA, or CNAME record with that host already exists.").WithCode(81053)
	case other.Type == "CNAME" && next.Proxiable():
		return fault.New(fault.Conflict, "A CNAME record with that host already exists.").WithCode(81054)
	case next.Type == "CNAME" && other.Type == "NS" && next.Name != b.zone.Zone.Name:
		return fault.New(fault.Conflict, "NS records with that host already exist.").WithCode(81056)
	case next.Type == "CNAME" && !b.resolvedHere(next):
		return fault.New(fault.Conflict, "A %s record with that host already exists, and a CNAME record that is neither proxied nor flattened stands alone.", other.Type).WithCode(81053)
	case other.Type == "CNAME" && !b.resolvedHere(other):
		return fault.New(fault.Conflict, "A CNAME record with that host already exists.").WithCode(81054)
	}
	return nil
}

// resolvedHere tells whether a CNAME is answered with addresses.
func (b *book) resolvedHere(r *spec.Record) bool {
	return r.Proxied || r.Settings.FlattenCNAME || r.Name == b.zone.Zone.Name
}
