package hyperdrive

import (
	"context"
	"net"

	"selvage/engine/pgwire"
	"selvage/product/hyperdrive/postgres"
)

// ServePostgres answers clients of PostgreSQL on l until ctx ends; then it takes no more connections and
// returns when the transactions under way have ended, or took too long. They log in with the ID of a configuration and
// the password that the API tells. There is no TLS: the port is for this machine or a private network.
func (p *Hyperdrive) ServePostgres(ctx context.Context, l net.Listener) error {
	stranger := pgwire.NewVerifier("nobody") // who asks for what is not there gets the same questions
	e := p.entrance(ctx, p.o.Clients, tooManyPostgres())
	p.private.open(e)
	return e.each(l, func(life context.Context, c net.Conn) {
		host, _, err := net.SplitHostPort(c.RemoteAddr().String())
		if err != nil {
			host = "local"
		}
		s := pgwire.NewSocket(c)
		p.converse(life, &guest{
			conn: s, in: pgwire.NewReader(s, p.buffers), ending: ctx, passes: true, source: "client " + host,
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

func tooManyPostgres() []byte {
	return (&pgwire.Failure{Severity: "FATAL", Code: "53300", Message: "too many clients already"}).Append(nil)
}
