package state

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"
)

// Checkpoint writes a copy of the store, as it is at one moment, to dir, which must not exist and lies
// on the same filesystem: what does not change any more is linked, not copied. All that was
// acknowledged before is in it. Open opens the copy.
func (d *DB) Checkpoint(dir string) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := d.pebble.Checkpoint(filepath.Join(dir, "pebble"), pebble.WithFlushedWAL()); err != nil {
		return fmt.Errorf("copy the store in %s: %w", d.dir, err)
	}
	return nil
}
