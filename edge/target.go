package edge

import (
	"net/netip"
	"time"
)

// Target is the origin of a request: where to connect and how to trust it.
type Target struct {
	Scheme      string        // http, https
	Host        string        // Host field to send; empty means as the client sent it
	Hostname    string        // to resolve when Addrs is empty: the content of a CNAME record
	Addrs       []netip.Addr  // to try in this order
	Port        uint16        // 80, 443 or the port of the request
	ServerName  string        // SNI and the name to verify
	Verify      bool          // whether the certificate has to be valid for ServerName
	HTTP2       bool          // whether to offer h2
	ReadTimeout time.Duration // to the first byte of the response

	// Permit is asked about each address before it is used, after names were resolved; an error,
	// such as a Failure of a Guard, leaves the address out. Nil permits all: for origins of sites,
	// which are their owner's choice.
	Permit func(netip.AddrPort) error
}
