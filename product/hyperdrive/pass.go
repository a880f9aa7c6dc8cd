package hyperdrive

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"selvage/engine/pgwire"
	"selvage/product/hyperdrive/postgres"
)

// When a node is taken over, clients of the private port that are in no transaction go on in the new
// process. The old one connects to a unix socket for each of them, and says over it
//
//	old  the length of what follows, with the client's descriptor
//	old  a passage, as JSON
//	new  'y': everything is in place
//	old  'g': it is yours
//
// Whoever does not get the other's octet in time lets go: the old one tells the client to connect again.

// passage is a client on its way.
type passage struct {
	Config string          `json:"config"`
	Source string          `json:"source"`
	State  *postgres.State `json:"state"`
}

const (
	passTime   = 5 * time.Second
	maxPassage = 2 * postgres.MaxState // base64
	taken      = 'y'
	given      = 'g'
)

// PassTo has clients that would have to leave go on in the process that dial reaches.
func (p *Hyperdrive) PassTo(dial func() (*net.UnixConn, error)) { p.successor.Store(&dial) }

// handOn returns what passes one client on.
func (p *Hyperdrive) handOn(c net.Conn, config, source string) func(*postgres.State) bool {
	return func(st *postgres.State) bool {
		dial := p.successor.Load()
		if dial == nil {
			return false
		}
		err := send(*dial, c, passage{config, source, st})
		if err != nil {
			p.o.Observe.Logger().Debug("client of hyperdrive was not passed on", "error", err)
		}
		return err == nil
	}
}

func send(dial func() (*net.UnixConn, error), c net.Conn, m passage) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	sys, ok := c.(syscall.Conn)
	if !ok {
		c.Close()
		return errors.New("the connection has no descriptor")
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return err
	}
	to, err := dial()
	if err != nil {
		return err
	}
	defer to.Close()
	to.SetDeadline(time.Now().Add(passTime))
	var failed error
	err = raw.Control(func(fd uintptr) {
		_, _, failed = to.WriteMsgUnix(binary.BigEndian.AppendUint32(nil, uint32(len(body))), unix.UnixRights(int(fd)), nil)
	})
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	if _, err := to.Write(body); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(to, answer[:]); err != nil {
		return err
	}
	_, err = to.Write([]byte{given})
	return err
}

// Adopt goes on with clients that the process before passes on, until ctx ends. They come in by the
// entrance of ServePostgres.
func (p *Hyperdrive) Adopt(ctx context.Context, l *net.UnixListener) {
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	var work sync.WaitGroup
	defer work.Wait()
	for {
		from, err := l.AcceptUnix()
		if err != nil {
			return
		}
		work.Go(func() {
			if err := p.adoptOne(from); err != nil {
				from.Close()
				p.o.Observe.Logger().Debug("client of hyperdrive was not taken over", "error", err)
			}
		})
	}
}

// adoptOne takes one client over, and leaves it to the entrance of the private port.
func (p *Hyperdrive) adoptOne(from *net.UnixConn) error {
	from.SetDeadline(time.Now().Add(passTime))
	c, m, err := receive(from)
	if err != nil {
		return err
	}
	u := p.find("", m.Config)
	e := p.private.await(passTime)
	if u == nil || e == nil {
		c.Close()
		return fmt.Errorf("configuration %.40q is not there, or not served", m.Config)
	}
	s := pgwire.NewSocket(c)
	accept := func() bool {
		defer from.Close()
		var answer [1]byte
		_, err := from.Write([]byte{taken})
		if err == nil {
			_, err = io.ReadFull(from, answer[:])
		}
		return err == nil && answer[0] == given
	}
	ok := e.admit(c, func(life context.Context, c net.Conn) {
		g := postgres.Guest{
			Client: &pgwire.Client{Conn: s, In: pgwire.NewReader(s, p.buffers)}, Source: m.Source, Ending: e.ctx,
			Resolve: func() *postgres.Upstream { return p.find("", m.Config) }, HandOn: p.handOn(s, m.Config, m.Source),
		}
		if err := u.Adopt(life, g, m.State, accept); err != nil && !errors.Is(err, context.Canceled) {
			p.o.Observe.Logger().Debug("client of hyperdrive ended", "error", err)
		}
		from.Close()
	})
	if !ok {
		c.Close()
		return errors.New("there are too many clients")
	}
	return nil
}

// receive reads one passage, and the connection that comes with it.
func receive(from *net.UnixConn) (net.Conn, *passage, error) {
	size, rights := make([]byte, 4), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := from.ReadMsgUnix(size, rights)
	if err != nil {
		return nil, nil, err
	}
	var fds []int
	messages, _ := unix.ParseSocketControlMessage(rights[:n])
	for _, m := range messages {
		got, _ := unix.ParseUnixRights(&m)
		fds = append(fds, got...)
	}
	if len(fds) != 1 {
		return nil, nil, fmt.Errorf("%d descriptors came with a client", len(fds))
	}
	f := os.NewFile(uintptr(fds[0]), "client")
	defer f.Close()
	length := binary.BigEndian.Uint32(size)
	if length > maxPassage {
		return nil, nil, fmt.Errorf("a client of %d bytes, the limit is %d", length, maxPassage)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(from, body); err != nil {
		return nil, nil, err
	}
	m := &passage{State: &postgres.State{}}
	if err := json.Unmarshal(body, m); err != nil {
		return nil, nil, err
	}
	c, err := net.FileConn(f)
	return c, m, err
}
