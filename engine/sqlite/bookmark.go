package sqlite

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"

	"selvage/foundation/fault"
)

// Bookmark is a place in the history of one database: after one of its transactions. Bookmarks of a database sort as
// strings in the order of its transactions. Restoring makes a new, later place: it can be undone.
//
// It has Cloudflare's form: two groups with the number of the transaction, one of zeros, and 16 bytes of a sum over the
// database and that number, so that the bookmark of another database is told apart.
type Bookmark string

var bookmarkForm = regexp.MustCompile(`^([0-9a-f]{8})-([0-9a-f]{8})-([0-9a-f]{8})-([0-9a-f]{32})$`)

func (d *database) bookmark(seq uint64) Bookmark { return bookmarkOf(d.about.ID, seq) }

// bookmarkNow is bookmark for the seq that everybody asks for now.
func (d *database) bookmarkNow(seq uint64) Bookmark {
	if m := d.mark.Load(); m != nil && m.seq == seq {
		return m.bookmark
	}
	b := d.bookmark(seq)
	d.mark.Store(&marked{seq, b})
	return b
}

type marked struct {
	seq      uint64
	bookmark Bookmark
}

func bookmarkOf(id string, seq uint64) Bookmark {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("bookmark "+id+" "), seq))
	return Bookmark(fmt.Sprintf("%08x-%08x-00000000-%s", seq>>32, seq&0xffffffff, hex.EncodeToString(sum[:16])))
}

// place returns the number of the transaction that b names. A bookmark of another database or of the future is refused.
func (d *database) place(b Bookmark) (uint64, error) {
	m := bookmarkForm.FindStringSubmatch(string(b))
	if m == nil {
		return 0, fault.New(fault.Invalid, "Invalid bookmark %.100q: take it from an answer of this database or from its time travel.", string(b)).At("bookmark")
	}
	high, _ := strconv.ParseUint(m[1], 16, 32)
	low, _ := strconv.ParseUint(m[2], 16, 32)
	seq := high<<32 | low
	if bookmarkOf(d.about.ID, seq) != b {
		return 0, fault.New(fault.Invalid, "The bookmark %s is not one of this database.", b).At("bookmark")
	}
	if seq > d.seq.Load() {
		return 0, fault.New(fault.Invalid, "The bookmark %s is later than this database, which was perhaps brought back from a backup.", b).At("bookmark")
	}
	return seq, nil
}
