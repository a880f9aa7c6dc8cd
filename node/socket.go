package node

import (
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket is one bound address: a listener, or a packet connection for DNS over UDP.
type socket struct {
	Name  string `json:"name"`  // api, http, https, dns, dns-udp, admin, demo
	Asked string `json:"asked"` // the address as configured, to tell whether it changed at a takeover

	listener net.Listener
	packets  net.PacketConn
}

// sockets are all addresses of a node by name.
type sockets map[string]*socket

// bind binds what is in wanted (name to address) and not in s already. Sockets in s that are not
// wanted, or at another address, are closed. On an error everything is closed.
func (s sockets) bind(wanted map[string]string) error {
	for name, sock := range s {
		if asked, ok := wanted[name]; !ok || asked != sock.Asked {
			sock.close()
			delete(s, name)
		}
	}
	for name, asked := range wanted {
		if s[name] != nil || name == "dns-udp" {
			continue
		}
		if err := s.bindOne(name, asked); err != nil {
			s.close()
			return err
		}
	}
	return nil
}

// bindOne binds one name; "dns" brings "dns-udp" with it, on the same port.
func (s sockets) bindOne(name, asked string) error {
	const attempts = 20 // a free TCP port may be taken in UDP
	for attempt := 1; ; attempt++ {
		l, err := net.Listen("tcp", asked)
		if err != nil {
			return bindError(name, asked, err)
		}
		if name != "dns" {
			s[name] = &socket{Name: name, Asked: asked, listener: l}
			return nil
		}
		p, err := net.ListenPacket("udp", l.Addr().String())
		if err == nil {
			s[name] = &socket{Name: name, Asked: asked, listener: l}
			s["dns-udp"] = &socket{Name: "dns-udp", Asked: asked, packets: p}
			return nil
		}
		l.Close()
		if attempt == attempts {
			return bindError(name, asked, err)
		}
	}
}

func bindError(name, asked string, err error) error {
	return fmt.Errorf("listen for %s: %w; choose another address with --%s (port 0 picks a free one) or see who has it with `ss -lntup`", name, err, name)
}

// close closes every socket.
func (s sockets) close() {
	for _, sock := range s {
		sock.close()
	}
}

func (s *socket) close() {
	if s.listener != nil {
		s.listener.Close()
	}
	if s.packets != nil {
		s.packets.Close()
	}
}

// addr returns the address bound, with its real port.
func (s *socket) addr() net.Addr {
	if s.packets != nil {
		return s.packets.LocalAddr()
	}
	return s.listener.Addr()
}

// host returns an address of this socket that a client on this machine can dial.
func (s *socket) host() string {
	host, port, err := net.SplitHostPort(s.addr().String())
	if err != nil {
		return s.addr().String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// url returns where a client on this machine reaches a socket, empty if it is off.
func (s sockets) url(name, scheme string) string {
	if s[name] == nil {
		return ""
	}
	return s[name].url(scheme)
}

// dup returns a new descriptor of the same socket. It does not go through os.File.Fd, which would
// set the socket, and so the one of the node still serving, to blocking mode.
func (s *socket) dup() (fd int, err error) {
	conn, ok := any(s.listener).(syscall.Conn)
	if s.packets != nil {
		conn, ok = s.packets.(syscall.Conn)
	}
	if !ok {
		return -1, fmt.Errorf("socket %s has no descriptor", s.Name)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	if cerr := raw.Control(func(old uintptr) {
		fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
	}); cerr != nil {
		return -1, cerr
	}
	return fd, err
}

// adopt makes a socket of a descriptor that another node passed on.
func adopt(s socket, fd int) (*socket, error) {
	f := os.NewFile(uintptr(fd), s.Name)
	defer f.Close()
	var err error
	if s.Name == "dns-udp" {
		s.packets, err = net.FilePacketConn(f)
	} else {
		s.listener, err = net.FileListener(f)
	}
	if err != nil {
		return nil, fmt.Errorf("take over socket %s: %w", s.Name, err)
	}
	return &s, nil
}
