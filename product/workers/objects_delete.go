package workers

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"selvage/product"
	"selvage/spec"
)

// discardAfter is how long after the deletion of a namespace its storage goes: by then no child has
// it open any more.
const discardAfter = 12 * time.Second

// discards are namespaces that were deleted and whose storage is still there. The zero value is ready.
type discards struct {
	mu  sync.Mutex // guards the field below
	due []discard
}

type discard struct {
	namespace *spec.ObjectNamespace
	at        time.Time
}

// note takes down the namespaces that next has no more.
func (d *discards) note(old, next *spec.Snapshot, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for account, a := range old.Workers {
		now := next.WorkersOf(account)
		if now == a {
			continue
		}
		for id, n := range a.Namespaces {
			if now.Namespaces[id] == nil {
				d.due = append(d.due, discard{n, at})
			}
		}
	}
}

// take returns those that are due.
func (d *discards) take(now time.Time) (due []*spec.ObjectNamespace) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.due = slices.DeleteFunc(d.due, func(x discard) bool {
		if x.at.After(now) {
			return false
		}
		due = append(due, x.namespace)
		return true
	})
	return due
}

// discardObjects deletes the storage of namespaces some time after they were deleted themselves, until
// ctx ends. What it has no time for is left to sweepObjects.
func (w *Workers) discardObjects(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, n := range w.discards.take(w.o.Clock.Now()) {
			if err := w.removeObjects(ctx, n.AccountID, n.ID); err != nil {
				w.log.Warn("storage of deleted Durable Objects is still there", "namespace", n.ID, "error", err)
			}
		}
	}
}

// removeObjects deletes the storage of a namespace, unless the state has that namespace.
func (w *Workers) removeObjects(ctx context.Context, accountID, id string) error {
	snap, err := w.stored(ctx)
	if err != nil || snap.WorkersOf(accountID).Namespaces[id] != nil {
		return err
	}
	dir := filepath.Join(w.o.ObjectsDir, accountID)
	if err := os.RemoveAll(filepath.Join(dir, id)); err != nil {
		return err
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// stored returns the snapshot of the store. While the store is closed there may be an older one in
// its place, on which nothing must be deleted: then it is an error.
func (w *Workers) stored(ctx context.Context) (*spec.Snapshot, error) {
	errLooked := errors.New("only looking")
	if err := w.o.State.Update(ctx, spec.Actor{}, func(product.Tx) error { return errLooked }); !errors.Is(err, errLooked) {
		return nil, err
	}
	return w.o.State.Snapshot(), nil
}

var namespaceFolder = regexp.MustCompile(`^[0-9a-f]{32}$`)

// sweepObjects deletes storage whose namespace is gone: of deletions that a crash interrupted. It
// spares what changed within sweepGrace, so that a state restored from a backup can be put right.
func (w *Workers) sweepObjects(ctx context.Context) error {
	folders, err := filepath.Glob(filepath.Join(w.o.ObjectsDir, "*", "*"))
	if err != nil {
		return err
	}
	snap, err := w.stored(ctx)
	if err != nil {
		return err
	}
	before := w.now().Add(-sweepGrace)
	for _, path := range folders {
		id, account := filepath.Base(path), filepath.Base(filepath.Dir(path))
		if !namespaceFolder.MatchString(id) || snap.WorkersOf(account).Namespaces[id] != nil {
			continue
		}
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.ModTime().After(before) {
			continue
		}
		if err == nil {
			err = w.removeObjects(ctx, account, id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
