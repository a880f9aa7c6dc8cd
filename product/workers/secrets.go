package workers

import (
	"context"
	"encoding/json"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// secretJSON is all that is ever shown of a secret.
type secretJSON struct {
	Name string `json:"name"`
	Type string `json:"type"`
	publicKeyFields
}

func secretResult(b *spec.WorkerBinding) secretJSON {
	r := secretJSON{Name: b.Name, Type: b.Type}
	if len(b.Extra) > 0 {
		_ = json.Unmarshal(b.Extra, &r.publicKeyFields) // it is ours
	}
	return r
}

// secrets returns what is shown of a version's secrets.
func secrets(v *spec.WorkerVersion) []secretJSON {
	all := []secretJSON{}
	if v == nil {
		return all
	}
	for i := range v.Bindings {
		if isSecret(&v.Bindings[i]) {
			all = append(all, secretResult(&v.Bindings[i]))
		}
	}
	return all
}

func (w *Workers) listSecrets(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := w.scriptOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: secrets(b.latest)}, nil
}

func (w *Workers) getSecret(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := w.scriptOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	for _, s := range secrets(b.latest) {
		if s.Name == c.Params["secret_name"] {
			return product.Reply{Result: s}, nil
		}
	}
	return product.Reply{}, noSecret(c.Params["secret_name"])
}

const codeNoSecret = 10056

func noSecret(name string) error {
	return fault.New(fault.NotFound, "The Worker has no secret %.80q.", name).WithCode(codeNoSecret)
}

func (w *Workers) putSecret(ctx context.Context, c *product.Call) (product.Reply, error) {
	var body map[string]json.RawMessage
	if err := c.Decode(&body); err != nil {
		return product.Reply{}, err
	}
	if body["type"] == nil {
		body["type"] = json.RawMessage(`"secret_text"`)
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return product.Reply{}, err
	}
	in, err := w.readBinding("secret", raw)
	if err != nil {
		return product.Reply{}, err
	}
	if err := onlySecrets(in); err != nil {
		return product.Reply{}, err
	}
	reply, done, err := w.changeSecrets(ctx, c, &bindingPatch{inputs: []*input{in}})
	if err != nil {
		return product.Reply{}, err
	}
	for _, s := range secrets(done.version) {
		if s.Name == in.name {
			reply.Result = s
		}
	}
	return reply, nil
}

func onlySecrets(inputs ...*input) error {
	for _, in := range inputs {
		if in.kind != "secret_text" && in.kind != "secret_key" {
			return invalid(in.at+".type", "A secret has the type secret_text or secret_key, not %.40q.", in.kind)
		}
	}
	return nil
}

func (w *Workers) deleteSecret(ctx context.Context, c *product.Call) (product.Reply, error) {
	reply, _, err := w.changeSecrets(ctx, c, &bindingPatch{gone: []string{c.Params["secret_name"]}})
	return reply, err
}

// patchSecrets sets and deletes many at once, by a merge patch (RFC 7396).
func (w *Workers) patchSecrets(ctx context.Context, c *product.Call) (product.Reply, error) {
	var body struct {
		Secrets map[string]json.RawMessage `json:"secrets"`
	}
	if err := c.Decode(&body); err != nil {
		return product.Reply{}, err
	}
	p, err := w.readPatch("secrets", body.Secrets)
	if err != nil {
		return product.Reply{}, err
	}
	if err := onlySecrets(p.inputs...); err != nil {
		return product.Reply{}, err
	}
	reply, done, err := w.changeSecrets(ctx, c, p)
	if err != nil {
		return product.Reply{}, err
	}
	reply.Result = secrets(done.version)
	return reply, nil
}

// changeSecrets makes a version with other secrets and deploys it, where the newest version is the one
// in force: otherwise a change of a secret would deploy code that nobody asked to deploy.
func (w *Workers) changeSecrets(ctx context.Context, c *product.Call, p *bindingPatch) (product.Reply, released, error) {
	found, err := w.scriptOf(c)
	if err != nil {
		return product.Reply{}, released{}, err
	}
	r := newRelease(c, found.worker.Name, map[string]string{"workers/triggered_by": "secret"})
	r.deploy, r.sameCode = true, true
	r.make = func(ctx context.Context, b base) (*spec.WorkerVersion, error) {
		if b.latest == nil {
			return nil, fault.New(fault.NotFound, "The Worker %s has no versions; upload one first.", r.script).WithCode(codeNoNewVersion)
		}
		if b.deployed() != b.latest {
			return nil, fault.New(fault.Conflict, "Secret edit failed. You attempted to modify a secret, but the latest version of your Worker isn't currently deployed. Deploy it first, or use `wrangler versions secret put`.").WithCode(codeNotDeployed)
		}
		if err := p.checkSecrets(b.latest); err != nil {
			return nil, err
		}
		return p.onto(ctx, w, c.Account.ID, b.latest)
	}
	done, err := w.release(ctx, r)
	if err != nil {
		return product.Reply{}, released{}, err
	}
	reply := product.Reply{}
	w.settled(ctx, &reply, c.Account.ID, r.script)
	return reply, done, nil
}

// checkSecrets refuses to delete what is no secret, or to set one in place of another binding.
func (p *bindingPatch) checkSecrets(v *spec.WorkerVersion) error {
	byName := map[string]*spec.WorkerBinding{}
	for i := range v.Bindings {
		byName[v.Bindings[i].Name] = &v.Bindings[i]
	}
	for _, name := range p.gone {
		if b := byName[name]; b == nil || !isSecret(b) {
			return noSecret(name)
		}
	}
	for _, in := range p.inputs {
		if b := byName[in.name]; b != nil && !isSecret(b) {
			return fault.New(fault.Conflict, "Binding name '%s' already in use as %s. Please use a different name and try again.", in.name, b.Type).WithCode(codeNameInUse)
		}
	}
	return nil
}

// codeNameInUse is Cloudflare's for a secret named like another binding.
const codeNameInUse = 10053
