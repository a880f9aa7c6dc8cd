package rollout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"

	"selvage/product"
	"selvage/spec"
)

// plan is one round: from what is good towards what is wanted, zone by zone if it must be.
type plan struct {
	r    *Rollout
	want *spec.Snapshot
	good *spec.Snapshot
	next *spec.Snapshot   // what this round brings into effect
	held map[string]fault // zones of next that are not as in want
}

// prepared is what one product is ready to commit.
type prepared struct {
	product product.Product
	change  product.Change
}

// finish calls Commit or Discard, which cannot fail; should one panic, the others go on.
func (p prepared) finish(log *slog.Logger, what string, call func()) {
	defer func() {
		if v := recover(); v != nil {
			log.Error("product panicked where it must not fail", "product", p.product.Name(), "in", what, "panic", v, "stack", string(debug.Stack()))
		}
	}()
	call()
}

// start makes next: want, with the zones that failed a moment ago as they are.
func (p *plan) start(recent map[string]fault) {
	p.next = p.want
	back := map[string]*spec.ZoneConfig{}
	for id, f := range recent {
		if p.want.Zones[id] == f.config && f.config != p.good.Zones[id] {
			back[id] = p.good.Zones[id]
			p.held[id] = f
		}
	}
	p.next = withZones(p.want, back)
}

// withZones returns s with other zones; a nil one is taken out.
func withZones(s *spec.Snapshot, zones map[string]*spec.ZoneConfig) *spec.Snapshot {
	if len(zones) == 0 {
		return s
	}
	next := *s
	next.Zones = maps.Clone(s.Zones)
	for id, z := range zones {
		if z == nil {
			delete(next.Zones, id)
			continue
		}
		next.Zones[id] = z
	}
	return &next
}

// prepare prepares next, putting zones back until every product takes it. It ends, for each turn of
// the loop puts one more zone back. An error that is not the doing of any zone's change comes back.
func (p *plan) prepare(ctx context.Context) ([]prepared, error) {
	isolated := false
	for {
		changes, err := p.try(ctx, p.next)
		if err == nil {
			return changes, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
		if p.putBack(blamed(err)) {
			continue
		}
		if isolated {
			return nil, err
		}
		isolated = true
		if err := p.isolate(ctx, err); err != nil {
			return nil, err
		}
	}
}

// try prepares every product for s. Either all are ready, or what was prepared is discarded and the
// error joins what each had to say.
func (p *plan) try(ctx context.Context, s *spec.Snapshot) ([]prepared, error) {
	var ready []prepared
	var faults []error
	for _, prod := range p.r.products {
		change, err := p.prepareOne(ctx, prod, s)
		if err != nil {
			p.r.metrics.failures.WithLabelValues(prod.Name()).Inc()
			faults = append(faults, fmt.Errorf("%s: %w", prod.Name(), err))
			continue
		}
		ready = append(ready, prepared{prod, change})
	}
	if faults == nil {
		return ready, nil
	}
	for _, c := range ready {
		c.finish(p.r.log, "discard", c.change.Discard)
	}
	return nil, errors.Join(faults...)
}

func (p *plan) prepareOne(ctx context.Context, prod product.Product, s *spec.Snapshot) (c product.Change, err error) {
	defer func() {
		if v := recover(); v != nil {
			p.r.log.Error("product panicked while it prepared", "product", prod.Name(), "version", s.Version, "panic", v, "stack", string(debug.Stack()))
			err = errors.New("broke down while it prepared this; the node's log says where")
		}
	}()
	if c, err = prod.Prepare(ctx, s); err == nil && c == nil {
		return nil, errors.New("prepared nothing")
	}
	return c, err
}

// blamed returns the zones that err names, with what is wrong with each.
func blamed(err error) map[string]error {
	zones := map[string]error{}
	var walk func(err error)
	walk = func(err error) {
		switch e := err.(type) {
		case *product.ZoneError:
			zones[e.ZoneID] = errors.Join(zones[e.ZoneID], e.Err)
		case interface{ Unwrap() []error }:
			for _, sub := range e.Unwrap() {
				walk(sub)
			}
		case interface{ Unwrap() error }:
			walk(e.Unwrap())
		}
	}
	walk(err)
	return zones
}

// putBack puts zones back from what is wanted to what is in effect, and returns false if there is
// none to put back. A zone that is as it was stays: it serves, so if it is blamed now, then the cause
// is another zone's change, or none; isolate finds out.
func (p *plan) putBack(zones map[string]error) bool {
	steps := map[string]*spec.ZoneConfig{}
	for id, err := range zones {
		if good := p.good.Zones[id]; p.next.Zones[id] != good {
			steps[id] = good
			p.hold(id, err)
		}
	}
	p.next = withZones(p.next, steps)
	return len(steps) > 0
}

func (p *plan) hold(id string, err error) {
	p.held[id] = fault{config: p.want.Zones[id], err: err}
}

// isolate finds the zones whose changes make a product fail that names none, by halves, and puts
// those back. If what is in effect now fails too, no zone is to blame and cause comes back.
func (p *plan) isolate(ctx context.Context, cause error) error {
	changed := p.changed()
	back := map[string]*spec.ZoneConfig{}
	for _, id := range changed {
		back[id] = p.good.Zones[id]
	}
	wanted := p.next
	p.next = withZones(p.next, back)
	if ok, _ := p.passes(ctx, p.next); !ok {
		return cause
	}
	return p.add(ctx, wanted, changed)
}

// changed returns the zones of next that differ from what is in effect.
func (p *plan) changed() []string {
	var ids []string
	for id, z := range p.next.Zones {
		if p.good.Zones[id] != z {
			ids = append(ids, id)
		}
	}
	for id := range p.good.Zones {
		if p.next.Zones[id] == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

func (p *plan) passes(ctx context.Context, s *spec.Snapshot) (bool, error) {
	changes, err := p.try(ctx, s)
	for _, c := range changes {
		c.finish(p.r.log, "discard", c.change.Discard)
	}
	return err == nil, err
}

// add takes the zones ids of wanted into next, all that pass.
func (p *plan) add(ctx context.Context, wanted *spec.Snapshot, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	zones := map[string]*spec.ZoneConfig{}
	for _, id := range ids {
		zones[id] = wanted.Zones[id]
	}
	candidate := withZones(p.next, zones)
	ok, err := p.passes(ctx, candidate)
	switch {
	case ok:
		p.next = candidate
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case len(ids) == 1:
		p.hold(ids[0], err)
		return nil
	}
	half := len(ids) / 2
	if err := p.add(ctx, wanted, ids[:half]); err != nil {
		return err
	}
	return p.add(ctx, wanted, ids[half:])
}
