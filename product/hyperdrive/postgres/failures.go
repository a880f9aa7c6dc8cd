package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"selvage/engine/pgwire"
	"selvage/product/hyperdrive/pool"
)

// lost tells the client that the server went away in the middle of its transaction.
func (s *session) lost(err error) error {
	if s.ctx.Err() == nil || s.client == nil {
		s.fatal(&pgwire.Failure{Code: "08006", Message: "the connection to the database was lost; whether the last statement took effect is not known", Hint: "Connect again."})
	}
	return err
}

// fatal says goodbye.
func (s *session) fatal(f *pgwire.Failure) {
	f.Severity = "FATAL"
	if s.client != nil {
		s.client.SetWriteDeadline(time.Now().Add(time.Second))
	}
	_ = s.write(f.Append(nil))
}

// refuse answers a batch with an error of ours: no server is held.
func (s *session) refuse(err error) error {
	return s.answer(failure(err))
}

// failure puts an error into words for clients.
func failure(err error) *pgwire.Failure {
	var f *pgwire.Failure
	switch {
	case errors.Is(err, pool.ErrTimeout):
		out := &pgwire.Failure{Code: "53300", Message: pool.ErrTimeout.Error(), Hint: "All connections of this Hyperdrive configuration are busy: make transactions shorter, or raise origin_connection_limit."}
		if errors.As(err, &f) {
			out.Code, out.Detail, out.Hint = "08006", "The database answered: "+f.Error(), ""
		} else if cause := dialCause(err); cause != "" {
			out.Code, out.Detail, out.Hint = "08006", cause, ""
		}
		return out
	case errors.Is(err, pool.ErrCrowded):
		return &pgwire.Failure{Code: "53300", Message: pool.ErrCrowded.Error()}
	case errors.Is(err, pool.ErrClosed):
		return &pgwire.Failure{Code: "57P01", Message: "this Hyperdrive configuration was deleted"}
	case errors.As(err, &f):
		own := *f
		own.Severity = ""
		return &own
	}
	out := &pgwire.Failure{Code: "08006", Message: "cannot connect to the database", Detail: dialCause(err)}
	return out
}

// dialCause says what kept a connection from being made, without addresses of the inside.
func dialCause(err error) string {
	var op *net.OpError
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return "The name of the database's host does not resolve."
	case errors.As(err, &op) && op.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "The database's host did not answer in time."
	case errors.As(err, &op):
		return "The connection to the database's host failed: " + op.Err.Error() + "."
	case errors.Is(err, pgwire.ErrNoTLS):
		return "The database does not speak TLS, which sslmode asks for."
	case errors.Is(err, io.EOF):
		return "The database's host closed the connection."
	}
	return ""
}
