package workers

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// usageModel is the one there is: nobody is billed by it.
const usageModel = "standard"

// versionJSON is a version as wrangler's ApiVersion has it.
type versionJSON struct {
	ID            string            `json:"id"`
	Number        int               `json:"number"`
	Metadata      versionMetadata   `json:"metadata"`
	Annotations   map[string]string `json:"annotations,omitempty"`
	Resources     versionResources  `json:"resources"`
	StartupTimeMs int               `json:"startup_time_ms,omitempty"`
}

type versionMetadata struct {
	CreatedOn   time.Time `json:"created_on"`
	ModifiedOn  time.Time `json:"modified_on"`
	Source      string    `json:"source"`
	AuthorID    string    `json:"author_id"`
	AuthorEmail string    `json:"author_email"`
	HasPreview  bool      `json:"has_preview"`
}

type versionResources struct {
	Bindings []map[string]any `json:"bindings"`
	Script   versionScript    `json:"script"`
	Runtime  versionRuntime   `json:"script_runtime"`
}

type versionScript struct {
	Etag             string         `json:"etag"`
	Handlers         []string       `json:"handlers"`
	NamedHandlers    []namedHandler `json:"named_handlers,omitempty"`
	LastDeployedFrom string         `json:"last_deployed_from"`
	PlacementMode    string         `json:"placement_mode,omitempty"`
}

type versionRuntime struct {
	CompatibilityDate  string      `json:"compatibility_date"`
	CompatibilityFlags []string    `json:"compatibility_flags,omitempty"`
	UsageModel         string      `json:"usage_model"`
	Limits             *limitsJSON `json:"limits,omitempty"`
	MigrationTag       string      `json:"migration_tag,omitempty"`
}

func versionResult(s *spec.Worker, v *spec.WorkerVersion) versionJSON {
	state := scriptStateOf(s)
	return versionJSON{
		ID: v.ID, Number: v.Number, Annotations: v.Annotations,
		Metadata: versionMetadata{v.CreatedOn, v.CreatedOn, v.Source, v.AuthorID, v.AuthorEmail, s.Previews},
		Resources: versionResources{
			Bindings: bindingResults(v),
			Script:   versionScript{v.Etag, list(v.Handlers), namedHandlers(v), v.Source, state.PlacementMode},
			Runtime:  versionRuntime{v.CompatibilityDate, v.CompatibilityFlags, usageModel, limitsOf(v), s.MigrationTag},
		},
	}
}

func (w *Workers) listVersions(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := w.scriptOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	all := b.all.VersionsOf(b.worker.Name)
	// The versions that can be deployed come in one answer, as at Cloudflare: wrangler asks no further.
	paging := product.Paging{Default: 10, Max: 100}
	if c.Query.Get("deployable") == "true" {
		paging.Default, paging.Max = versionsKept+2, versionsKept+2
	}
	part, info, err := product.Page(all, c.Query, paging)
	if err != nil {
		return product.Reply{}, err
	}
	items := make([]versionJSON, len(part))
	for i, v := range part {
		items[i] = versionResult(b.worker, v)
	}
	return product.Reply{Result: map[string]any{"items": items}, Info: info}, nil
}

func (w *Workers) getVersion(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := w.scriptOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	id := c.Params["version_id"]
	if id == "latest" {
		id = b.worker.Latest
	}
	v, err := b.version(id)
	if err != nil {
		return product.Reply{}, err
	}
	result := versionResult(b.worker, v)
	result.StartupTimeMs = v.StartupTimeMs
	return product.Reply{Result: result}, nil
}

// version returns a version of the script by ID.
func (b base) version(id string) (*spec.WorkerVersion, error) {
	v := b.all.Versions[id]
	if v == nil || v.Script != b.worker.Name {
		return nil, fault.New(fault.NotFound, "The Worker %s has no version %.80s; the newest %d are kept.", b.worker.Name, id, versionsKept).WithCode(codeNoVersion)
	}
	return v, nil
}

const codeNoVersion = 10009

// bindingResults shows the bindings of a version as clients sent them, without the values of secrets.
func bindingResults(v *spec.WorkerVersion) []map[string]any {
	results := []map[string]any{}
	if v == nil {
		return results
	}
	for i := range v.Bindings {
		results = append(results, bindingResult(&v.Bindings[i]))
	}
	return results
}

