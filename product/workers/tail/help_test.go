package tail_test

import (
	"errors"
	"net/netip"

	"github.com/coder/websocket"
)

func netipOf(hostport string) (netip.Addr, error) {
	ap, err := netip.ParseAddrPort(hostport)
	return ap.Addr(), err
}

func asClose(err error, end *websocket.CloseError) bool { return errors.As(err, end) }
