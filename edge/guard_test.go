package edge_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"selvage/edge"
)

func TestPublic(t *testing.T) {
	closed := []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.9.9.9",
		"169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1",
		"198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:7f00:1",
		"64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:a00:1::", "2001:2::1", "2001:10::1",
		"2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:c0a8:101::", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "febf::1",
		"fec0::1", "ff02::1", "4000::1",
	}
	for _, s := range closed {
		if edge.Public(netip.MustParseAddr(s)) {
			t.Errorf("Public(%s) = true, want false", s)
		}
	}
	open := []string{"1.1.1.1", "8.8.8.8", "9.255.255.255", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "192.0.1.1", "223.255.255.255",
		"::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2002:101:101::", "2001:4860:4860::8888", "2606:4700::1111", "2a06:98c0:3600::103"}
	for _, s := range open {
		if !edge.Public(netip.MustParseAddr(s)) {
			t.Errorf("Public(%s) = false, want true", s)
		}
	}
}

func TestGuardAllowsWhatTheOperatorOpensButNeverTheNode(t *testing.T) {
	any, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer any.Close()
	wild := &net.TCPAddr{IP: net.IPv6unspecified, Port: 9443}
	g := edge.Guard{Own: edge.Listeners(any.Addr(), wild)}
	allowed := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	port := any.Addr().(*net.TCPAddr).AddrPort().Port()
	cases := []struct {
		addr string
		port uint16
		ok   bool
	}{
		{"127.0.0.1", port, false}, {"::ffff:127.0.0.1", port, false}, {"127.0.0.2", port, true}, {"127.0.0.1", 9443, false},
		{"::1", 9443, false}, {"::1", 80, false}, {"127.0.0.1", 25, false}, {"::ffff:127.0.0.1", 5432, true}, {"fd00::5", 80, true}, {"1.1.1.1", 25, false}, {"1.1.1.1", 443, true}, {"fe80::1%lo", 80, false},
	}
	for _, c := range cases {
		err := g.Check(netip.AddrPortFrom(netip.MustParseAddr(c.addr), c.port), allowed)
		var f *edge.Failure
		if c.ok != (err == nil) || err != nil && (!errors.As(err, &f) || f.Status != http.StatusForbidden || f.Code != 1003) {
			t.Errorf("Check(%s port %d) = %v, want allowed %v", c.addr, c.port, err, c.ok)
		}
	}
}

// names is a resolver that answers from a map.
type names map[string][]netip.Addr

func (n names) Resolve(_ context.Context, host string) ([]netip.Addr, time.Duration, error) {
	return n[host], time.Minute, nil
}

func TestPermitIsAskedAfterResolving(t *testing.T) {
	target := origin(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "reached") })
	o := edge.NewOrigins(edge.OriginOptions{Resolver: names{
		"rebound.test": {netip.MustParseAddr("127.0.0.1")},
		"both.test":    {netip.MustParseAddr("127.0.0.9"), netip.MustParseAddr("127.0.0.1")},
	}})
	t.Cleanup(o.Close)
	refused := &edge.Failure{Status: 403, Reason: "address_refused"}
	fetch := func(host string, permit func(netip.AddrPort) error) (*edge.Exchange, error) {
		ex := &edge.Exchange{Request: edge.Request{Method: "GET", Scheme: "http", Host: host, Path: "/"}}
		ex.Target = edge.Target{Scheme: "http", Hostname: host, Port: target.Port, Permit: permit}
		err := o.Fetch(t.Context(), ex)
		ex.Response.Close()
		return ex, err
	}
	if _, err := fetch("rebound.test", func(netip.AddrPort) error { return refused }); err != error(refused) {
		t.Errorf("Fetch of a refused address = %v, want the refusal", err)
	}
	// A connection that somebody else's permission opened is not to be had without one.
	if ex, err := fetch("rebound.test", nil); err != nil || ex.Response.Status != 200 {
		t.Fatalf("Fetch = %d, %v", ex.Response.Status, err)
	}
	if _, err := fetch("rebound.test", func(netip.AddrPort) error { return refused }); err != error(refused) {
		t.Errorf("Fetch over a kept connection to a refused address = %v, want the refusal", err)
	}
	only := func(a netip.AddrPort) error {
		if a.Addr() != netip.MustParseAddr("127.0.0.1") {
			return refused
		}
		return nil
	}
	if ex, err := fetch("both.test", only); err != nil || ex.Response.Status != 200 {
		t.Errorf("Fetch of a name with one good address = %d, %v", ex.Response.Status, err)
	}
}

func TestConnect(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "hello")
			c.Close()
		}
	}()
	o := edge.NewOrigins(edge.OriginOptions{Resolver: names{"db.test": {netip.MustParseAddr("127.0.0.1")}}})
	t.Cleanup(o.Close)
	target := edge.Target{Hostname: "db.test", Port: ln.Addr().(*net.TCPAddr).AddrPort().Port()}
	c, err := o.Connect(t.Context(), &target)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	c.Close()
	if string(got) != "hello" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	var f *edge.Failure
	target.Permit = func(a netip.AddrPort) error { return edge.Guard{}.Check(a, nil) }
	if _, err := o.Connect(t.Context(), &target); !errors.As(err, &f) || f.Code != 1003 {
		t.Errorf("Connect to a loopback address = %v, want 1003", err)
	}
	target = edge.Target{Hostname: "nowhere.test", Port: 1}
	if _, err := o.Connect(t.Context(), &target); !errors.As(err, &f) || f.Code != 1016 {
		t.Errorf("Connect to an unknown name = %v, want 1016", err)
	}
	ln.Close()
	target = edge.Target{Hostname: "db.test", Port: ln.Addr().(*net.TCPAddr).AddrPort().Port()}
	if _, err := o.Connect(t.Context(), &target); !errors.As(err, &f) || f.Status != 521 {
		t.Errorf("Connect to a closed port = %v, want 521", err)
	}
}
