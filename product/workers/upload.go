package workers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// defaultDate is what a script without a compatibility date gets, as at Cloudflare.
const defaultDate = "2021-11-02"

// secretTypes are kept from the version before unless an upload says what to keep.
var secretTypes = []string{"secret_text", "secret_key"}

// draft is a version in the making: what the client sent, read and stored.
type draft struct {
	w       *Workers
	account string
	script  string
	strict  bool // an inherit binding without a source is refused
	partial bool // a binding of which only name and type are sent stays as it is

	meta    *metadata
	inputs  []*input
	modules []spec.WorkerModule
	maps    []spec.WorkerModule
	main    string
	assets  *spec.WorkerAssets // nil: none were sent
}

// putScript makes a version of what was sent and deploys it.
func (w *Workers) putScript(ctx context.Context, c *product.Call) (product.Reply, error) {
	d, err := w.readDraft(ctx, c)
	if err != nil {
		return product.Reply{}, err
	}
	r := d.release(c, "upload")
	r.deploy, r.create, r.settings = true, true, d.meta.settings(true)
	done, err := w.release(ctx, r)
	if err != nil {
		return product.Reply{}, err
	}
	reply := product.Reply{Result: uploadResult(done)}
	w.settled(ctx, &reply, c.Account.ID, done.worker.Name)
	return reply, nil
}

// postVersion makes a version of what was sent, to be deployed later.
func (w *Workers) postVersion(ctx context.Context, c *product.Call) (product.Reply, error) {
	d, err := w.readDraft(ctx, c)
	if err != nil {
		return product.Reply{}, err
	}
	if d.meta.Migrations != nil {
		return product.Reply{}, fault.New(fault.Invalid, "Version upload failed. You attempted to upload a version of a Worker that includes a Durable Object migration, but migrations must be fully applied by running `wrangler deploy`.").WithCode(codeNoMigrations).At("migrations")
	}
	r := d.release(c, "upload")
	done, err := w.release(ctx, r)
	if err != nil {
		return product.Reply{}, err
	}
	result := versionResult(done.worker, done.version)
	result.StartupTimeMs = done.version.StartupTimeMs
	return product.Reply{Result: result}, nil
}

// putContent replaces the code of a script and keeps the rest.
func (w *Workers) putContent(ctx context.Context, c *product.Call) (product.Reply, error) {
	d, err := w.readDraft(ctx, c)
	if err != nil {
		return product.Reply{}, err
	}
	r := d.release(c, "upload")
	r.deploy = true
	r.make = func(_ context.Context, b base) (*spec.WorkerVersion, error) {
		if b.latest == nil {
			return nil, noScript(d.script)
		}
		v := *b.latest
		d.code(&v)
		return &v, checkParts(&v)
	}
	done, err := w.release(ctx, r)
	if err != nil {
		return product.Reply{}, err
	}
	reply := product.Reply{Result: uploadResult(done)}
	w.settled(ctx, &reply, c.Account.ID, done.worker.Name)
	return reply, nil
}

// settled waits until what is in force answers. If it does not start, the API says so: the version is
// stored and deployed all the same.
func (w *Workers) settled(ctx context.Context, reply *product.Reply, accountID, script string) {
	if err := w.settle(ctx, accountID, script); err != nil {
		reply.Messages = append(reply.Messages, product.Message{Code: codeInvalidUpload,
			Message: fmt.Sprintf("The deployment is in force and does not start on this node; the version before it answers, if there is one: %v", err)})
	}
}

// readDraft reads an upload and stores its code. Nothing is in the state yet.
func (w *Workers) readDraft(ctx context.Context, c *product.Call) (*draft, error) {
	script := c.Params["script_name"]
	if err := (&spec.Worker{Name: script}).Validate(); err != nil {
		return nil, err
	}
	u, err := w.readUpload(ctx, c.Header, c.Body)
	if err != nil {
		return nil, err
	}
	d := &draft{w: w, account: c.Account.ID, script: script, strict: c.Query.Get("bindings_inherit") == "strict"}
	if d.meta, err = readMeta(u.meta); err != nil {
		return nil, err
	}
	if err := d.readModules(u.parts); err != nil {
		return nil, err
	}
	if d.inputs, err = w.readBindings("bindings", d.meta.Bindings); err != nil {
		return nil, err
	}
	return d, d.readAssets(ctx)
}

// readBindings takes a list of bindings apart.
func (w *Workers) readBindings(at string, list []json.RawMessage) ([]*input, error) {
	var inputs []*input
	var faults []error
	names := map[string]bool{}
	for i, raw := range list {
		in, err := w.readBinding(fmt.Sprintf("%s[%d]", at, i), raw)
		if err == nil && names[in.name] {
			err = invalid(in.at+".name", "There are two bindings named %s.", in.name)
		}
		if err != nil {
			faults = append(faults, err)
			continue
		}
		names[in.name] = true
		inputs = append(inputs, in)
	}
	return inputs, joined(faults)
}

