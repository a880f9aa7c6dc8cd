package workers

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// maxRoutes is the most routes a zone may have, as at Cloudflare.
const maxRoutes = 1000

var (
	readRoutes  = product.Permission{Group: "Workers Routes"}
	writeRoutes = product.Permission{Group: "Workers Routes", Write: true}
)

// routeRoutes are the operations on routes: of a zone one by one, of a script all at once.
func (w *Workers) routeRoutes() []product.Route {
	const zone, one = "/zones/{zone_id}/workers/routes", "/zones/{zone_id}/workers/routes/{route_id}"
	return []product.Route{
		{Method: "GET", Path: zone, Permission: readRoutes, Summary: "List the Worker routes of a zone.", Handle: w.listRoutes},
		{Method: "POST", Path: zone, Permission: writeRoutes, Summary: "Add a Worker route to a zone.", Handle: w.addRoute},
		{Method: "GET", Path: one, Permission: readRoutes, Summary: "Show a Worker route.", Handle: w.showRoute},
		{Method: "PUT", Path: one, Permission: writeRoutes, Summary: "Change a Worker route.", Handle: w.changeRoute},
		{Method: "DELETE", Path: one, Permission: writeRoutes, Summary: "Remove a Worker route.", Handle: w.removeRoute},
		{Method: "PUT", Path: "/accounts/{account_id}/workers/scripts/{script_name}/routes", Permission: writeScripts,
			Summary: "Replace all routes of a Worker.", Handle: w.replaceRoutes},
	}
}

type routeReply struct {
	ID      string `json:"id"`
	Pattern string `json:"pattern"`
	Script  string `json:"script,omitempty"`
}

func asRouteReply(r *spec.WorkerRoute) routeReply { return routeReply{r.ID, r.Pattern, r.Script} }

func (w *Workers) listRoutes(_ context.Context, c *product.Call) (product.Reply, error) {
	list := make([]routeReply, 0, len(c.Zone.WorkerRoutes))
	for _, r := range c.Zone.WorkerRoutes {
		list = append(list, asRouteReply(r))
	}
	slices.SortFunc(list, func(a, b routeReply) int { return strings.Compare(a.Pattern, b.Pattern) })
	page, info, err := product.Page(list, c.Query, product.Paging{Default: maxRoutes, Max: maxRoutes})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: page, Info: info}, nil
}

// routeInput is a route as clients send it.
type routeInput struct {
	Pattern string `json:"pattern"`
	Script  string `json:"script"`
}

// put stores a route after checking it against the zone it is for.
func (in routeInput) put(tx product.Tx, z *spec.ZoneConfig, id string) (*spec.WorkerRoute, error) {
	p, err := parsePattern(in.Pattern)
	if err != nil {
		return nil, err
	}
	if !p.in(z.Zone.Name) {
		return nil, fault.New(fault.Invalid, "The route pattern %.200q is not within the zone %s.", in.Pattern, z.Zone.Name).WithCode(10022).At("pattern")
	}
	if in.Script != "" {
		if n, err := tx.Get(spec.Key{Kind: spec.KindWorker, Scope: z.Zone.AccountID, ID: in.Script}); err != nil || n == nil {
			return nil, fault.New(fault.Invalid, "There is no Worker called %.80q on this account; deploy it first.", in.Script).WithCode(10007).At("script")
		}
	}
	count := 0
	for n, err := range tx.List(spec.KindWorkerRoute, z.Zone.ID) {
		if err != nil {
			return nil, err
		}
		r := n.(*spec.WorkerRoute)
		if count++; r.ID != id && r.Pattern == in.Pattern {
			return nil, fault.New(fault.Conflict, "A route with the pattern %.200q exists already; it leads to %q.", in.Pattern, r.Script).WithCode(10020).At("pattern")
		}
	}
	if id == "" && count >= maxRoutes {
		return nil, fault.New(fault.TooMuch, "The zone has %d Worker routes, the limit is %d.", count, maxRoutes).At("pattern")
	}
	if id == "" {
		id = spec.NewID()
	}
	r := &spec.WorkerRoute{ID: id, ZoneID: z.Zone.ID, Pattern: in.Pattern, Script: in.Script}
	return r, tx.Put(r)
}

func (w *Workers) addRoute(ctx context.Context, c *product.Call) (product.Reply, error) {
	return w.putRoute(ctx, c, "")
}

func (w *Workers) changeRoute(ctx context.Context, c *product.Call) (product.Reply, error) {
	r, err := routeOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	return w.putRoute(ctx, c, r.ID)
}

