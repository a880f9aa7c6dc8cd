// Package mysql carries clients of MySQL and MariaDB over few connections to their server: each
// transaction gets one and gives it back. Answers pass as they are; read are commands, and of answers
// what says where a transaction ends.
package mysql

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"selvage/engine/mywire"
	"selvage/product/hyperdrive/pool"
)

// Login is how to reach a server.
type Login struct {
	Dial           func(ctx context.Context) (net.Conn, error)
	User, Password string
	Database       string
	TLS            *tls.Config // nil: none
	Optional       bool        // go on without TLS if the server has none
}

// Options is what an Upstream is made of.
type Options struct {
	Login Login
	Limit int           // connections to the server
	Wait  time.Duration // for one of them; zero is the pool's default
}

// Upstream is one database and the connections to it. Safe for concurrent use.
type Upstream struct {
	o       Options
	pool    *pool.Pool
	version atomic.Pointer[string] // of the server
	counts  counts
	held    pool.Held // by clients, of statements

	mu       sync.Mutex // guards the fields below
	sessions map[uint32]*session
}

type counts struct {
	clients               atomic.Int64
	transactions, cancels atomic.Uint64
}

// Sizes of what is kept.
const (
	buffer      = 16 << 10
	maxCommand  = 16 << 20 // bytes of one command, as max_allowed_packet of a server
	maxPrepared = 200      // on one connection to the server
	maxPerGuest = 1000     // statements that a client may have prepared
	stepTime    = 10 * time.Second
)

// NewUpstream returns an upstream; Close ends it.
func NewUpstream(o Options) *Upstream {
	u := &Upstream{o: o, sessions: map[uint32]*session{}}
	u.pool = pool.New(pool.Options{Dial: u.dial, Limit: o.Limit, Wait: o.Wait, Hopeless: hopeless})
	return u
}

// SetLimit changes the number of connections.
func (u *Upstream) SetLimit(n int) { u.pool.SetLimit(n) }

// Sweep ends what took too long. Call it about four times a second.
func (u *Upstream) Sweep(now time.Time) { u.pool.Sweep(now) }

// Close lets nobody begin another transaction.
func (u *Upstream) Close() { u.pool.Close() }

// Stats is what an upstream has come to.
type Stats struct {
	Clients               int64
	Transactions, Cancels uint64
	Pool                  pool.Stats
}

// Stats returns what there is now.
func (u *Upstream) Stats() Stats {
	return Stats{u.counts.clients.Load(), u.counts.transactions.Load(), u.counts.cancels.Load(), u.pool.Stats()}
}

// Check logs in once and asks for a sign of life. Its error tells what is wrong; a refusal of the server
// is a *mywire.Error.
func (u *Upstream) Check(ctx context.Context) error {
	c, err := u.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.(*server).notice([]byte{mywire.ComPing})
}

func (u *Upstream) dial(ctx context.Context) (pool.Conn, error) { return u.connect(ctx, false) }

// Capabilities of our connections to servers. Without CapDeprecateEOF and CapSessionTrack answers have
// a form that each client understands.
const serverCaps = mywire.CapMultiStatements | mywire.CapMultiResults | mywire.CapPSMultiResults | mywire.CapLongFlag | mywire.CapLongPassword

// connect logs in. foundRows is what only a login can say: that affected rows are those that were found.
func (u *Upstream) connect(ctx context.Context, foundRows bool) (*server, error) {
	conn, err := u.o.Login.Dial(ctx)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	conn.SetDeadline(time.Now().Add(stepTime))
	l := u.o.Login
	c := mywire.NewConn(conn, buffer)
	cred := mywire.Credentials{User: l.User, Password: l.Password, Database: l.Database, TLS: l.TLS, OptionalTLS: l.Optional, Caps: serverCaps}
	if foundRows {
		cred.Caps |= mywire.CapFoundRows
	}
	g, ok, err := c.Connect(ctx, cred)
	if err != nil {
		conn.Close()
		return nil, err
	}
	if ctx.Err() != nil {
		conn.Close()
		return nil, ctx.Err()
	}
	conn.SetDeadline(time.Time{})
	u.version.Store(&g.Version)
	return &server{
		Conn: c, caps: g.Caps, thread: g.Thread, status: ok.Status, database: l.Database, foundRows: foundRows,
		multi: true, prepared: map[[sha256.Size]byte]*prepared{},
	}, nil
}

// hopeless tells that trying again changes nothing: the server knows who we are and does not want us.
func hopeless(err error) bool {
	var e *mywire.Error
	if errors.As(err, &e) {
		return e.Code == 1045 || e.Code == 1044 || e.Code == 1049 || e.Code == 1251
	}
	return errors.Is(err, mywire.ErrNoTLS) || errors.Is(err, mywire.ErrMalformed)
}

// serverVersion returns what clients are told; the first has to wait for it.
func (u *Upstream) serverVersion(ctx context.Context, w *pool.Waiter) (string, error) {
	if v := u.version.Load(); v != nil {
		return *v, nil
	}
	l, err := u.pool.Get(ctx, w)
	if err != nil {
		return "", err
	}
	u.pool.Put(l, true)
	return *u.version.Load(), nil
}

// kill stops the query that a session runs now, by a connection of its own, or ends the session.
func (u *Upstream) kill(ctx context.Context, id uint32, whole bool) error {
	u.mu.Lock()
	s := u.sessions[id]
	u.mu.Unlock()
	if s == nil {
		return &mywire.Error{Code: 1094, State: "HY000", Message: "Unknown thread id: " + strconv.FormatUint(uint64(id), 10)}
	}
	u.counts.cancels.Add(1)
	s.running.Lock()
	defer s.running.Unlock()
	if whole {
		defer s.client.Close()
	}
	if s.server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	c, err := u.connect(ctx, false)
	if err != nil {
		return fmt.Errorf("connect to cancel a query: %w", err)
	}
	defer c.Close()
	return c.notice(append([]byte{mywire.ComQuery}, "KILL QUERY "+strconv.FormatUint(uint64(s.server.thread), 10)...))
}
