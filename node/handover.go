package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// A takeover is a talk of two processes over DIR/handover.sock, one JSON message per packet:
//
//	new  hello      who I am; the protocol I speak
//	old  sockets    the listening sockets and the lock as SCM_RIGHTS, what I was configured with
//	new  prepared   my configuration is good and I have the sockets it asks for
//	old  released   I let API requests wait, have finished those under way, and closed the store
//	new  ready      I have opened the store and serve on the sockets; API requests that still reach
//	                you: pass them to DIR/relay.sock
//	old             stops accepting, drains its connections, and leaves; the talk ends with it
//
// The old node serves sites all the time, as they were when it released the store: a connection to it
// gets one more answer at most after the new one serves. If the new one says failed, goes silent or dies before it
// is ready, the old one opens the store again and goes on as if nothing had happened. Both sides
// refuse a protocol they do not know before anything has moved.
const handoverProtocol = 1

const (
	handoverSocket = "handover.sock"
	relaySocket    = "relay.sock"
	clientsSocket  = "clients.sock" // where a node that took over goes on with clients of databases

	replyWithin    = 10 * time.Second // a side that only has to answer
	releasedWithin = 30 * time.Second // finishing API requests under way, closing the store
	readyWithin    = 60 * time.Second // preparing a large snapshot, opening the store
)

// The steps of the talk, see handoverProtocol.
const (
	stepHello    = "hello"
	stepSockets  = "sockets"
	stepPrepared = "prepared"
	stepReleased = "released"
	stepReady    = "ready"
	stepFailed   = "failed"
)

type message struct {
	Protocol int               `json:"protocol"`
	Step     string            `json:"step"`
	PID      int               `json:"pid"`
	Version  string            `json:"version,omitempty"` // of the program
	Sockets  []socket          `json:"sockets,omitempty"` // in the order of the descriptors; the lock follows them
	Given    map[string]string `json:"given,omitempty"`   // what the old node was told by flag and environment
	Reason   string            `json:"reason,omitempty"`  // why it failed, for people
}

// courier carries messages of one takeover.
type courier struct {
	conn    *net.UnixConn
	version string
}

func (c *courier) close() { c.conn.Close() }

// send sends one message with descriptors.
func (c *courier) send(m message, fds ...int) error {
	m.Protocol, m.PID, m.Version = handoverProtocol, os.Getpid(), c.version
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	c.conn.SetWriteDeadline(time.Now().Add(replyWithin))
	_, _, err = c.conn.WriteMsgUnix(data, rights, nil)
	return err
}

// receive waits for the message of a step. The caller owns the descriptors, also with an error.
func (c *courier) receive(step string, within time.Duration) (message, []int, error) {
	data, rights := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(4*32))
	c.conn.SetReadDeadline(time.Now().Add(within))
	n, rn, flags, _, err := c.conn.ReadMsgUnix(data, rights)
	if err != nil {
		return message{}, nil, fmt.Errorf("wait for %q: %w", step, err)
	}
	fds := descriptors(rights[:rn])
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		return message{}, fds, fmt.Errorf("wait for %q: the message was cut off", step)
	}
	if n == 0 {
		return message{}, fds, fmt.Errorf("wait for %q: the other process ended", step)
	}
	var m message
	if err := json.Unmarshal(data[:n], &m); err != nil {
		return message{}, fds, fmt.Errorf("wait for %q: %w", step, err)
	}
	if m.Step == stepFailed {
		return m, fds, errors.New(m.Reason)
	}
	if m.Protocol != handoverProtocol {
		return m, fds, fmt.Errorf("selvage %s (pid %d) speaks handover protocol %d, this one %s speaks %d: stop the old node and start the new one", m.Version, m.PID, m.Protocol, c.version, handoverProtocol)
	}
	if m.Step != step {
		return m, fds, fmt.Errorf("the other process said %q where %q was due", m.Step, step)
	}
	return m, fds, nil
}

func descriptors(rights []byte) []int {
	var fds []int
	messages, _ := unix.ParseSocketControlMessage(rights)
	for _, m := range messages {
		got, _ := unix.ParseUnixRights(&m)
		fds = append(fds, got...)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return fds
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// call connects to the node that runs on dir.
func call(dir, version string) (*courier, error) {
	path, done, err := socketPath(dir, handoverSocket)
	if err != nil {
		return nil, err
	}
	defer done()
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("no node runs on %s that could be taken over (%w): start without --takeover", dir, err)
	}
	return &courier{conn, version}, nil
}

// listenUnix listens on DIR/name in place of whatever listened there before, in one step.
func listenUnix(dir, network, name string) (*net.UnixListener, error) {
	path, done, err := socketPath(dir, name)
	if err != nil {
		return nil, err
	}
	defer done()
	fresh := fmt.Sprintf("%s.%d", path, os.Getpid())
	os.Remove(fresh)
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: fresh, Net: network})
	if err != nil {
		return nil, err
	}
	// The next node puts its own socket in this place: closing ours must not remove it.
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(fresh, 0o600), os.Rename(fresh, path)); err != nil {
		l.Close()
		os.Remove(fresh)
		return nil, err
	}
	return l, nil
}

// dialUnix connects to DIR/name.
func dialUnix(dir, name string) (*net.UnixConn, error) {
	path, done, err := socketPath(dir, name)
	if err != nil {
		return nil, err
	}
	defer done()
	return net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
}

// socketPath returns a path for DIR/name that fits into the 107 bytes a socket's name may have,
// valid until done is called.
func socketPath(dir, name string) (path string, done func(), err error) {
	path = filepath.Join(dir, name)
	if len(path) <= 90 {
		return path, func() {}, nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name), func() { d.Close() }, nil
}
