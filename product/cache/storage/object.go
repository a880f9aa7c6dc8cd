// Package storage keeps responses: a memory tier and a disk tier, both bounded by bytes, the
// buffers through which one origin response reaches many clients while it arrives, and the record
// of what was purged. It knows keys, bytes and sizes; what may be stored is for semantics to say.
package storage

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"selvage/edge"
	"selvage/product/cache/semantics"
)

// Key names a resource: a SHA-256, so that nobody can make two resources share one.
type Key [32]byte

// Place is where a response came from: what purges name it by.
type Place struct {
	Zone   string // zone ID
	Scheme string
	Host   string
	URI    string // path and query as they came
	Tags   []string
}

// Meta is everything about a stored response but its body. Immutable once stored.
type Meta struct {
	Key      Key
	Place    Place
	Status   int
	Header   edge.Header
	Length   int64             // of the body
	Born     time.Time         // when it was generated: its age is the time since
	Verdict  semantics.Verdict // without Strip and Why
	Vary     []string          // names of the fields that select it, lower case, sorted
	Selected []string          // their normal values in the request it answered
	Seq      uint64            // what was purged up to this number does not concern it

	sums []uint64 // of each sumChunk of the body; only what is on disk has them
}

// variant tells the responses of one key apart.
func (m *Meta) variant() uint64 {
	d := xxhash.New()
	for i, n := range m.Vary {
		d.WriteString(n)
		d.Write([]byte{0})
		d.WriteString(m.Selected[i])
		d.Write([]byte{1})
	}
	return d.Sum64()
}

// overhead is what an object costs beside its strings and body: maps, lists, structs, and the
// memory allocator's rounding.
const overhead = 768

// cost is how many bytes of memory the object holds.
func (o *Object) cost() int64 {
	m := o.Meta
	n := overhead + len(o.body) + len(m.Place.URI) + len(m.Place.Host) + 8*len(m.sums)
	for _, f := range m.Header.Fields() {
		n += 32 + len(f.Name) + len(f.Value)
	}
	for _, list := range [][]string{m.Vary, m.Selected, m.Place.Tags} {
		for _, s := range list {
			n += 16 + len(s)
		}
	}
	return int64(n)
}

// Object is a stored response. Safe for concurrent use.
type Object struct {
	*Meta
	held bool   // whether body is the body; otherwise it is in the file
	body []byte // shared with whoever reads it: never changed

	disk     *disk
	path     atomic.Pointer[string] // of the file, nil if there is none (yet)
	verified *atomic.Bool           // whether the file's body was compared with its checksums by this process
	checked  atomic.Uint64          // purges up to here do not concern it
}

// Bytes returns the body if it is held in memory. Do not change it.
func (o *Object) Bytes() ([]byte, bool) { return o.body, o.held }

// Open returns span of a body that is in a file. Close it. It fails if the file has gone or been
// damaged meanwhile: Remove the object then.
func (o *Object) Open(span semantics.Span) (io.ReadCloser, error) { return o.disk.open(o, span) }

// Age returns how old the response is.
func (o *Object) Age(now time.Time) time.Duration { return max(now.Sub(o.Born), 0) }
