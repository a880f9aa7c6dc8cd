package hyperdrive

import (
	"context"
	"crypto/subtle"
	"errors"
	"net"

	"selvage/engine/mywire"
	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/hyperdrive/mysql"
	"selvage/spec"
)

// findMySQL is find for configurations whose database is MySQL.
func (p *Hyperdrive) findMySQL(accountID, id string) (*mysql.Upstream, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.pools[id]
	if u == nil || accountID != "" && u.config.AccountID != accountID || u.config.Postgres() {
		return nil, &mywire.Error{Code: 1049, State: "42000", Message: "This Hyperdrive configuration does not exist, or its database is not MySQL."}
	}
	if u.my == nil {
		login, err := p.mysqlLogin(u.config)
		if err != nil {
			return nil, err
		}
		u.my = mysql.NewUpstream(mysql.Options{Login: login, Limit: u.config.Connections(), Wait: p.o.Wait})
	}
	return u.my, nil
}

func (p *Hyperdrive) mysqlLogin(h *spec.Hyperdrive) (mysql.Login, error) {
	l, err := p.login(h)
	return mysql.Login{Dial: l.Dial, User: l.User, Password: l.Password, Database: l.Database, TLS: l.TLS, Optional: l.Optional}, err
}

// checkMySQL is check for databases that are MySQL.
func (p *Hyperdrive) checkMySQL(ctx context.Context, h *spec.Hyperdrive) error {
	login, err := p.mysqlLogin(h)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	u := mysql.NewUpstream(mysql.Options{Login: login})
	defer u.Close()
	err = u.Check(ctx)
	var said *mywire.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, mywire.ErrNoTLS):
		return fault.New(fault.Invalid, "The database does not speak TLS, which sslmode %s asks for.", h.MTLS.SSLMode).WithCode(codeNoTLS).At("mtls.sslmode")
	case errors.As(err, &said) && said.Code == 1045:
		return fault.New(fault.Invalid, "The database does not accept the credentials: %s.", said.Message).WithCode(codeCredentials).At("origin.password")
	case errors.As(err, &said) && (said.Code == 1049 || said.Code == 1044):
		return fault.New(fault.Invalid, "The database does not exist, or is not open to this user: %s.", said.Message).WithCode(codeNoDatabase).At("origin.database")
	case errors.As(err, &said):
		return fault.New(fault.Invalid, "The database refuses the login: %s.", said.Error()).WithCode(codeOther).At("origin")
	case errors.Is(err, mywire.ErrMalformed):
		return fault.Wrap(err, fault.Invalid, "What answers at %s, port %d, is not MySQL.", h.Origin.Host, h.Origin.Port).WithCode(codeOther).At("origin")
	}
	return unreachable(err, h)
}

// ServeMySQL is ServePostgres for clients of MySQL.
func (p *Hyperdrive) ServeMySQL(ctx context.Context, l net.Listener) error {
	return p.entrance(ctx, p.o.Clients, tooManyMySQL()).each(l, func(life context.Context, c net.Conn) {
		host, _, err := net.SplitHostPort(c.RemoteAddr().String())
		if err != nil {
			host = "local"
		}
		p.converseMySQL(life, &mysql.Guest{
			Conn: c, Source: "client " + host, Ending: ctx,
			Password: func(l *mywire.Login) (string, error) { return p.accessPassword(l.User) },
			Find:     func(l *mywire.Login) (*mysql.Upstream, error) { return p.findMySQL("", l.User) },
		})
	})
}

// accessPassword returns the password of a configuration on the private port.
func (p *Hyperdrive) accessPassword(id string) (string, error) {
	var h *spec.Hyperdrive
	p.mu.Lock()
	if u := p.pools[id]; u != nil {
		h = u.config // it is replaced when the configuration changes
	}
	p.mu.Unlock()
	if h == nil {
		return "", &mywire.Error{Code: 1045, State: "28000", Message: "Access denied: the user is the ID of a Hyperdrive configuration, with the password that this node made for it"}
	}
	password, err := p.o.Seal.Open(h.Access, sealContext(h.AccountID, h.ID, "access"))
	return string(password), err
}

// boundMySQL is who has come by a script's binding.
func (p *Hyperdrive) boundMySQL(user product.BindingUser, b *spec.WorkerBinding) *mysql.Guest {
	return &mysql.Guest{
		Source: "script " + user.Script,
		Password: func(l *mywire.Login) (string, error) {
			if subtle.ConstantTimeCompare([]byte(l.User), []byte(bound(b))) != 1 {
				return "", &mywire.Error{Code: 1045, State: "28000", Message: "Access denied: use the user and password of the binding"}
			}
			return p.bindingPassword(user, b), nil
		},
		Find: func(*mywire.Login) (*mysql.Upstream, error) { return p.findMySQL(user.AccountID, bound(b)) },
	}
}

func (p *Hyperdrive) converseMySQL(ctx context.Context, g *mysql.Guest) {
	g.Refused = func(reason string) { p.metrics.refused.WithLabelValues(reason).Inc() }
	if err := mysql.Serve(ctx, g); err != nil && !errors.Is(err, context.Canceled) {
		p.o.Observe.Logger().Debug("client of hyperdrive ended", "error", err)
	}
}

// tooManyMySQL is an ERR packet, which a server may send in place of its greeting.
func tooManyMySQL() []byte {
	body := (&mywire.Error{Code: 1040, State: "08004", Message: "Too many connections"}).Append(nil)
	return append([]byte{byte(len(body)), 0, 0, 0}, body...)
}
