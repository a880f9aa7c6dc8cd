package storage

import (
	"math"

	"golang.org/x/sys/unix"
)

// maxKeep is the most that the disk tier leaves free on its disk.
const maxKeep = 512 << 20

// makeRoom tells whether n more bytes may be written, after evicting what has to go for them. A tenth
// of the disk, at most maxKeep, stays free for the store and the logs beside the cache: without that
// anybody who asks for enough URLs would stop the API from writing. Fills under way may take half of
// it, until what they push out is gone.
func (d *disk) makeRoom(n int64) bool {
	free, keep := d.fit(0)
	return free-n >= keep/2
}

// fit holds the tier to what its disk has room for, with written bytes that are on the disk already
// and about to be indexed.
func (d *disk) fit(written int64) (free, keep int64) {
	free, total, err := d.space(d.dir)
	if err != nil {
		return math.MaxInt64, 0 // not known; a failed write will tell
	}
	keep = min(total/10, maxKeep)
	if !d.indexed.Load() {
		return free, keep
	}
	d.mu.Lock()
	d.policy.resize(max(min(d.limit, d.policy.used+written+free-keep), 0))
	gone := d.gone
	d.gone = nil
	d.mu.Unlock()
	d.unlink(gone)
	return free, keep
}

// diskSpace returns the bytes that may still be written below dir, and the filesystem's size.
func diskSpace(dir string) (free, total int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, err
	}
	return int64(s.Bavail) * s.Bsize, int64(s.Blocks) * s.Bsize, nil
}
