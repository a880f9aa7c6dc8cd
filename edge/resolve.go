package edge

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// Resolver finds the addresses of a host name and how long they may be kept. No addresses and a
// nil error means that the name does not exist. Safe for concurrent use.
type Resolver interface {
	Resolve(ctx context.Context, host string) (addrs []netip.Addr, ttl time.Duration, err error)
}

// SystemResolver asks the resolver of the operating system, which tells no TTL.
type SystemResolver struct{}

// Resolve looks host up; answers are good for 30 seconds.
func (SystemResolver) Resolve(ctx context.Context, host string) ([]netip.Addr, time.Duration, error) {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return nil, 5 * time.Second, nil
	}
	if err != nil {
		return nil, 0, err
	}
	for i, a := range addrs {
		addrs[i] = a.Unmap()
	}
	return addrs, 30 * time.Second, nil
}

const (
	resolveEntries = 10_000
	resolveTimeout = 10 * time.Second
	minResolveTTL  = time.Second
	maxResolveTTL  = 5 * time.Minute
	resolveRetry   = 5 * time.Second // how long a failure is believed
	maxStale       = time.Hour       // how long old addresses serve while the resolver fails
)

// resolveCache remembers a resolver's answers. One look-up per name is under way at a time, and an
// old answer serves on while the resolver is broken.
type resolveCache struct {
	resolver Resolver
	flight   singleflight.Group

	mu    sync.RWMutex // guards names
	names map[string]resolved
}

type resolved struct {
	addrs   []netip.Addr
	expires time.Time
	known   time.Time // when addrs were last confirmed
}

func newResolveCache(r Resolver) *resolveCache {
	return &resolveCache{resolver: r, names: map[string]resolved{}}
}

// Lookup returns the addresses of host; none if it does not exist. The slice is shared.
func (c *resolveCache) Lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	c.mu.RLock()
	old, ok := c.names[host]
	c.mu.RUnlock()
	if ok && time.Now().Before(old.expires) {
		return old.addrs, nil
	}
	ch := c.flight.DoChan(host, func() (any, error) { return c.ask(host, old) })
	select {
	case res := <-ch:
		addrs, _ := res.Val.([]netip.Addr)
		return addrs, res.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ask resolves for everybody who waits, so it ends with no single request.
func (c *resolveCache) ask(host string, old resolved) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout)
	defer cancel()
	addrs, ttl, err := c.resolver.Resolve(ctx, host)
	now := time.Now()
	if err == nil {
		c.remember(host, resolved{addrs, now.Add(min(max(ttl, minResolveTTL), maxResolveTTL)), now})
		return addrs, nil
	}
	if len(old.addrs) > 0 && now.Sub(old.known) < maxStale {
		c.remember(host, resolved{old.addrs, now.Add(resolveRetry), old.known})
		return old.addrs, nil
	}
	return nil, err
}

func (c *resolveCache) remember(host string, r resolved) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for other := range c.names {
		if len(c.names) < resolveEntries {
			break
		}
		delete(c.names, other)
	}
	c.names[host] = r
}
