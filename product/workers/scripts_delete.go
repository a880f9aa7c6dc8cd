package workers

import (
	"context"

	"selvage/product"
	"selvage/spec"
)

// deleteScript deletes a script and all that is only there for it. Without ?force=true a script that
// others use stays.
func (w *Workers) deleteScript(ctx context.Context, c *product.Call) (product.Reply, error) {
	found, err := w.scriptOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	name := found.worker.Name
	force := c.Query.Get("force") == "true"
	err = w.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		b := baseOf(tx.Snapshot(), c.Account.ID, name)
		if b.worker == nil {
			return noScript(name)
		}
		if !force {
			if err := checkUnused(b.all, name); err != nil {
				return err
			}
		}
		gone, err := belongings(tx, b)
		if err != nil {
			return err
		}
		for _, key := range gone {
			if err := tx.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
	return product.Reply{}, err
}

// belongings returns the keys of a script and of everything that goes with it: versions,
// deployments, namespaces of its objects, routes, domains and the DNS records made for these.
func belongings(tx product.Tx, b base) ([]spec.Key, error) {
	name := b.worker.Name
	keys := []spec.Key{b.worker.Key()}
	for _, v := range b.all.VersionsOf(name) {
		keys = append(keys, v.Key())
	}
	deployments, err := deploymentsOf(tx, b.worker.AccountID, name)
	if err != nil {
		return nil, err
	}
	for _, d := range deployments {
		keys = append(keys, d.Key())
	}
	for _, n := range b.all.Namespaces {
		if n.Script == name {
			keys = append(keys, n.Key())
		}
	}
	for _, d := range b.all.Domains {
		if d.Service != name {
			continue
		}
		keys = append(keys, d.Key())
		if d.RecordID != "" {
			keys = append(keys, spec.Key{Kind: spec.KindRecord, Scope: d.ZoneID, ID: d.RecordID})
		}
	}
	for _, z := range b.snap.Zones {
		if z.Zone.AccountID != b.worker.AccountID {
			continue
		}
		for _, r := range z.WorkerRoutes {
			if r.Script == name {
				keys = append(keys, r.Key())
			}
		}
	}
	return keys, nil
}

// serviceReference is a binding of another script to this one.
type serviceReference struct {
	Name        string `json:"name"`
	Service     string `json:"service"`
	Environment string `json:"environment"`
}

// objectReference is a binding of another script to a Durable Object class of this one.
type objectReference struct {
	serviceReference
	NamespaceID   string `json:"durable_object_namespace_id"`
	NamespaceName string `json:"durable_object_namespace_name"`
}

// getReferences tells wrangler who would break if the script were deleted.
func (w *Workers) getReferences(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := w.scriptOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	services, objects, _ := callersOf(b.all, b.worker.Name)
	incoming, outgoing, classes := []serviceReference{}, []serviceReference{}, []objectReference{}
	for _, u := range services {
		incoming = append(incoming, serviceReference{u.binding.Name, u.version.Script, production})
	}
	if v := b.shown(); v != nil {
		for _, o := range v.Bindings {
			if o.Type == "service" {
				outgoing = append(outgoing, serviceReference{o.Name, o.Service, production})
			}
		}
	}
	for _, u := range objects {
		n := b.all.Namespaces[u.binding.NamespaceID]
		classes = append(classes, objectReference{serviceReference{u.binding.Name, u.version.Script, production}, n.ID, namespaceName(n)})
	}
	return product.Reply{Result: map[string]any{
		"services":           map[string]any{"incoming": incoming, "outgoing": outgoing, "pages_function": false},
		"durable_objects":    classes,
		"dispatch_outbounds": []any{},
	}}, nil
}

// namespaceName is how Cloudflare names a namespace.
func namespaceName(n *spec.ObjectNamespace) string { return n.Script + "_" + n.Class }

// getTailProducers lists the scripts whose traces go to a script.
func (w *Workers) getTailProducers(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := w.scriptOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	_, _, producers := callersOf(b.all, b.worker.Name)
	results := []map[string]any{}
	for _, name := range producers {
		p := b.all.Scripts[name]
		results = append(results, map[string]any{
			"tag": p.ID, "producer": serviceReference{Service: name, Environment: production}, "consumer": serviceReference{Service: b.worker.Name, Environment: production},
			"created_on": p.CreatedOn, "modified_on": p.ModifiedOn,
		})
	}
	return product.Reply{Result: results}, nil
}
