package workers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// codeSecretsChanged tells wrangler to ask before it rolls back over a change of secrets.
const codeSecretsChanged = 10220

// deploymentJSON is a deployment as wrangler's ApiDeployment has it.
type deploymentJSON struct {
	ID          string              `json:"id"`
	Source      string              `json:"source"`
	Strategy    string              `json:"strategy"`
	AuthorEmail string              `json:"author_email"`
	CreatedOn   time.Time           `json:"created_on"`
	Annotations map[string]string   `json:"annotations,omitempty"`
	Versions    []spec.VersionShare `json:"versions"`
}

const percentage = "percentage"

func deploymentResult(d *spec.WorkerDeployment) deploymentJSON {
	return deploymentJSON{d.ID, d.Source, percentage, d.AuthorEmail, d.CreatedOn, d.Annotations, d.Versions}
}

// deployments reads the deployments of a script, newest first.
func (w *Workers) deployments(ctx context.Context, c *product.Call) (all []*spec.WorkerDeployment, err error) {
	b, err := w.scriptOf(c)
	if err != nil {
		return nil, err
	}
	// Nothing is changed; only in a transaction can nouns be read that snapshots leave out.
	err = w.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		all, err = deploymentsOf(tx, c.Account.ID, b.worker.Name)
		return err
	})
	return all, err
}

func (w *Workers) listDeployments(ctx context.Context, c *product.Call) (product.Reply, error) {
	all, err := w.deployments(ctx, c)
	if err != nil {
		return product.Reply{}, err
	}
	results := make([]deploymentJSON, len(all))
	for i, d := range all {
		results[i] = deploymentResult(d)
	}
	return product.Reply{Result: map[string]any{"deployments": results}}, nil
}

func (w *Workers) getDeployment(ctx context.Context, c *product.Call) (product.Reply, error) {
	all, err := w.deployments(ctx, c)
	if err != nil {
		return product.Reply{}, err
	}
	for _, d := range all {
		if d.ID == c.Params["deployment_id"] {
			return product.Reply{Result: deploymentResult(d)}, nil
		}
	}
	return product.Reply{}, fault.New(fault.NotFound, "The Worker has no deployment %.80s; the newest %d are remembered.", c.Params["deployment_id"], deploymentsKept).WithCode(codeNoVersion)
}

// deploymentBody is what clients send to deploy versions.
type deploymentBody struct {
	Strategy    string              `json:"strategy"`
	Versions    []spec.VersionShare `json:"versions"`
	Annotations map[string]*string  `json:"annotations"`
}

// postDeployment puts versions in force.
func (w *Workers) postDeployment(ctx context.Context, c *product.Call) (product.Reply, error) {
	var body deploymentBody
	if err := c.Decode(&body, "code_update_strategy"); err != nil {
		return product.Reply{}, err
	}
	if body.Strategy != "" && body.Strategy != percentage {
		return product.Reply{}, fault.New(fault.Invalid, "The strategy %.40q is not known; deployments go by percentage.", body.Strategy).At("strategy")
	}
	if err := checkAnnotations(body.Annotations); err != nil {
		return product.Reply{}, err
	}
	found, err := w.scriptOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	d := &spec.WorkerDeployment{Versions: body.Versions}
	if err := d.Validate(); err != nil {
		return product.Reply{}, err
	}
	force := c.Query.Get("force") == "true"
	r := newRelease(c, found.worker.Name, nil)
	now := w.now()
	err = w.o.State.Update(ctx, c.Actor, func(tx product.Tx) error {
		b := baseOf(tx.Snapshot(), c.Account.ID, r.script)
		if b.worker == nil {
			return noScript(r.script)
		}
		if err := b.deployable(body.Versions, force); err != nil {
			return err
		}
		next := *b.worker
		next.ModifiedOn = now
		d.Annotations = annotations(body.Annotations, triggeredBy(b, body.Versions))
		if err := putDeployment(tx, &next, d, r, now); err != nil {
			return err
		}
		return tx.Put(&next)
	})
	if err != nil {
		return product.Reply{}, err
	}
	reply := product.Reply{Result: deploymentResult(d)}
	w.settled(ctx, &reply, c.Account.ID, r.script)
	return reply, nil
}

// triggeredBy calls it a rollback if an older version takes over, and else, in a word that wrangler
// knows, a promotion.
func triggeredBy(b base, shares []spec.VersionShare) string {
	if v := b.all.Versions[shares[0].VersionID]; len(shares) == 1 && v != nil && v.Number < b.oldestInForce() {
		return "rollback"
	}
	return "promotion"
}

// oldestInForce returns the number of the oldest version in force, 0 if there is none.
func (b base) oldestInForce() int {
	n := 0
	for _, s := range b.worker.Deployment.Versions {
		if v := b.all.Versions[s.VersionID]; v != nil && (n == 0 || v.Number < n) {
			n = v.Number
		}
	}
	return n
}

// deployable refuses versions that could not answer, or, unless forced, that bring back old secrets.
func (b base) deployable(shares []spec.VersionShare, force bool) error {
	var faults []error
	seen := map[string]bool{}
	for i, s := range shares {
		at := fmt.Sprintf("versions[%d].version_id", i)
		if seen[s.VersionID] {
			return fault.New(fault.Invalid, "The version %s stands there twice.", s.VersionID).At(at)
		}
		seen[s.VersionID] = true
		v, err := b.version(s.VersionID)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		faults = append(faults, b.startable(v))
		// A gradual deployment says by itself that both are wanted.
		if changed := b.changedSecrets(v); len(changed) > 0 && !force && len(shares) == 1 {
			faults = append(faults, fault.New(fault.Conflict, "The secrets of version %s are not those in force. To go back to them, use `wrangler rollback`, or deploy with ?force=true. The following secrets have changed: %s", v.ID, strings.Join(changed, ", ")).WithCode(codeSecretsChanged))
		}
	}
	return joined(faults)
}

// startable refuses a version whose surroundings are gone since it was uploaded.
func (b base) startable(v *spec.WorkerVersion) error {
	h, err := (*migrations)(nil).plan(b, v, v.CreatedOn)
	if err != nil {
		return err
	}
	if err := h.runs(v); err != nil {
		return err
	}
	for _, bound := range v.Bindings {
		if bound.Type == "durable_object_namespace" && b.all.Namespaces[bound.NamespaceID] == nil {
			return fault.New(fault.Invalid, "The version %s binds %s to the Durable Object class '%s', which was deleted since.", v.ID, bound.Name, bound.ClassName).WithCode(codeClassNotReady)
		}
	}
	return checkReferences(b, v)
}

// changedSecrets returns the names of secrets that an older version has otherwise than what is in
// force. A secret that a version has from the one before it is the same bytes.
func (b base) changedSecrets(v *spec.WorkerVersion) []string {
	if v.Number >= b.oldestInForce() {
		return nil
	}
	current := b.shown()
	if current == nil {
		return nil
	}
	secrets := func(v *spec.WorkerVersion) map[string]string {
		all := map[string]string{}
		for i := range v.Bindings {
			if o := &v.Bindings[i]; isSecret(o) {
				all[o.Name] = string(o.Sealed)
			}
		}
		return all
	}
	was, is := secrets(v), secrets(current)
	var changed []string
	for name, sealed := range is {
		if was[name] != sealed {
			changed = append(changed, name)
		}
	}
	for name := range was {
		if _, still := is[name]; !still {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	return changed
}
