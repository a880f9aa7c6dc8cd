package hyperdrive

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"selvage/engine/pgwire"
	"selvage/product/hyperdrive/postgres"
)

// each calls f with the connections to l, max of them at once, until ctx ends; then it closes l and
// returns when all of them have ended. Those beyond are told crowded.
func each(ctx context.Context, l net.Listener, max int, crowded []byte, f func(net.Conn)) error {
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
			if !passing(err) {
				return err
			}
			select { // until somebody closes a file
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			c.Write(crowded) // fits into the socket's buffer
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

const acceptPause = 50 * time.Millisecond

// passing tells whether a listener that fails with err may soon work again.
func passing(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.ECONNABORTED)
}

// ServePostgres answers clients of PostgreSQL on l until ctx ends; then it takes no more connections and
// returns when the transactions under way have ended. They log in with the ID of a configuration and
// the password that the API tells. There is no TLS: the port is for this machine or a private network.
func (p *Hyperdrive) ServePostgres(ctx context.Context, l net.Listener) error {
	stranger := pgwire.NewVerifier("nobody") // who asks for what is not there gets the same questions
	return each(ctx, l, p.o.Clients, tooManyPostgres(), func(c net.Conn) {
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

func tooManyPostgres() []byte {
	return (&pgwire.Failure{Severity: "FATAL", Code: "53300", Message: "too many clients already"}).Append(nil)
}
