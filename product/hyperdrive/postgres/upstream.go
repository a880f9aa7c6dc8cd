// Package postgres carries clients of PostgreSQL over few connections to their server: each
// transaction gets one and gives it back. Messages pass as they are; read are only those that say
// what has to be known: whose prepared statement, which setting, where a transaction ends.
package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"selvage/engine/pgwire"
	"selvage/product/hyperdrive/memo"
	"selvage/product/hyperdrive/pgsql"
	"selvage/product/hyperdrive/pool"
)

// Options is what an Upstream is made of.
type Options struct {
	Login    pgwire.Login
	Limit    int           // connections to the server
	Wait     time.Duration // for one of them; zero is the pool's default
	Memo     *memo.Memo    // shared by all upstreams; nil caches nothing
	Sessions *Sessions     // has to be given
	ID       string        // unique among upstreams that ever used Memo
}

// Upstream is one database and the connections to it. Safe for concurrent use.
type Upstream struct {
	o       Options
	pool    *pool.Pool
	policy  atomic.Pointer[memo.Policy] // nil: no cache
	params  atomic.Pointer[map[string]string]
	catalog catalog
	stale   atomic.Uint64 // counts when prepared statements of all connections went stale
	counts  counts
	held    pool.Held // by clients, of statements

	mu         sync.Mutex // guards the fields below
	statements map[[16]byte]*statement
	known      int // bytes of statements
	settings   map[string]*settings
}

// counts is what happened since the upstream was made.
type counts struct {
	clients                   atomic.Int64
	transactions, queries     atomic.Uint64
	hits, stale, misses, none atomic.Uint64
	cancels                   atomic.Uint64
}

// Sizes of what is kept.
const (
	serverBuffer  = 16 << 10
	maxInspect    = 1 << 20 // of a message that is read as a whole
	maxStatements = 4096    // known to an upstream
	maxKnown      = 8 << 20 // bytes of these
	maxSettings   = 1024
	maxSet        = 64 << 10 // bytes of the settings of a client
	maxPrepared   = 200      // on one connection to the server
)

// NewUpstream returns an upstream; Close ends it.
func NewUpstream(o Options) *Upstream {
	o.Login.Buffers = pgwire.NewBuffers(serverBuffer)
	u := &Upstream{o: o, statements: map[[16]byte]*statement{}, settings: map[string]*settings{}}
	u.pool = pool.New(pool.Options{Dial: u.dial, Limit: o.Limit, Wait: o.Wait, Hopeless: hopeless})
	return u
}

// SetPolicy says how long answers are remembered; nil for not at all.
func (u *Upstream) SetPolicy(p *memo.Policy) { u.policy.Store(p) }

// SetLimit changes the number of connections.
func (u *Upstream) SetLimit(n int) { u.pool.SetLimit(n) }

// Sweep ends what took too long. Call it about four times a second.
func (u *Upstream) Sweep(now time.Time) { u.pool.Sweep(now) }

// Close lets nobody begin another transaction.
func (u *Upstream) Close() { u.pool.Close() }

// Stats is what an upstream has come to.
type Stats struct {
	Clients      int64      `json:"clients"`
	Connections  int        `json:"server_connections"`
	Idle         int        `json:"server_connections_idle"`
	Waiting      int        `json:"clients_waiting"`
	Waits        uint64     `json:"waits"`
	Timeouts     uint64     `json:"wait_timeouts"`
	Waited       float64    `json:"wait_seconds"`
	Dialled      uint64     `json:"server_connections_made"`
	DialFailed   uint64     `json:"server_connections_failed"`
	Transactions uint64     `json:"transactions"`
	Cancels      uint64     `json:"cancels"`
	Cache        CacheStats `json:"cache"`
}

// CacheStats counts what became of queries.
type CacheStats struct {
	Hits        uint64 `json:"hits"`
	Stale       uint64 `json:"stale"`
	Misses      uint64 `json:"misses"`
	Uncacheable uint64 `json:"uncacheable"`
}