// release returns the release that makes a version of the draft.
func (d *draft) release(c *product.Call, triggeredBy string) *release {
	r := newRelease(c, d.script, annotations(d.meta.Annotations, triggeredBy))
	r.make, r.migrations = d.version, d.meta.Migrations
	return r
}

func newRelease(c *product.Call, script string, notes map[string]string) *release {
	return &release{account: c.Account, script: script, actor: c.Actor, source: sourceOf(c.Header), annotations: notes}
}

// version makes the draft a version on a base.
func (d *draft) version(ctx context.Context, b base) (*spec.WorkerVersion, error) {
	v := &spec.WorkerVersion{CompatibilityDate: d.meta.CompatibilityDate, CompatibilityFlags: d.meta.CompatibilityFlags, Assets: d.assets}
	if v.CompatibilityDate == "" {
		v.CompatibilityDate = defaultDate
	}
	if l := d.meta.Limits; l != nil {
		v.CPUMs, v.Subrequests = l.CPUMs, l.Subrequests
	}
	if v.Assets == nil && d.meta.KeepAssets && b.latest != nil {
		v.Assets = b.latest.Assets
	}
	d.code(v)
	if err := v.Validate(); err != nil {
		return nil, err
	}
	var err error
	if v.Bindings, err = d.bindings(ctx, b); err != nil {
		return nil, err
	}
	if err := checkTails(b.all, d.script, d.meta.TailConsumers); err != nil {
		return nil, err
	}
	return v, checkParts(v)
}

// code gives a version the draft's modules.
func (d *draft) code(v *spec.WorkerVersion) {
	v.Main, v.Modules, v.SourceMaps, v.ServiceWorker = d.main, d.modules, d.maps, d.meta.BodyPart != ""
	sum := sha256.New()
	fmt.Fprintf(sum, "%q\n", v.Main)
	for _, m := range v.Modules {
		fmt.Fprintf(sum, "%q %s %s\n", m.Name, m.Type, m.Digest)
	}
	if v.Assets != nil {
		fmt.Fprintf(sum, "%s\n", v.Assets.Manifest)
	}
	v.Etag = hex.EncodeToString(sum.Sum(nil))
}

// bindings returns those that were sent, with what they inherit, and those that are kept from the
// version before.
func (d *draft) bindings(ctx context.Context, b base) ([]spec.WorkerBinding, error) {
	var all []spec.WorkerBinding
	var faults []error
	sent := map[string]bool{}
	for _, in := range d.inputs {
		sent[in.name] = true
		if old := d.untouched(in, b); old != nil {
			all = append(all, *old)
			continue
		}
		if in.kind != "inherit" {
			made, err := d.w.binding(ctx, d.account, d.script, in)
			faults = append(faults, err)
			all = append(all, made)
			continue
		}
		made, err := d.inherited(in, b)
		faults = append(faults, err)
		if made != nil {
			all = append(all, *made)
		}
	}
	if b.latest == nil {
		return all, joined(faults)
	}
	keep := d.meta.KeepBindings
	if keep == nil {
		keep = secretTypes
	}
	for _, old := range b.latest.Bindings {
		if !sent[old.Name] && slices.Contains(keep, old.Type) {
			all = append(all, old)
		}
	}
	if len(all) > maxBindings {
		faults = append(faults, invalid("bindings", "The version would have %d bindings with those it keeps, the limit is %d.", len(all), maxBindings))
	}
	return all, joined(faults)
}

// untouched returns the binding of the newest version that a partial change names and leaves alone.
func (d *draft) untouched(in *input, b base) *spec.WorkerBinding {
	if !d.partial || len(in.fields) != 2 || b.latest == nil {
		return nil
	}
	for i := range b.latest.Bindings {
		if old := &b.latest.Bindings[i]; old.Name == in.name && old.Type == in.kind {
			return old
		}
	}
	return nil
}

// inherited returns the binding that an inherit binding stands for, or nil if there is none and that
// is no fault.
func (d *draft) inherited(in *input, b base) (*spec.WorkerBinding, error) {
	from := b.latest
	id, err := in.text("version_id")
	if err != nil {
		return nil, err
	}
	if id != "" && id != "latest" {
		if from = b.all.Versions[id]; from == nil || from.Script != d.script {
			return nil, notInherited(in, "there is no version "+id+" of this Worker")
		}
	}
	name, err := in.text("old_name")
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = in.name
	}
	if from != nil {
		for _, old := range from.Bindings {
			if old.Name == name {
				made, err := d.w.renamed(d.account, d.script, old, in.name)
				return &made, err
			}
		}
	}
	if !d.strict {
		return nil, nil
	}
	return nil, notInherited(in, "the previous version of this Worker has no binding '"+name+"'")
}

// notInherited has the form that wrangler takes apart to name missing secrets.
func notInherited(in *input, why string) error {
	return fault.New(fault.Invalid, "inherit binding '%s' is invalid: %s", in.name, why).WithCode(codeInherit).At(in.at)
}

