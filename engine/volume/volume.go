// Package volume keeps large content under names: files of a folder, or objects of any S3 service. What
// Commit acknowledged is durable; what is read is compared with checksums that were made while it was
// written, so a flipped bit is an error and never an answer.
//
// A volume knows no tenant and no object. Its user chooses names that were never used before, keeps
// what Commit returned, and deletes what it needs no more.
package volume

import (
	"context"
	"errors"
	"io"
	"time"

	"selvage/foundation/fault"
)

// Volume is a place for content. Safe for concurrent use.
type Volume interface {
	// Create begins content with a name that was not used before: up to 64 characters of a-z, 0-9, -.
	// size is what is expected, -1 if unknown; it is only a hint. A full disk is a fault.Unavailable.
	Create(ctx context.Context, name string, size int64) (Writer, error)

	// Open returns length bytes of c from offset on; both must lie inside it. Blocks are compared with
	// their checksums before any of them is read: a Damage is returned, at once or by Read, if one does
	// not fit. The reader may be a *File.
	Open(ctx context.Context, c Content, offset, length int64) (io.ReadCloser, error)

	// Verify reads all of c from where it is stored. It returns a Damage if it is not what was written.
	// pace is called with the bytes about to be read and may wait; nil: no waiting.
	Verify(ctx context.Context, c Content, pace func(ctx context.Context, bytes int) error) error

	// Delete removes content. Readers that have it open may go on or get an error, depending on the
	// volume. Nothing happens if there is none.
	Delete(ctx context.Context, name string) error

	// List calls f for all content that was committed, in no order, until f returns an error. What is
	// committed or deleted meanwhile may be seen or not.
	List(ctx context.Context, f func(Entry) error) error

	// Tidy removes what writers that are gone left behind half written.
	Tidy(ctx context.Context) error
}

// Writer takes content. Not safe for concurrent use. End it with Commit or Abort.
type Writer interface {
	io.Writer

	// Commit makes what was written durable and visible as a whole. After an error nothing is left of it
	// that List would show for long.
	Commit() (Content, error)

	// Abort forgets what was written. It does nothing after Commit.
	Abort()
}

// Content is what its user has to keep to read content again.
type Content struct {
	Name string
	Size int64  // bytes
	Sum  uint32 // CRC32C of the checksums of its blocks
}

// Entry is one line of a listing.
type Entry struct {
	Name     string
	Size     int64 // bytes of content
	Modified time.Time
}

// Damage says that content is not what was written: bits flipped, the end missing, or all of it gone.
type Damage struct {
	Name   string
	Offset int64 // of the block that does not fit; -1 if it is not one block
	Reason string
}

// Error says what is damaged and how.
func (d *Damage) Error() string { return "content " + d.Name + " is damaged: " + d.Reason }

// Missing tells whether all of it is gone.
func (d *Damage) Missing() bool { return d.Reason == reasonMissing }

const (
	reasonMissing = "it is not there"
	reasonLength  = "its length is wrong"
	reasonTable   = "its table of checksums does not fit"
	reasonBlock   = "a block does not fit its checksum"
)

// IsDamage tells whether err says that content is damaged.
func IsDamage(err error) bool {
	var d *Damage
	return errors.As(err, &d)
}

func damaged(name string, offset int64, reason string) error {
	return &Damage{Name: name, Offset: offset, Reason: reason}
}

// checkName keeps names from meaning anything to a filesystem or a URL.
func checkName(name string) error {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return errName(name)
		}
	}
	if len(name) < 3 || len(name) > 64 {
		return errName(name)
	}
	return nil
}

func errName(name string) error {
	return fault.New(fault.Invalid, "%.80q cannot be a name of content.", name)
}

func checkRange(c Content, offset, length int64) error {
	if offset < 0 || length < 0 || offset > c.Size || length > c.Size-offset {
		return fault.New(fault.Invalid, "The range %d+%d lies outside the %d bytes of the content.", offset, length, c.Size)
	}
	return nil
}
