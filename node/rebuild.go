package node

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"selvage/control/store"
	"selvage/engine/state"
	"selvage/foundation/fault"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/spec"
)

// rebuildStore makes a new store of the last good snapshot, for a node whose store is damaged or
// gone and has no backup. What snapshots do not hold is lost: tokens, users, the audit log. The old
// directory is kept beside the new one.
func (n *Node) rebuildStore(ctx context.Context) error {
	last := n.state.Snapshot()
	if last.Version == 0 {
		return fault.New(fault.Unavailable, "There is no last good configuration to rebuild the store from.")
	}
	dir := filepath.Join(n.config.Data, "state")
	aside := dir + ".before-" + time.Now().UTC().Format("20060102-150405")
	if err := os.Rename(dir, aside); err != nil && !os.IsNotExist(err) {
		return err
	}
	db, err := state.Open(dir, state.Options{Observe: observe.Observer{Log: n.log}})
	if err != nil {
		return err
	}
	defer db.Close()
	s, err := store.Open(ctx, db, store.Options{Observe: observe.Observer{Log: n.log}})
	if err != nil {
		return err
	}
	owner := &spec.User{ID: spec.NewID(), Email: "owner@selvage.internal", Accounts: slices.Sorted(maps.Keys(last.Accounts)), CreatedOn: spec.Timestamp(time.Now())}
	nouns := append(last.Nouns(), owner)
	// In parts, for a batch has a limit; what is there again already is put again in the same form.
	for part := range slices.Chunk(nouns, 10_000) {
		err := s.Update(ctx, spec.Actor{Via: "node"}, func(tx product.Tx) error { return putAll(tx, part) })
		if err != nil {
			return err
		}
	}
	n.log.Warn("store was made again from the last good configuration; tokens and audit log begin anew", "nouns", len(nouns), "old", aside)
	if err := os.Remove(n.tokenFile()); err != nil && !os.IsNotExist(err) {
		return err
	}
	return db.Close()
}

func putAll(tx product.Tx, nouns []spec.Noun) error {
	for _, noun := range nouns {
		if err := tx.Put(noun); err != nil {
			return fmt.Errorf("put %s: %w", noun.Key(), err)
		}
	}
	return nil
}
