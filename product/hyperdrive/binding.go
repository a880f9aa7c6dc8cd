package hyperdrive

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"selvage/engine/isolate"
	"selvage/engine/pgwire"
	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/hyperdrive/postgres"
	"selvage/spec"
)

// Bindings returns what scripts can bind to.
func (p *Hyperdrive) Bindings() []product.BindingType {
	return []product.BindingType{{Type: "hyperdrive", Kind: isolate.Hyperdrive, Check: p.checkBinding, Login: p.bindingLogin, Serve: p.serveBinding}}
}

// bound returns the ID of the configuration that a binding names.
func bound(b *spec.WorkerBinding) string {
	var extra struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(b.Extra, &extra) // what is no object names nothing
	return extra.ID
}

func (p *Hyperdrive) checkBinding(_ context.Context, accountID string, b *spec.WorkerBinding) error {
	id := bound(b)
	if id == "" {
		return fault.New(fault.Invalid, "The binding %s of type hyperdrive needs the id of a Hyperdrive configuration.", b.Name).At("bindings")
	}
	h := p.o.State.Snapshot().StorageOf(accountID).Hyperdrives[id]
	if h == nil {
		return fault.New(fault.Invalid, "The binding %s names the Hyperdrive configuration %.40q, which is not on this account: `wrangler hyperdrive list` shows those that are.", b.Name, id).At("bindings")
	}
	return nil
}

// bindingLogin is what scripts read: nothing of the database's own credentials. The password opens
// this binding and nothing else.
func (p *Hyperdrive) bindingLogin(user product.BindingUser, b *spec.WorkerBinding) isolate.Login {
	id := bound(b)
	l := isolate.Login{Scheme: "postgres", Database: id, User: id, Password: p.bindingPassword(user, b)}
	if h := p.o.State.Snapshot().StorageOf(user.AccountID).Hyperdrives[id]; h != nil {
		l.Scheme = h.Origin.Scheme
	}
	return l
}

func (p *Hyperdrive) bindingPassword(user product.BindingUser, b *spec.WorkerBinding) string {
	h := hmac.New(sha256.New, p.secret[:])
	for _, part := range []string{user.AccountID, user.Script, b.Name, bound(b)} {
		h.Write([]byte(part + "\x00"))
	}
	return hex.EncodeToString(h.Sum(nil)[:24])
}

// Bounds of what a script may hold open.
const (
	maxBound  = 1024
	loginTime = 10 * time.Second
)

// serveBinding takes the connections of a script. The runtime asks for each with CONNECT, then the
// script's own driver speaks.
func (p *Hyperdrive) serveBinding(ctx context.Context, user product.BindingUser, b *spec.WorkerBinding, l net.Listener) {
	p.entrance(ctx, maxBound, nil).each(l, func(life context.Context, c net.Conn) {
		c.SetDeadline(time.Now().Add(loginTime))
		in := bufio.NewReaderSize(c, 1<<10)
		r, err := http.ReadRequest(in)
		if err != nil || r.Method != http.MethodConnect {
			io.WriteString(c, "HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			return
		}
		if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
			return
		}
		if h := p.o.State.Snapshot().StorageOf(user.AccountID).Hyperdrives[bound(b)]; h != nil && !h.Postgres() {
			g := p.boundMySQL(user, b)
			g.Conn, g.Ending = c, ctx
			p.converseMySQL(life, g)
			return
		}
		s := pgwire.NewSocket(c)
		messages := pgwire.NewReader(s, p.buffers)
		early, _ := in.Peek(in.Buffered())
		messages.Preload(early)
		p.converse(life, &guest{
			conn: s, in: messages, ending: ctx, source: "script " + user.Script,
			find: func(string) *postgres.Upstream { return p.find(user.AccountID, bound(b)) },
			check: func(cl *pgwire.Client) error {
				if cl.User != bound(b) {
					return pgwire.ErrPassword
				}
				return cl.CheckPlain(p.bindingPassword(user, b))
			},
			bound: true,
		})
	})
}

// guest is a client that has connected and not logged in yet.
type guest struct {
	conn   net.Conn
	in     *pgwire.Reader
	ending context.Context //nolint // when it ends the client leaves as soon as it may
	source string
	find   func(user string) *postgres.Upstream
	check  func(*pgwire.Client) error
	passes bool // it may go on in another process
	bound  bool // by a binding: may cancel only what runs on that one's pool
}

// converse carries one client from its first message to its last.
func (p *Hyperdrive) converse(ctx context.Context, g *guest) {
	g.conn.SetDeadline(time.Now().Add(loginTime))
	opening, err := pgwire.Accept(g.conn, g.in)
	if err != nil {
		p.refuse(g.conn, "protocol", err, &pgwire.Failure{Code: "08P01", Message: err.Error()})
		return
	}
	if opening.Cancel != nil {
		var only *postgres.Upstream
		if g.bound {
			if only = g.find(""); only == nil {
				return
			}
		}
		p.sessions.Cancel(ctx, *opening.Cancel, only)
		return
	}
	c := opening.Client
	if err := g.check(c); err != nil {
		p.refuse(g.conn, "password", err, &pgwire.Failure{Code: "28P01", Message: "password authentication failed: the user is the ID of a Hyperdrive configuration, with the password that this node made for it"})
		return
	}
	user := c.User
	u := g.find(user)
	if u == nil {
		p.refuse(g.conn, "password", nil, &pgwire.Failure{Code: "3D000", Message: "this Hyperdrive configuration does not exist, or its database is not PostgreSQL"})
		return
	}
	g.conn.SetDeadline(time.Time{})
	own := postgres.Guest{Client: c, Source: g.source, Resolve: func() *postgres.Upstream { return g.find(user) }, Ending: g.ending}
	if g.passes {
		own.HandOn = p.handOn(g.conn, user, g.source)
	}
	if err := u.Serve(ctx, own); err != nil && !errors.Is(err, context.Canceled) {
		p.o.Observe.Logger().Debug("client of hyperdrive ended", "error", err)
	}
}

// refuse says why a client does not get in. An error of the network needs no words.
func (p *Hyperdrive) refuse(c net.Conn, reason string, err error, f *pgwire.Failure) {
	var ne net.Error
	if err == io.EOF || errors.As(err, &ne) {
		return
	}
	p.metrics.refused.WithLabelValues(reason).Inc()
	f.Severity = "FATAL"
	c.Write(f.Append(nil))
}
