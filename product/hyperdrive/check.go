package hyperdrive

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"time"

	"selvage/engine/pgwire"
	"selvage/foundation/fault"
	"selvage/product/hyperdrive/postgres"
	"selvage/spec"
)

// checkTime is how long a database may take to show that it is there.
const checkTime = 10 * time.Second

// Cloudflare's numbers for what may be wrong with a database.
const (
	codeNoConfig    = 2006
	codeBadConfig   = 2007
	codeBadHost     = 2008
	codeNoPublicIP  = 2009
	codeNoConnect   = 2010
	codeRefused     = 2011
	codeNoTLS       = 2012
	codeCredentials = 2013
	codeNoDatabase  = 2014
	codeOther       = 2015
	codeTestQuery   = 2016
	codeNameTaken   = 2017
)

// check logs in at the database of h. Its error says what is wrong, without addresses of the inside.
func (p *Hyperdrive) check(ctx context.Context, h *spec.Hyperdrive) error {
	if !h.Postgres() {
		return p.checkMySQL(ctx, h)
	}
	login, err := p.login(h)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	u := postgres.NewUpstream(postgres.Options{Login: login, Sessions: p.sessions})
	defer u.Close()
	if err := u.Check(ctx); err != nil {
		return unreachable(err, h)
	}
	return nil
}

// unreachable puts an error of a login into words.
func unreachable(err error, h *spec.Hyperdrive) error {
	var dns *net.DNSError
	var said *pgwire.Failure
	var op *net.OpError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var bad *tls.CertificateVerificationError
	switch {
	case errors.Is(err, errForbidden):
		return fault.New(fault.Invalid, "Programs here may not connect to the address of the database: it is this node itself, or not on the public internet. The operator opens a private network with the setting workers-allow, such as --workers-allow 10.0.0.0/8.").WithCode(codeNoPublicIP).At("origin.host")
	case errors.As(err, &dns):
		return fault.New(fault.Invalid, "The host %.100q of the database does not resolve.", h.Origin.Host).WithCode(codeBadHost).At("origin.host")
	case errors.As(err, &said) && errors.Is(err, postgres.ErrTestQuery):
		return fault.New(fault.Invalid, "The database accepts the login and refuses a query: %s.", said.Error()).WithCode(codeTestQuery).At("origin.user")
	case errors.As(err, &said):
		return refusedLogin(said)
	case errors.Is(err, pgwire.ErrNoTLS):
		return fault.New(fault.Invalid, "The database does not speak TLS, which sslmode %s asks for.", h.MTLS.SSLMode).WithCode(codeNoTLS).At("mtls.sslmode")
	case errors.As(err, &unknown), errors.As(err, &name), errors.As(err, &bad):
		return fault.New(fault.Invalid, "The certificate of the database does not pass sslmode %s: %s.", h.MTLS.SSLMode, err.Error()).WithCode(codeNoTLS).At("mtls.sslmode")
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &op) && op.Timeout():
		return fault.New(fault.Invalid, "The database at %s, port %d, did not answer within %v.", h.Origin.Host, h.Origin.Port, checkTime).WithCode(codeNoConnect).At("origin.host")
	case errors.As(err, &op) && op.Op == "dial":
		return fault.New(fault.Invalid, "The host %s refuses connections to port %d: is the database running there, and open to this node?", h.Origin.Host, h.Origin.Port).WithCode(codeRefused).At("origin.port")
	}
	return fault.Wrap(err, fault.Invalid, "The login at the database failed: what answers at %s, port %d, is not PostgreSQL, or ended the connection.", h.Origin.Host, h.Origin.Port).WithCode(codeOther).At("origin")
}

func refusedLogin(f *pgwire.Failure) error {
	switch {
	case f.Code == "28P01" || f.Code == "28000":
		return fault.New(fault.Invalid, "The database does not accept the credentials: %s.", f.Message).WithCode(codeCredentials).At("origin.password")
	case f.Code == "3D000":
		return fault.New(fault.Invalid, "The database does not exist: %s.", f.Message).WithCode(codeNoDatabase).At("origin.database")
	}
	return fault.New(fault.Invalid, "The database refuses the login: %s.", f.Error()).WithCode(codeOther).At("origin")
}
