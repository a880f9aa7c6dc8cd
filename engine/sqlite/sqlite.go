// Package sqlite keeps thousands of SQLite databases by name: opened when they are asked, closed when others need the
// room. What a transaction acknowledged is on disk; what it replaced can be brought back for 30 days. One database never
// waits for another. SQL comes from strangers: an authorizer, SQLite's limits, a deadline and bounds on results hold it.
package sqlite

import (
	"context"
	"time"

	"selvage/foundation/clock"
	"selvage/foundation/observe"
)

// Options is what a Store is made of. A field that is zero gets its default.
type Options struct {
	Dir       string // holds the databases
	Observe   observe.Observer
	Clock     clock.Clock
	MaxOpen   int           // databases open at once: 256
	Readers   int           // connections of one database that read beside its writer: 4
	Idle      time.Duration // a database that nobody asked for this long is closed: a minute
	Retention time.Duration // how far back history goes: 30 days
	History   int64         // bytes of history of one database, beyond 4 times its size: 1 GiB
	WAL       int64         // bytes of a WAL that are moved to history and database at once: 4 MiB
	Snapshot  int64         // bytes of history between two snapshots, or the database's size if that is more: 16 MiB
	Memory    int64         // bytes that SQLite may hold in this process, for all databases: 1 GiB
	Limits    Limits
}

// Limits hold for one statement of a stranger. A field that is zero gets D1's.
type Limits struct {
	Duration      time.Duration // of one Run: 30 s
	DatabaseBytes int64         // 10 GB
	ResultBytes   int64         // rows of one Run: 64 MiB
	ValueBytes    int           // a string, a blob, a row: 2,000,000
	SQLBytes      int           // 100,000
	Params        int           // 100
	Columns       int           // 100
	FunctionArgs  int           // 32
	LikeBytes     int           // pattern of LIKE and GLOB: 50
	CompoundTerms int           // UNION and the like: 500
	ExprDepth     int           // 100
	TriggerDepth  int           // 10
}

// Statement is one SQL statement and what is bound to its parameters.
type Statement struct {
	SQL  string
	Args []any // nil, bool, int64, float64, string, []byte
}

// Request is statements that run as one transaction: all or none.
type Request struct {
	Statements []Statement
	Sink       Sink // takes the rows; nil drops them
	ReadOnly   bool // refuse what would write
}

// Sink takes the rows of a Run as they come. An error that a method returns ends the Run with it. If Run returns an
// error, what the sink got meanwhile is void.
type Sink interface {
	// Begin starts the result of statement i, which has these columns (none for a statement without rows).
	Begin(i int, columns []string) error
	// Row takes a row of statement i. row is valid during the call.
	Row(i int, row Row) error
}

// Row is a row of a result. Text and blobs are valid only while it is.
type Row interface {
	Len() int
	Type(i int) int // Integer, Float, Text, Blob or Null
	Int(i int) int64
	Float(i int) float64
	Bytes(i int) []byte // of a text or a blob
}

// Meta is what a statement did.
type Meta struct {
	Duration    time.Duration
	RowsRead    int64 // rows and index entries visited
	RowsWritten int64 // rows and index entries written
	Changes     int64 // rows inserted, updated, deleted
	LastRowID   int64
	ChangedDB   bool
	SizeAfter   int64 // bytes of the database
}

// Answer is what a Run did: one Meta for each statement, and where the database's history stands then.
type Answer struct {
	Metas    []Meta
	Bookmark Bookmark
}

// Stat says how big a database is.
type Stat struct {
	Bytes        int64 // of its pages
	HistoryBytes int64 // of what can be restored
	Tables       int   // of the owner
	Created      time.Time
}

// DumpOptions choose what Dump writes. The zero value is everything.
type DumpOptions struct {
	NoSchema, NoData bool
	Tables           []string // only these
}

// Imported is what an Import did.
type Imported struct {
	Statements  int
	RowsRead    int64
	RowsWritten int64
	Changes     int64
	SizeAfter   int64
	Bookmark    Bookmark
}

// Time travel, see history.go.
type timeTravel interface {
	Bookmark(ctx context.Context, name string) (Bookmark, error)
	BookmarkAt(ctx context.Context, name string, at time.Time) (Bookmark, error)
	Restore(ctx context.Context, name string, to Bookmark) (previous Bookmark, err error)
	WaitFor(ctx context.Context, name string, b Bookmark) error
}

var _ timeTravel = (*Store)(nil)
