package workers

import (
	"context"
	"net"

	"selvage/edge/socket"
	"selvage/engine/isolate"
	"selvage/foundation/fault"
	"selvage/product"
	"selvage/product/workers/outbound"
	"selvage/product/workers/tail"
	"selvage/spec"
)

// common gives the program what every script reaches: the network, the Cache API and, if it is
// traced, whoever watches.
func (b *binder) common(traced bool) {
	caller := b.caller()
	b.counted = b.w.o.Outbound.Operations(caller)
	b.program.Outbound = b.serve("fetch", isolate.Service{Proxy: true, Serve: b.w.o.Outbound.Egress(caller)})
	b.program.Cache = b.serve("cache", isolate.Service{Proxy: true, Serve: b.w.o.Outbound.Cache(caller)})
	if traced {
		b.program.Trace = b.serve("trace", isolate.Service{Serve: tail.Service(b.w.o.Tail, b.version.AccountID, b.version.Script, b.version.ID)})
	}
}

// caller says for whom services are served.
func (b *binder) caller() outbound.Caller {
	w, v, unit := b.w, b.version, b.unit
	return outbound.Caller{
		AccountID: v.AccountID, Script: v.Script, Version: v.ID, Worker: w.nameOf(v), Subrequests: v.Subrequests, Objects: hasObjects(b.account, v),
		Zone:   func() *spec.ZoneConfig { return w.current.Load().home(destination{v.AccountID, v.Script}) },
		ZoneOf: func(host string) *spec.ZoneConfig { return w.current.Load().zoneOfHost(v.AccountID, host) },
		Load:   func() (uint64, int) { return w.host.Load(unit) },
	}
}

// nameOf is what CF-Worker says of a script: the name of the first zone that routes to it, or else
// the account's subdomain.
func (w *Workers) nameOf(v *spec.WorkerVersion) string {
	if z := w.current.Load().home(destination{v.AccountID, v.Script}); z != nil {
		return z.Zone.Name
	}
	if s := w.o.State.Snapshot().WorkersOf(v.AccountID).Subdomain; s != nil {
		return s.Name + "." + w.o.Domain
	}
	return w.o.Domain
}

// external is a binding that another product serves.
func (b *binder) external(t product.BindingType, user product.BindingUser, s *spec.WorkerBinding) isolate.Service {
	if t.Handle != nil {
		handle := t.Handle(user, s)
		if t.Refuse != nil { // or the client would not notice
			handle = b.counted(handle)
		}
		door := &socket.Server{Name: t.Type, Log: b.w.log, PoP: b.w.o.PoP, CFField: isolate.CFHeader, ProtoField: isolate.ProtoHeader, Handle: handle, Refuse: t.Refuse}
		return isolate.Service{Proxy: true, Serve: door.Serve}
	}
	return isolate.Service{Proxy: true, Serve: func(ctx context.Context, l net.Listener) { t.Serve(ctx, user, s, l) }}
}

// relay leads to the version of the callee that is in force when it is called.
func (b *binder) relay(s *spec.WorkerBinding) isolate.Service {
	w, account := b.w, b.version.AccountID
	entry := s.Entrypoint
	if len(s.Props) > 0 {
		entry = doorName(b.version, s)
	}
	resolve := func(context.Context) (isolate.Address, error) {
		callee := w.current.Load().find(account, s.Service)
		if callee == nil || len(callee.shares) == 0 {
			return isolate.Address{}, fault.New(fault.NotFound, "The service binding %s leads to the Worker %s, which is not deployed.", s.Name, s.Service)
		}
		a := w.address(callee.pick(nil).version)
		a.Entrypoint = entry
		return a, nil
	}
	return isolate.Service{Proxy: true, RPC: true, Serve: b.w.o.Outbound.Relay(b.caller(), s.Service, resolve, &front{host: w.host, w: w, account: account, script: s.Service})}
}

// assets is the binding to the version's own static assets.
func (b *binder) assets() isolate.Service {
	site := b.w.o.Assets.Site(b.version.AccountID, b.version)
	door := &socket.Server{Name: "assets", Log: b.w.log, PoP: b.w.o.PoP, CFField: isolate.CFHeader, ProtoField: isolate.ProtoHeader, Handle: site.Fetch}
	return isolate.Service{Serve: door.Serve}
}

// rateLimit binds an object of ours that asks the node's counters.
func (b *binder) rateLimit(s *spec.WorkerBinding) error {
	serve, err := b.w.o.Outbound.RateLimit(b.caller(), s)
	if err != nil {
		return err
	}
	name := b.serve("ratelimit."+s.Name, isolate.Service{Serve: serve})
	b.add(isolate.Binding{Name: s.Name, Kind: isolate.Wrapped, Wrapper: outbound.RateLimitModule, Inner: []isolate.Binding{
		{Name: "fetcher", Kind: isolate.Fetcher, Service: name},
	}})
	return nil
}
