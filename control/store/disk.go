package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"selvage/engine/state"
	"selvage/foundation/fault"
	"selvage/spec"
)

// How things lie in the store. Never change a prefix.
//
//	m/version                 newest version, 8 bytes big-endian
//	n/<scope>\0<kind>\0<id>   a noun in JSON; a zone's nouns lie together
//	z/<zone id>               version at which the zone last changed, 8 bytes big-endian
//	a/<time><version><index>  an entry of the audit log in JSON, see entryHead.key
var (
	versionKey  = []byte("m/version")
	nounPrefix  = []byte("n/")
	zonePrefix  = []byte("z/")
	auditPrefix = []byte("a/")
)

func nounKey(k spec.Key) []byte {
	return append(append(append(scopePrefix(k.Scope), k.Kind...), 0), k.ID...)
}

func scopePrefix(scope string) []byte {
	return append(append(slices.Clone(nounPrefix), scope...), 0)
}

func zoneKey(id string) []byte { return append(slices.Clone(zonePrefix), id...) }

func parseNounKey(key []byte) (spec.Key, bool) {
	scope, rest, ok := bytes.Cut(bytes.TrimPrefix(key, nounPrefix), []byte{0})
	if !ok {
		return spec.Key{}, false
	}
	kind, id, ok := bytes.Cut(rest, []byte{0})
	return spec.Key{Kind: spec.Kind(kind), Scope: string(scope), ID: string(id)}, ok
}

// load reads everything but the audit log into the store and returns it as a snapshot.
func (s *Store) load(ctx context.Context) (*spec.Snapshot, error) {
	version, err := s.readNumber(versionKey)
	if err != nil {
		return nil, err
	}
	var zones, others []*change
	for p, err := range s.db.Scan(state.Prefix(nounPrefix)) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		key, ok := parseNounKey(p.Key)
		if ok && !spec.Known(key.Kind) {
			// A newer program wrote it; it is kept for when that one comes back.
			s.log.Warn("noun of a kind this version does not know", "key", key.String())
			continue
		}
		n, err := decodeNoun(key, p.Value)
		if err != nil {
			return nil, err
		}
		if key.Kind == spec.KindZone {
			zones = append(zones, &change{key: key, new: n})
			continue
		}
		others = append(others, &change{key: key, new: n})
	}
	changes := append(zones, others...) // a zone's nouns need their zone
	s.nouns.merge(changes)
	snapshot := with(spec.NewSnapshot(), version, changes)
	for id, z := range snapshot.Zones {
		// Nobody else has seen these zones yet.
		if z.Version, err = s.readNumber(zoneKey(id)); err != nil {
			return nil, err
		}
	}
	if s.when, err = s.audit.last(); err != nil {
		return nil, err
	}
	return snapshot, nil
}

func (s *Store) readNumber(key []byte) (uint64, error) {
	v, err := s.db.Get(key)
	if err != nil || v == nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fault.New(fault.Internal, "The stored number %q has %d bytes instead of 8.", key, len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}

// decodeNoun reads a stored noun and makes sure that it is the one its key says.
func decodeNoun(key spec.Key, data []byte) (spec.Noun, error) {
	n, err := spec.Decode(key.Kind, data)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "The stored %s cannot be read.", key)
	}
	if n.Key() != key {
		return nil, fault.New(fault.Internal, "The stored %s says that it is %s.", key, n.Key())
	}
	return n, nil
}

// with returns the snapshot at version after changes.
func with(s *spec.Snapshot, version uint64, changes []*change) *spec.Snapshot {
	list := make([]spec.Change, len(changes))
	for i, c := range changes {
		list[i] = spec.Change{Key: c.key, Noun: c.new, Known: true, Old: c.old}
	}
	return s.With(version, list)
}

// encode writes a transaction into a batch: the nouns, the versions, the audit log.
func (s *Store) encode(next *spec.Snapshot, t *tx, head entryHead) (b *state.Batch, err error) {
	b = s.db.NewBatch()
	defer func() {
		if err != nil {
			b.Drop()
		}
	}()
	version := next.Version
	for _, scope := range t.gone {
		if err := b.DeleteRange(state.Prefix(scopePrefix(scope))); err != nil {
			return nil, err
		}
		if err := b.Delete(zoneKey(scope)); err != nil {
			return nil, err
		}
	}
	touched := map[string]bool{}
	head.Version = version
	for i, c := range t.effective() {
		touched[c.key.Scope] = true
		if c.key.Kind == spec.KindZone {
			touched[c.key.ID] = true
		}
		value, err := putNoun(b, c)
		if err != nil {
			return nil, err
		}
		head.Index = uint32(i)
		if err := putEntry(b, head.of(t, c), c, value); err != nil {
			return nil, err
		}
	}
	number := binary.BigEndian.AppendUint64(nil, version)
	for id := range touched {
		if next.Zones[id] == nil {
			continue
		}
		if err := b.Put(zoneKey(id), number); err != nil {
			return nil, err
		}
	}
	return b, b.Put(versionKey, number)
}

// putNoun writes a noun's new value, and returns it for the audit log; nil if it was deleted.
func putNoun(b *state.Batch, c *change) ([]byte, error) {
	if c.new == nil {
		return nil, b.Delete(nounKey(c.key))
	}
	value, err := json.Marshal(c.new)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", c.key, err)
	}
	return value, b.Put(nounKey(c.key), value)
}
