package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"time"
)

// predecessor is the node that this process takes over from.
type predecessor struct {
	courier *courier
	pid     int
	version string
	given   map[string]string
	sockets sockets
	lock    *os.File
	gone    bool   // it died in the middle: what it held is ours
	broken  string // why its store was not open; empty if it was
}

// greet asks the node that runs on dir to hand itself over.
func greet(dir string) (*predecessor, error) {
	c, err := call(dir, Version)
	if err != nil {
		return nil, err
	}
	p := &predecessor{courier: c, sockets: sockets{}}
	if err := p.receiveSockets(); err != nil {
		p.abandon(err)
		return nil, fmt.Errorf("take over the node on %s: %w", dir, err)
	}
	return p, nil
}

func (p *predecessor) receiveSockets() error {
	if err := p.courier.send(message{Step: stepHello}); err != nil {
		return err
	}
	m, fds, err := p.courier.receive(stepSockets, replyWithin)
	if err != nil {
		closeAll(fds)
		return err
	}
	if len(fds) != len(m.Sockets)+1 {
		closeAll(fds)
		return fmt.Errorf("%d descriptors came for %d sockets and the lock", len(fds), len(m.Sockets))
	}
	p.pid, p.version, p.given = m.PID, m.Version, m.Given
	p.lock = os.NewFile(uintptr(fds[len(m.Sockets)]), lockFile)
	for i, s := range m.Sockets {
		adopted, err := adopt(s, fds[i])
		if err != nil {
			closeAll(fds[i+1 : len(m.Sockets)])
			return err
		}
		p.sockets[s.Name] = adopted
	}
	return nil
}

// awaitRelease tells the predecessor that this process has what it needs, and returns when the store
// is free. A predecessor that dies meanwhile has left everything to us.
func (p *predecessor) awaitRelease() error {
	if err := p.courier.send(message{Step: stepPrepared}); err != nil {
		p.gone = true
		return nil
	}
	m, fds, err := p.courier.receive(stepReleased, releasedWithin)
	closeAll(fds)
	if errors.Is(err, io.EOF) {
		p.gone = true
		return nil
	}
	p.broken = m.Reason
	return err
}

// succeed tells the predecessor that this process serves. It drains and leaves.
func (p *predecessor) succeed() {
	if !p.gone {
		p.courier.send(message{Step: stepReady})
	}
	sign(p.lock)
}

// abandon lets the predecessor go on as before.
func (p *predecessor) abandon(why error) {
	p.courier.send(message{Step: stepFailed, Reason: why.Error()})
	p.courier.close()
	p.sockets.close()
	if p.lock != nil {
		p.lock.Close()
	}
}

// waitGone returns when the predecessor has drained and left, or ctx ends.
func (p *predecessor) waitGone(ctx context.Context) {
	stop := context.AfterFunc(ctx, p.courier.close)
	defer stop()
	p.courier.conn.SetReadDeadline(time.Time{})
	p.courier.conn.Read(make([]byte, 1))
	p.courier.close()
}

// serveRelay serves requests that the predecessor passes on, what its scripts ask of data, and its clients
// of databases, until it is gone. What it may still read of R2 stays until then.
func (n *Node) serveRelay(l, data net.Listener, clients *net.UnixListener, unpin func()) {
	defer unpin()
	ctx, cancel := context.WithCancel(n.life)
	defer cancel()
	n.serving.group.Go(func() { n.serveData(ctx, data) })
	n.serving.group.Go(func() { n.parts.storage.hyperdrive.Adopt(ctx, clients) })
	server := &http.Server{Handler: http.HandlerFunc(n.fromRelay), ReadHeaderTimeout: replyWithin}
	go server.Serve(l)
	defer server.Close()
	n.predecessor.waitGone(n.life)
	n.log.Info("predecessor has drained and left", "pid", n.predecessor.pid)
}

// succession is how this node is being replaced.
type succession struct {
	done chan struct{} // closed when a successor serves

	mu       sync.Mutex // held by a takeover under way; guards the fields below
	stopping bool       // none may begin any more
	by       *courier   // the talk with who serves; its end tells that this process is gone
}

