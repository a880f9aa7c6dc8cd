package pgwire

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Codes that stand in place of a version.
const (
	version30  = 3 << 16
	cancelCode = 80877102
	sslCode    = 80877103
	gssCode    = 80877104
)

// maxLogin bounds the messages of a login.
const maxLogin = 16 << 10

// Login says how to log in at a server.
type Login struct {
	Dial     func(ctx context.Context) (net.Conn, error)
	TLS      *tls.Config // nil: no TLS
	Optional bool        // with TLS: go on without it if the server has none
	User     string
	Password string
	Database string
	Settings map[string]string // further parameters of the startup message
	Buffers  *Buffers          // of the reader; has to be given
}

// Server is a connection to a server that has logged in. Not safe for concurrent use.
type Server struct {
	Conn       net.Conn
	In         *Reader
	Parameters map[string]string // as the server reported them
	Key        [8]byte           // for CancelRequest
}

// ErrNoTLS says that the server does not speak TLS.
var ErrNoTLS = errors.New("the server does not speak TLS")

// Connect dials and logs in. An error of the server is a *Failure.
func (l *Login) Connect(ctx context.Context) (*Server, error) {
	c, err := l.dial(ctx)
	if err != nil {
		return nil, err
	}
	if t, ok := ctx.Deadline(); ok {
		c.SetDeadline(t)
	}
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	c = NewSocket(c)
	s := &Server{Conn: c, In: NewReader(c, l.Buffers), Parameters: map[string]string{}}
	err = s.login(l)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	c.SetDeadline(time.Time{})
	return s, nil
}

// dial connects, with TLS if that is wanted.
func (l *Login) dial(ctx context.Context) (net.Conn, error) {
	c, err := l.Dial(ctx)
	if err != nil || l.TLS == nil {
		return c, err
	}
	secure, err := l.secure(ctx, c)
	if err != nil {
		c.Close()
	}
	return secure, err
}

func (l *Login) secure(ctx context.Context, c net.Conn) (net.Conn, error) {
	if t, ok := ctx.Deadline(); ok {
		c.SetDeadline(t)
	}
	if _, err := c.Write(code(sslCode)); err != nil {
		return nil, err
	}
	var answer [1]byte
	if _, err := io.ReadFull(c, answer[:]); err != nil {
		return nil, err
	}
	switch {
	case answer[0] == 'S':
		t := tls.Client(c, l.TLS)
		return t, t.HandshakeContext(ctx)
	case answer[0] == 'N' && l.Optional:
		return c, nil
	case answer[0] == 'N':
		return nil, ErrNoTLS
	}
	return nil, fmt.Errorf("answer %q to a request for TLS: %w", answer[0], ErrMalformed)
}

// code is a message that consists of its length and a code.
func code(c uint32, more ...byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(more)))
	return append(binary.BigEndian.AppendUint32(b, c), more...)
}

func (s *Server) login(l *Login) error {
	b := code(version30)
	for _, kv := range [][2]string{{"user", l.User}, {"database", l.Database}} {
		b = AppendString(AppendString(b, kv[0]), kv[1])
	}
	for k, v := range l.Settings {
		b = AppendString(AppendString(b, k), v)
	}
	b = append(b, 0)
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	if _, err := s.Conn.Write(b); err != nil {
		return err
	}
	scram := &scramClient{password: l.Password}
	for {
		kind, body, err := s.In.Message(maxLogin)
		if err != nil {
			return err
		}
		size := len(body) + head
		switch kind {
		case 'R':
			err = s.authenticate(l, scram, body)
		case 'E':
			err = ParseFailure(body)
		case 'S':
			s.NoteParameter(body)
		case 'K':
			if len(body) != 8 {
				return ErrMalformed
			}
			s.Key = [8]byte(body)
		case 'N', 'v':
		case 'Z':
			s.In.Discard(size)
			return nil
		default:
			return fmt.Errorf("message %q while logging in: %w", kind, ErrMalformed)
		}
		if err != nil {
			return err
		}
		s.In.Discard(size)
	}
}

// NoteParameter takes the body of a ParameterStatus.
func (s *Server) NoteParameter(body []byte) {
	if name, rest, ok := CutString(body); ok {
		if value, _, ok := CutString(rest); ok && len(s.Parameters) < 100 {
			s.Parameters[string(name)] = string(value)
		}
	}
}

// authenticate answers one request of the server.
func (s *Server) authenticate(l *Login, scram *scramClient, body []byte) error {
	if len(body) < 4 {
		return ErrMalformed
	}
	rest := body[4:]
	switch how := binary.BigEndian.Uint32(body); how {
	case 0:
		return nil
	case 3:
		return s.say(AppendString(nil, l.Password))
	case 5:
		if len(rest) != 4 {
			return ErrMalformed
		}
		return s.say(AppendString(nil, md5Password(l.User, l.Password, rest)))
	case 10:
		if !strings.Contains("\x00"+string(rest), "\x00"+mechanism+"\x00") {
			return fmt.Errorf("the server offers no authentication that is known here: %q", rest)
		}
		first := scram.first()
		b := AppendString(nil, mechanism)
		b = binary.BigEndian.AppendUint32(b, uint32(len(first)))
		return s.say(append(b, first...))
	case 11:
		final, err := scram.final(string(rest))
		if err != nil {
			return err
		}
		return s.say([]byte(final))
	case 12:
		return scram.verify(string(rest))
	default:
		return fmt.Errorf("the server wants authentication of the kind %d, which is not supported: use scram-sha-256, md5 or password", how)
	}
}

func (s *Server) say(body []byte) error {
	_, err := s.Conn.Write(Append(nil, 'p', body))
	return err
}

// Cancel asks the server that key belongs to, to stop what it is doing. It returns when the server has
// taken note.
func (l *Login) Cancel(ctx context.Context, key [8]byte) error {
	c, err := l.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if t, ok := ctx.Deadline(); ok {
		c.SetDeadline(t)
	}
	if _, err := c.Write(code(cancelCode, key[:]...)); err != nil {
		return err
	}
	_, _ = c.Read(make([]byte, 1)) // the server closes when it is done
	return nil
}
