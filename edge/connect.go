package edge

import (
	"context"
	"errors"
	"net"
)

// Connect opens a plain connection to the addresses of t, one after the other, for bytes that are
// not HTTP. Scheme and TLS fields of t do not count. A Failure says why there is none. The
// connection gives up on a peer that does not read for OriginOptions.WriteIdle.
func (o *Origins) Connect(ctx context.Context, t *Target) (net.Conn, error) {
	addrs := t.Addrs
	if len(addrs) == 0 {
		var err error
		if addrs, err = o.lookup(ctx, t.Hostname); err != nil {
			return nil, err
		}
	}
	if t.Permit != nil {
		var err error
		if addrs, err = t.permitted(addrs); err != nil {
			return nil, err
		}
	}
	var failed error
	order := o.order(addrs, t.Port)
	for i, addr := range order {
		l := &lane{addr: addr, patience: o.o.ConnectTimeout}
		if i < len(order)-1 {
			l.patience = min(l.patience, nextAddress)
		}
		c, err := o.dialer.dial(context.WithValue(ctx, laneKey{}, l), "", "")
		if err == nil {
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var de *dialError
		if failed = err; errors.As(err, &de) {
			failed = dialFailure(de, addr)
		}
	}
	return nil, failed
}
