package hyperdrive

import (
	"context"
	"errors"
	"net"
	"sync"

	"selvage/engine/pgwire"
	"selvage/product/hyperdrive/postgres"
)

// each calls f with the connections to l, max of them at once, until ctx ends; then it closes l and
// returns when all of them have ended.
func each(ctx context.Context, l net.Listener, max int, f func(net.Conn)) error {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	var open sync.WaitGroup
	defer open.Wait()
	slots := make(chan struct{}, max)
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		select {
		case slots <- struct{}{}:
		default:
			f := &pgwire.Failure{Severity: "FATAL", Code: "53300", Message: "too many clients already"}
			c.Write(f.Append(nil)) // fits into the socket's buffer
			c.Close()
			continue
		}
		open.Go(func() {
			defer func() { <-slots }()
			defer c.Close()
			f(c)
		})
	}
}

// ServePostgres answers clients of PostgreSQL on l until ctx ends; then it takes no more connections and
// returns when the transactions under way have ended. They log in with the ID of a configuration and
// the password that the API tells. There is no TLS: the port is for this machine or a private network.
func (p *Hyperdrive) ServePostgres(ctx context.Context, l net.Listener) error {
	stranger := pgwire.NewVerifier("nobody") // who asks for what is not there gets the same questions
	return each(ctx, l, p.o.Clients, func(c net.Conn) {
		host, _, err := net.SplitHostPort(c.RemoteAddr().String())
		if err != nil {
			host = "local"
		}
		p.converse(ctx, &guest{
			conn: c, in: pgwire.NewReader(c, 4<<10), source: "client " + host,
			find: func(user string) *postgres.Upstream { return p.find("", user) },
			check: func(cl *pgwire.Client) error {
				v := p.verifier(cl.User)
				if v == nil {
					if err := cl.CheckScram(stranger); err != nil {
						return err
					}
					return pgwire.ErrPassword
				}
				return cl.CheckScram(v)
			},
		})
	})
}

// verifier recognises the password of a configuration; nil if there is none of that ID.
func (p *Hyperdrive) verifier(id string) *pgwire.Verifier {
	p.mu.Lock()
	u := p.pools[id]
	if u == nil || u.access != nil {
		defer p.mu.Unlock()
		if u == nil {
			return nil
		}
		return u.access
	}
	h := u.config
	p.mu.Unlock()
	password, err := p.o.Seal.Open(h.Access, sealContext(h.AccountID, h.ID, "access"))
	if err != nil {
		p.o.Observe.Logger().Error("password of a configuration cannot be opened", "config", id, "error", err)
		return nil
	}
	v := pgwire.NewVerifier(string(password))
	p.mu.Lock()
	defer p.mu.Unlock()
	if u.config == h {
		u.access = v
	}
	return v
}

// ServeMySQL is ServePostgres for clients of MySQL, which there is no pool for yet: they are told so.
func (p *Hyperdrive) ServeMySQL(ctx context.Context, l net.Listener) error {
	return each(ctx, l, 1, func(c net.Conn) { c.Write(mysqlRefusal) })
}

// mysqlRefusal is an ERR packet, which a server may send in place of its greeting.
var mysqlRefusal = func() []byte {
	const text = "Hyperdrive pools PostgreSQL on this node; MySQL is not supported yet."
	body := append([]byte{0xff, 0x69, 0x04}, text...) // 1129, ER_HOST_IS_BLOCKED: the client may not go on
	return append([]byte{byte(len(body)), 0, 0, 0}, body...)
}()
