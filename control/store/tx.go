package store

import (
	"iter"
	"slices"
	"strings"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// maxKeyPart is the most bytes that scope and ID of a noun may have.
const maxKeyPart = 255

// shelves hold nouns by what owns them and their kind.
type shelves map[shelfKey]*shelf

type shelfKey struct {
	scope string
	kind  spec.Kind
}

type shelf struct {
	byID  map[string]spec.Noun
	order []string // IDs, sorted; nil when it has to be made again
}

func (s shelves) get(key spec.Key) spec.Noun {
	if sh := s[shelfKey{key.Scope, key.Kind}]; sh != nil {
		return sh.byID[key.ID]
	}
	return nil
}

// sorted returns the IDs on the shelf in order. A nil shelf is empty.
func (sh *shelf) sorted() []string {
	if sh == nil {
		return nil
	}
	if sh.order == nil {
		sh.order = make([]string, 0, len(sh.byID))
		for id := range sh.byID {
			sh.order = append(sh.order, id)
		}
		slices.Sort(sh.order)
	}
	return sh.order
}

// merge takes over what a transaction changed.
func (s shelves) merge(changes []*change) {
	for _, c := range changes {
		k := shelfKey{c.key.Scope, c.key.Kind}
		sh := s[k]
		if sh == nil {
			sh = &shelf{byID: map[string]spec.Noun{}}
			s[k] = sh
		}
		if (c.old == nil) != (c.new == nil) {
			sh.order = nil
		}
		if c.new != nil {
			sh.byID[c.key.ID] = c.new
			continue
		}
		delete(sh.byID, c.key.ID)
		if len(sh.byID) == 0 {
			delete(s, k)
		}
	}
}

// change is what a transaction did to one noun in all; nil stands for no noun.
type change struct {
	key      spec.Key
	old, new spec.Noun
}

// tx is a change in the making: the nouns before it, and over them what it changed.
type tx struct {
	base    *spec.Snapshot
	nouns   shelves
	changed map[spec.Key]*change
	order   []*change // as they were first touched
	gone    []string  // scopes whose owner was deleted
	over    bool
}

var _ product.Tx = (*tx)(nil)

// Snapshot returns the state before this change.
func (t *tx) Snapshot() *spec.Snapshot { return t.base }

// Get returns a noun, or nil if there is none.
func (t *tx) Get(key spec.Key) (spec.Noun, error) {
	if err := t.alive(); err != nil {
		return nil, err
	}
	return t.get(key), nil
}

func (t *tx) alive() error {
	if t.over {
		return fault.New(fault.Internal, "A transaction was used after its function had returned.")
	}
	return nil
}

func (t *tx) get(key spec.Key) spec.Noun {
	if c := t.changed[key]; c != nil {
		return c.new
	}
	return t.nouns.get(key)
}

// List yields the nouns of a kind in a scope, ordered by ID.
func (t *tx) List(kind spec.Kind, scope string) iter.Seq2[spec.Noun, error] {
	return func(yield func(spec.Noun, error) bool) {
		if err := t.alive(); err != nil {
			yield(nil, err)
			return
		}
		for _, id := range t.ids(kind, scope) {
			n := t.get(spec.Key{Kind: kind, Scope: scope, ID: id})
			if n != nil && !yield(n, nil) {
				return
			}
		}
	}
}

// ids returns the IDs of a kind in a scope in order, perhaps with some that this change deleted.
func (t *tx) ids(kind spec.Kind, scope string) []string {
	ids := t.nouns[shelfKey{scope, kind}].sorted()
	var made []string
	for _, c := range t.order {
		if c.key.Kind == kind && c.key.Scope == scope && c.old == nil {
			made = append(made, c.key.ID)
		}
	}
	if made == nil {
		return ids
	}
	ids = append(made, ids...)
	slices.Sort(ids)
	return ids
}

// Put validates and stores a noun.
func (t *tx) Put(n spec.Noun) error {
	if err := t.alive(); err != nil {
		return err
	}
	key := n.Key()
	if err := checkKey(key); err != nil {
		return err
	}
	if err := n.Validate(); err != nil {
		return err
	}
	if key.Scope != "" && t.get(spec.Key{Kind: spec.KindZone, ID: key.Scope}) == nil && t.get(spec.Key{Kind: spec.KindAccount, ID: key.Scope}) == nil {
		return fault.New(fault.NotFound, "There is no zone or account %s to put a %s into.", key.Scope, key.Kind)
	}
	t.set(key, n)
	return nil
}

func checkKey(key spec.Key) error {
	if !spec.Known(key.Kind) {
		return fault.New(fault.Internal, "There is no noun of kind %q.", key.Kind)
	}
	if key.ID == "" {
		return fault.New(fault.Invalid, "A %s needs an ID.", key.Kind).At("id")
	}
	if len(key.ID) > maxKeyPart || len(key.Scope) > maxKeyPart || strings.ContainsRune(key.ID+key.Scope, 0) {
		return fault.New(fault.Invalid, "The ID of a %s has at most %d characters and no zero byte.", key.Kind, maxKeyPart).At("id")
	}
	return nil
}

func (t *tx) set(key spec.Key, n spec.Noun) {
	c := t.changed[key]
	if c == nil {
		c = &change{key: key, old: t.nouns.get(key)}
		t.changed[key] = c
		t.order = append(t.order, c)
	}
	c.new = n
}

// Delete removes a noun, and with a zone or an account what is in it. An account that still owns
// zones is a fault.Conflict.
func (t *tx) Delete(key spec.Key) error {
	if err := t.alive(); err != nil {
		return err
	}
	if t.get(key) == nil {
		return nil
	}
	switch key.Kind {
	case spec.KindAccount:
		if err := t.checkNoZones(key.ID); err != nil {
			return err
		}
		t.empty(key.ID)
	case spec.KindZone:
		t.empty(key.ID)
	}
	t.set(key, nil)
	return nil
}

func (t *tx) checkNoZones(accountID string) error {
	for n, err := range t.List(spec.KindZone, "") {
		if err != nil {
			return err
		}
		if z := n.(*spec.Zone); z.AccountID == accountID {
			return fault.New(fault.Conflict, "The account still owns zone %s. Delete its zones first.", z.Name)
		}
	}
	return nil
}

// empty removes every noun of a scope.
func (t *tx) empty(scope string) {
	t.gone = append(t.gone, scope)
	for _, c := range t.order {
		if c.key.Scope == scope {
			c.new = nil
		}
	}
	for k, sh := range t.nouns {
		if k.scope != scope {
			continue
		}
		for _, id := range sh.sorted() {
			t.set(spec.Key{Kind: k.kind, Scope: scope, ID: id}, nil)
		}
	}
}

// effective returns what differs from before, in the order in which it was first touched.
func (t *tx) effective() []*change {
	t.order = slices.DeleteFunc(t.order, func(c *change) bool { return c.old == nil && c.new == nil })
	return t.order
}