// stop brings a takeover that has begun to its end, lets no other begin, and returns the talk with
// the successor, or nil if there is none.
func (s *succession) stop() *courier {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	return s.by
}

// awaitSuccessor answers takeovers until one succeeds or the node's life ends.
func (n *Node) awaitSuccessor(l *net.UnixListener) {
	defer l.Close()
	stop := context.AfterFunc(n.life, func() { l.Close() })
	defer stop()
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		c := &courier{conn, Version}
		if n.handOver(c) == nil {
			return
		}
	}
}

// handOver is one takeover from begin to end; nothing else may end or hand over the node meanwhile.
func (n *Node) handOver(c *courier) error {
	n.succession.mu.Lock()
	defer n.succession.mu.Unlock()
	err := n.give(c)
	if err == nil {
		n.succession.by = c
		close(n.succession.done)
		return nil
	}
	n.log.Error("takeover failed, this node goes on", "error", err)
	c.send(message{Step: stepFailed, Reason: err.Error()})
	c.close()
	return err
}

// give hands this node to the process at the other end. Until that says that it is ready, every
// error puts things back as they were.
func (n *Node) give(c *courier) error {
	if n.succession.stopping {
		return errors.New("the node is stopping")
	}
	m, fds, err := c.receive(stepHello, replyWithin)
	closeAll(fds)
	if err != nil {
		return err
	}
	n.log.Info("handing over to a new process", "pid", m.PID, "version", m.Version)
	if err := n.giveSockets(c); err != nil {
		return err
	}
	if _, _, err := c.receive(stepPrepared, replyWithin); err != nil {
		return err
	}
	n.release()
	released := message{Step: stepReleased}
	if why := n.control.broken.Load(); why != nil {
		released.Reason = *why
	}
	if err := c.send(released); err != nil {
		n.resume()
		return err
	}
	if _, _, err := c.receive(stepReady, readyWithin); err != nil {
		n.resume()
		return err
	}
	n.data.reach(n.config.Data)
	n.data.turn(passRelays, "")
	n.door.pass(relay{n.data.relay, relayAPI, func(w http.ResponseWriter, _ *http.Request, _ error) { unavailable(w, successorGone) }}.handler())
	n.parts.storage.hyperdrive.PassTo(func() (*net.UnixConn, error) { return dialUnix(n.config.Data, clientsSocket) })
	return nil
}

func (n *Node) giveSockets(c *courier) error {
	m := message{Step: stepSockets, Given: n.config.given}
	var fds []int
	defer func() { closeAll(fds) }()
	for _, s := range n.sockets {
		fd, err := s.dup()
		if err != nil {
			return err
		}
		m.Sockets, fds = append(m.Sockets, *s), append(fds, fd)
	}
	return c.send(m, append(fds, int(n.lock.Fd()))...)
}

// handingOver is what those are told who need a store while it changes hands.
const handingOver = "The node is handing over to a new process: try again."

// release lets API requests wait, finishes those under way, ends background work, and closes the
// store.
func (n *Node) release() {
	ctx, cancel := context.WithTimeout(n.life, holdAtMost/2)
	defer cancel()
	if err := n.door.hold(ctx); err != nil {
		n.log.Warn("API requests are still under way after the time they have to finish", "error", err)
	}
	if err := n.data.hold(ctx); err != nil {
		n.log.Warn("scripts still read or write data after the time they have to finish", "error", err)
	}
	n.background.stop()
	n.parts.each(holding.Release)
	n.closeData(handingOver)
	n.closeControl(handingOver)
}

// resume takes back what release gave away.
func (n *Node) resume() {
	n.openData()
	n.parts.each(holding.Reclaim)
	n.openControl()
	n.background.start(n.life)
	n.data.turn(passOpen, "")
}

// spawnSuccessor starts this program again to take this node over, as after SIGHUP.
func (n *Node) spawnSuccessor() error {
	if os.Getpid() == 1 {
		return errors.New("this node is process 1 of its container, which would end with it: replace the container instead")
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(program, append(os.Args[1:], "--takeover")...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return err
	}
	go cmd.Wait() // reaps it if it fails; it says itself why
	return nil
}
