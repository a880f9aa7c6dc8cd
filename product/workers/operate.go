package workers

import (
	"context"
	"encoding/json"
	"strings"

	"selvage/engine/isolate"
	"selvage/foundation/fault"
	"selvage/product"
)

// operatorRoutes are operations that Cloudflare's API does not have, below /selvage/.
func (w *Workers) operatorRoutes() []product.Route {
	return []product.Route{
		{Method: "GET", Path: "/accounts/{account_id}/selvage/workers/usage", Permission: readScripts,
			Summary: "Show what the account's Workers take at the moment: children, requests, CPU, memory.", Handle: w.usage},
		{Method: "POST", Path: "/accounts/{account_id}/selvage/workers/scripts/{script_name}/kill", Permission: writeScripts,
			Summary: "End the children of a Worker at once; the next request starts it anew.", Handle: w.kill},
		{Method: "POST", Path: "/accounts/{account_id}/selvage/workers/scripts/{script_name}/schedules/run", Permission: writeScripts,
			Summary: "Fire a cron trigger of a Worker now, and tell its outcome.", Handle: w.runSchedule},
	}
}

// usageLine is one unit in the answer of usage.
type usageLine struct {
	isolate.Usage
	Scripts []string `json:"scripts"`
	Version string   `json:"version_id,omitempty"`
	Traced  bool     `json:"traced,omitempty"`
}

func (w *Workers) usage(_ context.Context, c *product.Call) (product.Reply, error) {
	t := w.current.Load()
	lines := []usageLine{}
	for _, u := range w.host.Usage() {
		if u.Tenant != c.Account.ID {
			continue
		}
		line := usageLine{Usage: u}
		key, traced := strings.CutSuffix(u.Unit, tracedSuffix)
		parts := strings.Split(key, "/")
		switch {
		case key == objectsKey(c.Account.ID):
			for name, s := range t.accounts[c.Account.ID].orNone() {
				if len(s.shares) > 0 && s.shares[0].version.unit == key {
					line.Scripts = append(line.Scripts, name)
				}
			}
		case len(parts) == 3:
			line.Scripts, line.Version, line.Traced = parts[1:2], parts[2], traced
		}
		lines = append(lines, line)
	}
	return product.Reply{Result: lines}, nil
}

// orNone returns the account's scripts; none for nil.
func (a *accountScripts) orNone() map[string]*script {
	if a == nil {
		return nil
	}
	return a.scripts
}

// ready returns the script that a call's path names, as requests find it.
func (w *Workers) ready(c *product.Call) (*script, error) {
	s := w.current.Load().find(c.Account.ID, c.Params["script_name"])
	if s == nil {
		return nil, noScript(c.Params["script_name"])
	}
	return s, nil
}

func (w *Workers) kill(_ context.Context, c *product.Call) (product.Reply, error) {
	s, err := w.ready(c)
	if err != nil {
		return product.Reply{}, err
	}
	units := []string{}
	for _, sh := range s.shares {
		unit := w.address(sh.version).Unit
		w.host.Kill(unit, "by "+c.Actor.Email)
		units = append(units, unit)
	}
	return product.Reply{Result: map[string][]string{"units": units}}, nil
}

func (w *Workers) runSchedule(ctx context.Context, c *product.Call) (product.Reply, error) {
	s, err := w.ready(c)
	if err != nil {
		return product.Reply{}, err
	}
	var body struct {
		Cron string `json:"cron"`
	}
	if err := json.NewDecoder(c.Body).Decode(&body); err != nil {
		return product.Reply{}, fault.New(fault.Invalid, "The body is not JSON such as {\"cron\": \"*/5 * * * *\"}.")
	}
	if body.Cron == "" {
		if len(s.worker.Schedules) == 0 {
			return product.Reply{}, fault.New(fault.Invalid, "%s has no cron trigger; say which its handler shall be told, such as \"*/5 * * * *\".", s.worker.Name)
		}
		body.Cron = s.worker.Schedules[0].Cron
	}
	if _, err := parseCron(body.Cron); err != nil {
		return product.Reply{}, err
	}
	out, err := w.fire(ctx, destination{c.Account.ID, s.worker.Name}, body.Cron, w.o.Clock.Now())
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: out}, nil
}