// Stats returns what there is now.
func (u *Upstream) Stats() Stats {
	p, c := u.pool.Stats(), &u.counts
	return Stats{
		Clients: c.clients.Load(), Connections: p.Open, Idle: p.Idle, Waiting: p.Waiting, Waits: p.Waits, Timeouts: p.Timeouts,
		Waited: p.Waited.Seconds(), Dialled: p.Dialled, DialFailed: p.Failed, Transactions: c.transactions.Load(), Cancels: c.cancels.Load(),
		Cache: CacheStats{Hits: c.hits.Load(), Stale: c.stale.Load(), Misses: c.misses.Load(), Uncacheable: c.none.Load()},
	}
}

// ErrTestQuery is what Check says if it was the query that failed.
var ErrTestQuery = errors.New("test query")

// Check logs in once and asks a query. Its error tells what is wrong.
func (u *Upstream) Check(ctx context.Context) error {
	s, err := u.o.Login.Connect(ctx)
	if err != nil {
		return err
	}
	defer s.Conn.Close()
	if t, ok := ctx.Deadline(); ok {
		s.Conn.SetDeadline(t)
	}
	defer context.AfterFunc(ctx, func() { s.Conn.Close() })()
	if err := (&server{Server: s}).run("SELECT 1"); err != nil {
		return fmt.Errorf("%w: %w", ErrTestQuery, err)
	}
	return nil
}

func (u *Upstream) dial(ctx context.Context) (pool.Conn, error) {
	c, err := u.o.Login.Connect(ctx)
	if err != nil {
		return nil, err
	}
	s := &server{Server: c, prepared: map[string]*prepared{}, applied: noSettings, stale: u.stale.Load()}
	if params := u.params.Load(); params == nil || !maps.Equal(*params, c.Parameters) {
		own := maps.Clone(c.Parameters)
		u.params.Store(&own)
	}
	return s, nil
}

// hopeless tells that trying again changes nothing: the server knows who we are and does not want us.
func hopeless(err error) bool {
	var f *pgwire.Failure
	if errors.As(err, &f) {
		return strings.HasPrefix(f.Code, "28") || f.Code == "3D000"
	}
	return errors.Is(err, pgwire.ErrNoTLS) || errors.Is(err, pgwire.ErrMalformed)
}

// parameters returns what the server says of itself; the first client has to wait for that.
func (u *Upstream) parameters(ctx context.Context, w *pool.Waiter) (map[string]string, error) {
	if p := u.params.Load(); p != nil {
		return *p, nil
	}
	l, err := u.pool.Get(ctx, w)
	if err != nil {
		return nil, err
	}
	u.pool.Put(l, true)
	return *u.params.Load(), nil
}

// statement is a prepared statement: what Parse says of it without its name, and what that means.
// Never changed.
type statement struct {
	name  string // on the server; "" for one that is not kept
	parse []byte // query, zero, parameter types
	query string // shares no memory with buffers
	class pgsql.Class
}

// statementOf returns the statement of a Parse; body begins behind the name.
func (u *Upstream) statementOf(body []byte) (*statement, error) {
	query, _, ok := pgwire.CutString(body)
	if !ok {
		return nil, pgwire.ErrMalformed
	}
	sum := sha256.Sum256(body)
	key := [16]byte(sum[:])
	u.mu.Lock()
	defer u.mu.Unlock()
	if st := u.statements[key]; st != nil {
		return st, nil
	}
	st := &statement{name: "hd_" + hex.EncodeToString(key[:]), parse: append([]byte{}, body...), query: string(query)}
	st.class = pgsql.Classify(st.query)
	if len(body) > maxInspect/16 {
		return st, nil
	}
	if u.known += len(body); len(u.statements) >= maxStatements || u.known > maxKnown {
		clear(u.statements)
		u.known = len(body)
	}
	u.statements[key] = st
	return st, nil
}
