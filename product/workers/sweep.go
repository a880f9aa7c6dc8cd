package workers

import (
	"context"
	"fmt"
	"time"

	"selvage/spec"
)

// sweepGrace is how long content that no version names is kept: uploads under way, and assets sent
// ahead of the version that has them, are younger.
const sweepGrace = 24 * time.Hour

// sweepBatch is how many candidates are looked at again before they are deleted.
const sweepBatch = 256

// sweepEvery is how often it is looked for.
const sweepEvery = time.Hour

// sweep looks for content that nothing names any more, now and then, until ctx ends.
func (w *Workers) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := w.sweepObjects(ctx); err != nil && ctx.Err() == nil {
			w.log.Warn("storage of deleted Durable Objects cannot be swept", "error", err)
		}
		if err := w.sweepBlobs(ctx); err != nil && ctx.Err() == nil {
			w.log.Warn("unused code and assets cannot be swept", "error", err)
		}
	}
}

// sweepBlobs deletes content that no version of any account names, once it is old enough.
func (w *Workers) sweepBlobs(ctx context.Context) error {
	before := w.now().Add(-sweepGrace)
	used := map[string]bool{}
	if err := w.markUsed(ctx, used, w.o.State.Snapshot()); err != nil {
		return err
	}
	var batch []string
	flush := func() error {
		// What was released since the walk began may name old content again.
		if err := w.markUsed(ctx, used, w.o.State.Snapshot()); err != nil {
			return err
		}
		for _, digest := range batch {
			if used[digest] {
				continue
			}
			if _, err := w.o.Blobs.DeleteOlder(digest, before); err != nil {
				return err
			}
		}
		batch = batch[:0]
		return nil
	}
	err := w.o.Blobs.Walk(func(digest string, _ int64, put time.Time) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if used[digest] || !put.Before(before) {
			return nil
		}
		if batch = append(batch, digest); len(batch) < sweepBatch {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	if err := flush(); err != nil {
		return err
	}
	return w.o.Assets.Sweep(ctx)
}

// markUsed adds every digest that a version names. A manifest that was read once need not be again.
func (w *Workers) markUsed(ctx context.Context, used map[string]bool, snap *spec.Snapshot) error {
	for _, a := range snap.Workers {
		for _, v := range a.Versions {
			if err := ctx.Err(); err != nil {
				return err
			}
			for _, m := range v.Modules {
				used[m.Digest] = true
			}
			for _, m := range v.SourceMaps {
				used[m.Digest] = true
			}
			if v.Assets == nil || used[v.Assets.Manifest] {
				continue
			}
			files, err := w.o.Assets.References(v.Assets.Manifest)
			if err != nil {
				// Deleting on half the knowledge would be worse than keeping too much.
				return fmt.Errorf("assets of version %s of %s: %w", v.ID, v.Script, err)
			}
			used[v.Assets.Manifest] = true
			for _, digest := range files {
				used[digest] = true
			}
		}
	}
	return nil
}