func (w *Workers) putRoute(ctx context.Context, c *product.Call, id string) (product.Reply, error) {
	var in routeInput
	if err := c.Decode(&in, "request_limit_fail_open", "id", "enabled"); err != nil {
		return product.Reply{}, err
	}
	var made *spec.WorkerRoute
	err := w.o.State.Update(ctx, c.Actor, func(tx product.Tx) (err error) {
		made, err = in.put(tx, c.Zone, id)
		return err
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: asRouteReply(made)}, nil
}

func routeOf(c *product.Call) (*spec.WorkerRoute, error) {
	for _, r := range c.Zone.WorkerRoutes {
		if r.ID == c.Params["route_id"] {
			return r, nil
		}
	}
	return nil, fault.New(fault.NotFound, "The zone has no such Worker route.").WithCode(10009)
}

func (w *Workers) showRoute(_ context.Context, c *product.Call) (product.Reply, error) {
	r, err := routeOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: asRouteReply(r)}, nil
}

func (w *Workers) removeRoute(ctx context.Context, c *product.Call) (product.Reply, error) {
	r, err := routeOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	err = w.o.State.Update(ctx, c.Actor, func(tx product.Tx) error { return tx.Delete(r.Key()) })
	return product.Reply{Result: map[string]string{"id": r.ID}}, err
}

// replaceRoutes gives a script these routes and no others, over all zones of the account.
func (w *Workers) replaceRoutes(ctx context.Context, c *product.Call) (product.Reply, error) {
	var in []struct {
		Pattern  string `json:"pattern"`
		ZoneID   string `json:"zone_id"`
		ZoneName string `json:"zone_name"`
	}
	if err := c.Decode(&in, "[].custom_domain", "[].enabled", "[].previews_enabled"); err != nil {
		return product.Reply{}, err
	}
	script := c.Params["script_name"]
	patterns := []string{}
	err := w.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		if _, err := scriptIn(tx, c); err != nil {
			return err
		}
		wanted := map[string]map[string]bool{} // patterns by zone ID
		for i, r := range in {
			z, err := zoneFor(tx.Snapshot(), c.Account.ID, r.ZoneID, r.ZoneName, r.Pattern)
			if err != nil {
				return err.At(fmt.Sprintf("[%d]", i))
			}
			if !c.Allowed(writeRoutes, "", z.Zone.ID) {
				return fault.New(fault.Denied, "The token may not change Worker routes of the zone %s.", z.Zone.Name)
			}
			if wanted[z.Zone.ID] == nil {
				wanted[z.Zone.ID] = map[string]bool{}
			}
			wanted[z.Zone.ID][r.Pattern] = true
			patterns = append(patterns, r.Pattern)
		}
		return replaceIn(tx, c, script, wanted)
	})
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: patterns}, nil
}

// replaceIn brings the routes of a script in every zone of the account in line with wanted.
func replaceIn(tx product.Tx, c *product.Call, script string, wanted map[string]map[string]bool) error {
	for id, z := range tx.Snapshot().Zones {
		if z.Zone.AccountID != c.Account.ID {
			continue
		}
		for _, r := range z.WorkerRoutes {
			switch {
			case r.Script != script:
			case wanted[id][r.Pattern]:
				delete(wanted[id], r.Pattern)
			case c.Allowed(writeRoutes, "", id):
				if err := tx.Delete(r.Key()); err != nil {
					return err
				}
			}
		}
		for pattern := range wanted[id] {
			if _, err := (routeInput{pattern, script}).put(tx, z, ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// zoneFor finds the account's zone that a route or domain is for: by ID, by name, or as the one with
// the longest name that the host is in.
func zoneFor(snap *spec.Snapshot, accountID, id, name, pattern string) (*spec.ZoneConfig, *fault.Error) {
	host := pattern
	if _, after, ok := strings.Cut(host, "://"); ok {
		host = after
	}
	host, _, _ = strings.Cut(host, "/")
	host = strings.ToLower(strings.TrimLeft(host, "*."))
	var best *spec.ZoneConfig
	for _, z := range snap.Zones {
		if z.Zone.AccountID != accountID || id != "" && z.Zone.ID != id || name != "" && z.Zone.Name != name {
			continue
		}
		if (id != "" || name != "" || spec.InZone(host, z.Zone.Name)) && (best == nil || len(z.Zone.Name) > len(best.Zone.Name)) {
			best = z
		}
	}
	if best == nil {
		return nil, fault.New(fault.Invalid, "Could not find a zone of this account for %.200q; add the zone first.", pattern).WithCode(10082)
	}
	return best, nil
}
