package spec

import (
	"slices"
	"strings"
)

// edit is one With in the making: zones are copied when first touched, changed records are gathered
// so that one costs a copy of the zone's list, and a batch of thousands one sort of the batch.
type edit struct {
	next    *Snapshot
	touched map[string]bool
	records map[string]map[string]recordEdit // by zone ID and record ID

	workersTouched map[string]*AccountWorkers // by account ID: copies that are this edit's own
	storageTouched map[string]*AccountStorage // the same
	mapsTouched    map[Key]bool               // by kind and account: maps of theirs that are this edit's own
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
		if e.next.Storage[key.ID] != nil {
			e.storage(key.ID)
			delete(e.next.Storage, key.ID)
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
