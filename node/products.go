package node

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"selvage/control/rollout"
	"selvage/edge"
	"selvage/engine/seal"
	"selvage/foundation/observe"
	"selvage/product"
	"selvage/product/analytics"
	"selvage/product/cache"
	"selvage/product/certs"
	"selvage/product/dns"
	"selvage/product/proxy"
)

// parts are what a node is made of, wired but not yet running.
type parts struct {
	all       []product.Product
	certs     *certs.Certs
	cache     *cache.Cache
	dns       *dns.Server
	front     *proxy.Proxy
	scripting scripting
	storage   storing
	bindings  map[string]product.BindingType // that products offer to scripts
	loopID    string                         // this node's name in CDN-Loop
	rollout   *rollout.Rollout
	origins   *edge.Origins
	server    *edge.Server
	countries *countries
	addresses func() []netip.Addr // of the edge, which proxied records answer with
}

// buildParts builds every product and passes each what it needs of the others. This is the list: a
// new product is one line here, and one in pipeline.go if it takes part in requests.
func buildParts(n *Node) (parts, error) {
	var p parts
	var err error
	c, dir := n.config, func(name string) string { return filepath.Join(n.config.Data, name) }
	advertised := publicAddresses(c, n.sockets["http"].addr())
	p.addresses = func() []netip.Addr { return advertised }

	if p.countries, err = openCountries(c.GeoIP); err != nil {
		return p, err
	}
	if p.certs, err = certs.New(certs.Options{State: n.state, Dir: dir("certs"), ACME: c.ACME, Observe: n.observe}); err != nil {
		return p, err
	}
	if p.cache, err = cache.New(cacheOptions(c, n.observe)); err != nil {
		return p, err
	}
	secret, err := keptSecret(dir("dns-cookie.key"))
	if err != nil {
		return p, err
	}
	p.dns = dns.New(dns.Options{State: n.state, Addresses: p.addresses, ALPN: promised(c, n.sockets["https"].addr()), CookieSecret: secret, Observe: n.observe})
	// Each node has a name of its own in CDN-Loop, so that one may stand behind another.
	self, err := keptSecret(dir("node-id"))
	if err != nil {
		return p, err
	}
	p.loopID = fmt.Sprintf("%s-%x", edge.LoopName, self[:4])
	p.front = proxy.New(proxy.Options{Ports: n.ports, LoopID: p.loopID, Country: p.countries.of, Observe: n.observe})

	roots, err := originRoots(dir("certs/origin-ca.pem"))
	if err != nil {
		return p, fmt.Errorf("read the origin CA: %w", err)
	}
	p.origins = edge.NewOrigins(edge.OriginOptions{Roots: roots, LoopID: p.loopID, Revoked: p.certs.OriginRevoked, Observe: n.observe})
	// Scripts send requests down the pipeline that they themselves are a part of.
	var handler edge.Handler
	pipeline := func(ctx context.Context, ex *edge.Exchange) error { return handler(ctx, ex) }
	points, err := analytics.New(analytics.Options{Dir: dir("analytics"), Observe: n.observe})
	if err != nil {
		return p, err
	}
	key, err := seal.Open(dir("seal.key"))
	if err != nil {
		return p, err
	}
	if p.storage, err = buildStorage(n, key, roots); err != nil {
		return p, err
	}
	p.bindings = bindingsOf(append(p.storage.binders(), points)...)
	if p.scripting, err = buildWorkers(n, &p, workersNeeds{key, pipeline}); err != nil {
		return p, err
	}
	p.all = append([]product.Product{p.front, p.certs, p.scripting.workers, p.cache, p.dns, points}, p.storage.products()...)
	handler, err = buildPipeline(n.log, p.all, p.origins.Fetch)
	if err != nil {
		return p, err
	}
	p.server = edge.NewServer(edge.ServerOptions{Handler: handler, TLS: p.certs.TLS(), Observe: n.observe})
	p.rollout, err = rollout.New(rollout.Options{Products: p.all, Dir: dir("lastgood"), Observe: n.observe})
	return p, err
}

// promised is what HTTPS records may say of proxied names. They make browsers insist on TLS at port
// 443, so there are none unless it is served there with certificates that browsers trust.
func promised(c Config, https net.Addr) []string {
	if a, ok := https.(*net.TCPAddr); !ok || a.Port != 443 || c.ACME.Directory == "" {
		return nil
	}
	return []string{"h2"}
}

func cacheOptions(c Config, o observe.Observer) cache.Options {
	options := cache.Options{Dir: filepath.Join(c.Data, "cache"), MemoryBytes: c.Cache.Memory, DiskBytes: c.Cache.Disk, Observe: o}
	if c.Cache.Disk == 0 {
		options.Dir = ""
	}
	return options
}

// holding is a product that at a takeover lets go of what the successor needs, after its Run has ended
// unless that lasts, and takes it back if there is none after all.
type holding interface {
	Release()
	Reclaim()
}

var _ holding = (*cache.Cache)(nil)

// tasks is the background work of products and rollout: what ends when the store goes, and what
// lasts until the node has drained.
func (p *parts) tasks() (ending, last []task) {
	ending, last = []task{{"rollout", p.rollout.Run}}, p.scripting.tasks()
	for _, pr := range p.all {
		t := task{pr.Name(), pr.Run}
		switch pr { // requests and transactions under way while the node drains need these
		case product.Product(p.cache), product.Product(p.storage.hyperdrive):
			last = append(last, t)
			continue
		}
		ending = append(ending, t)
	}
	return ending, last
}

func (p *parts) each(f func(h holding)) {
	for _, pr := range p.all {
		if h, ok := pr.(holding); ok {
			f(h)
		}
	}
}

// ports returns the ports that clients reach sites at.
func (n *Node) ports() (plain, secure uint16) {
	return portOf(n.sockets["http"].addr()), portOf(n.sockets["https"].addr())
}

func portOf(a net.Addr) uint16 {
	_, port, _ := net.SplitHostPort(a.String())
	v, _ := strconv.ParseUint(port, 10, 16)
	return uint16(v)
}

// trouble tells why a zone is not on its newest version, and on which it is; nil if it is.
func (n *Node) trouble(zoneID string) (inEffect uint64, why error) {
	s := n.parts.rollout.Zone(zoneID)
	return s.InEffect, s.Err
}

// keptSecret returns the random bytes in a file, making them at the first start: a node and its
// successor must agree on them.
func keptSecret(path string) (secret [16]byte, err error) {
	data, err := os.ReadFile(path)
	if err == nil && len(data) == len(secret) {
		return [16]byte(data), nil
	}
	rand.Read(secret[:])
	return secret, writeFile(path, secret[:], 0o600)
}

// originRoots returns who may sign the certificates of origins: those the system trusts, and the
// node's own origin CA, whose root product/certs exports to file.
func originRoots(file string) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	own, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if !pool.AppendCertsFromPEM(own) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return pool, nil
}