const codeInherit = 10057

// moduleTypes are the media types of modules. Source: Cloudflare's "Multipart upload metadata".
var moduleTypes = map[string]string{
	"application/javascript+module": "esm", "text/javascript+module": "esm",
	"application/javascript": "cjs", "text/javascript": "cjs", "application/x-javascript": "cjs",
	"application/wasm": "wasm", "text/plain": "text", "application/octet-stream": "data", "application/json": "json",
	"application/source-map": "sourcemap", "text/x-python": "python", "text/x-python-requirement": "python",
}

// readModules makes modules of the parts, the main one first and the others by name.
func (d *draft) readModules(parts []part) error {
	d.main = d.meta.MainModule + d.meta.BodyPart
	for _, p := range parts {
		m := spec.WorkerModule{Name: p.name, Type: moduleTypes[p.media], Digest: p.digest, Size: p.size}
		switch {
		case m.Type == "":
			return invalid(p.name, "The part %q has the Content-Type %.80q, which is none of a module; known are %s.", p.name, p.media, strings.Join(slices.Sorted(maps.Keys(moduleTypes)), ", "))
		case m.Type == "python":
			return invalid(p.name, "The part %q is Python. This node runs JavaScript and WebAssembly only.", p.name)
		case !isPath(strings.TrimPrefix(p.name, "./")): // wrangler names modules that are not scripts "./HASH-NAME"
			return invalid(p.name, "The module name %.80q is not valid: it is a relative path without empty parts, . and .. in it.", p.name)
		case m.Type == "sourcemap":
			d.maps = append(d.maps, m)
			continue
		}
		d.modules = append(d.modules, m)
	}
	byName := func(x, y spec.WorkerModule) int { return strings.Compare(x.Name, y.Name) }
	slices.SortFunc(d.maps, byName)
	slices.SortFunc(d.modules, byName)
	return d.checkMain()
}

// isPath tells whether the runtime can find a module by this name.
func isPath(name string) bool {
	for _, s := range strings.Split(name, "/") {
		if s == "" || s == "." || s == ".." {
			return false
		}
	}
	return true
}

func (d *draft) checkMain() error {
	if d.main == "" {
		if len(d.modules) > 0 {
			return invalid("main_module", "The upload has modules and does not say which is the main one; name it in main_module.")
		}
		return nil
	}
	at := slices.IndexFunc(d.modules, func(m spec.WorkerModule) bool { return m.Name == d.main })
	if at < 0 {
		return invalid("main_module", "The upload has no part named %q, which its metadata calls the main one.", d.main)
	}
	m := d.modules[at]
	if d.meta.MainModule != "" && m.Type != "esm" {
		return invalid("main_module", "The main module %q is no ES module: send it as application/javascript+module, or name it in body_part if it is a service-worker script.", m.Name)
	}
	if d.meta.BodyPart != "" && m.Type != "cjs" {
		return invalid("body_part", "The script %q has to be sent as application/javascript; name it in main_module if it is an ES module.", m.Name)
	}
	d.modules = slices.Insert(slices.Delete(d.modules, at, at+1), 0, m)
	return nil
}

// partTypes says which type of module a binding of a part needs.
var partTypes = map[string]string{"wasm_module": "wasm", "text_blob": "text", "data_blob": "data"}

// checkParts refuses bindings of parts that were not sent, and service-worker scripts with modules
// that nothing binds.
func checkParts(v *spec.WorkerVersion) error {
	bound := map[string]bool{v.Main: true}
	for _, b := range v.Bindings {
		if b.Type == "assets" && v.Assets == nil {
			return invalid("bindings", "The binding %s is of assets, and the version has none; upload assets with it.", b.Name)
		}
		want := partTypes[b.Type]
		if want == "" {
			continue
		}
		if !slices.ContainsFunc(v.Modules, func(m spec.WorkerModule) bool { return m.Name == b.Part && m.Type == want }) {
			return invalid("bindings", "The binding %s of type %s names the part %q, which was not sent with the right Content-Type.", b.Name, b.Type, b.Part)
		}
		bound[b.Part] = true
	}
	if !v.ServiceWorker {
		return nil
	}
	for _, m := range v.Modules {
		if !bound[m.Name] {
			return invalid("body_part", "A service-worker script cannot import modules: no binding names the part %q.", m.Name)
		}
	}
	return nil
}

// settings returns the change that an upload makes of what holds for all versions: full replaces it,
// as deploying does.
func (m *metadata) settings(full bool) func(*spec.Worker) {
	return func(s *spec.Worker) {
		if m.TailConsumers != nil || full {
			s.TailConsumers = m.TailConsumers
		}
		if m.Logpush != nil || full {
			s.Logpush = m.Logpush != nil && *m.Logpush
		}
		if m.Observability != nil || full {
			s.Observability = m.Observability
		}
		if m.Placement != nil || full {
			s.PlacementNoted = m.Placement
		}
		if m.Tags != nil {
			s.Tags = m.Tags
		}
	}
}