func bindingResult(b *spec.WorkerBinding) map[string]any {
	r := map[string]any{}
	if len(b.Extra) > 0 {
		var extra map[string]json.RawMessage
		_ = json.Unmarshal(b.Extra, &extra) // it is ours, and an object
		for name, v := range extra {
			r[name] = v
		}
	}
	r["name"], r["type"] = b.Name, b.Type
	switch b.Type {
	case "plain_text":
		r["text"] = b.Text
	case "json":
		r["json"] = b.JSON
	case "service":
		r["service"], r["environment"] = b.Service, production
		if len(b.Props) > 0 {
			r["props"] = b.Props
		}
	case "ratelimit":
		r["simple"] = map[string]int{"limit": b.Limit, "period": b.Period}
	}
	for name, text := range map[string]string{
		"part": b.Part, "entrypoint": b.Entrypoint, "class_name": b.ClassName, "script_name": b.ScriptName, "namespace_id": b.NamespaceID, "dataset": b.Dataset,
	} {
		if text != "" {
			r[name] = text
		}
	}
	return r
}

// envPatch is the body of wrangler's "versions secret": a merge patch (RFC 7396) of the newest version.
type envPatch struct {
	Env         map[string]json.RawMessage `json:"env"`
	Annotations map[string]*string         `json:"annotations"`
}

// patchLatest makes a version of the newest one with other bindings, to be deployed later.
func (w *Workers) patchLatest(ctx context.Context, c *product.Call) (product.Reply, error) {
	var body envPatch
	if err := c.Decode(&body); err != nil {
		return product.Reply{}, err
	}
	if err := checkAnnotations(body.Annotations); err != nil {
		return product.Reply{}, err
	}
	found, err := w.scriptOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	p, err := w.readPatch("env", body.Env)
	if err != nil {
		return product.Reply{}, err
	}
	r := newRelease(c, found.worker.Name, annotations(body.Annotations, "secret"))
	r.sameCode = true
	r.make = func(ctx context.Context, b base) (*spec.WorkerVersion, error) {
		if b.latest == nil {
			return nil, fault.New(fault.NotFound, "The Worker %s has no versions; upload one first.", found.worker.Name).WithCode(codeNoNewVersion)
		}
		return p.onto(ctx, w, c.Account.ID, b.latest)
	}
	done, err := w.release(ctx, r)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: latestResult(done)}, nil
}

func latestResult(done released) map[string]any {
	v := done.version
	return map[string]any{
		"id": v.ID, "number": v.Number, "created_on": v.CreatedOn, "source": v.Source, "annotations": v.Annotations,
		"compatibility_date": v.CompatibilityDate, "compatibility_flags": list(v.CompatibilityFlags), "main_module": v.Main,
		"bindings": bindingResults(v), "usage_model": usageModel, "startup_time_ms": v.StartupTimeMs,
	}
}

// bindingPatch is a change of some bindings by name: new values, and those to delete.
type bindingPatch struct {
	inputs []*input
	gone   []string
}

// readPatch reads an object of bindings by name; null deletes one.
func (w *Workers) readPatch(at string, env map[string]json.RawMessage) (*bindingPatch, error) {
	p := &bindingPatch{}
	var faults []error
	for name, raw := range env {
		if string(raw) == "null" {
			p.gone = append(p.gone, name)
			continue
		}
		in, err := w.readNamed(at+"."+name, name, raw)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		p.inputs = append(p.inputs, in)
	}
	slices.SortFunc(p.inputs, func(x, y *input) int { return strings.Compare(x.name, y.name) })
	return p, joined(faults)
}

// readNamed is readBinding for a binding whose name stands outside of it.
func (w *Workers) readNamed(at, name string, raw json.RawMessage) (*input, error) {
	fields := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, invalid(at, "%.200s is not an object.", at)
	}
	text, err := json.Marshal(name)
	if err != nil {
		return nil, err
	}
	if sent, there := fields["name"]; there {
		var other string
		if json.Unmarshal(sent, &other) != nil || other != name {
			return nil, invalid(at, "%.200s is named otherwise inside.", at)
		}
	}
	fields["name"] = text
	whole, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	return w.readBinding(at, whole)
}

// onto returns a copy of v with the patch applied.
func (p *bindingPatch) onto(ctx context.Context, w *Workers, accountID string, v *spec.WorkerVersion) (*spec.WorkerVersion, error) {
	next := *v
	next.Bindings = slices.DeleteFunc(slices.Clone(v.Bindings), func(b spec.WorkerBinding) bool { return slices.Contains(p.gone, b.Name) })
	for _, in := range p.inputs {
		made, err := w.binding(ctx, accountID, v.Script, in)
		if err != nil {
			return nil, err
		}
		at := slices.IndexFunc(next.Bindings, func(b spec.WorkerBinding) bool { return b.Name == in.name })
		if at < 0 {
			next.Bindings = append(next.Bindings, made)
			continue
		}
		next.Bindings[at] = made
	}
	if len(next.Bindings) > maxBindings {
		return nil, invalid("bindings", "The version would have %d bindings, the limit is %d.", len(next.Bindings), maxBindings)
	}
	return &next, checkParts(&next)
}
