package workers

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// permission groups of Cloudflare's API for everything about scripts.
var (
	readScripts  = product.Permission{Group: "Workers Scripts"}
	writeScripts = product.Permission{Group: "Workers Scripts", Write: true}
)

// scriptRoutes are the routes of scripts, versions, deployments, secrets and settings.
func (w *Workers) scriptRoutes() []product.Route {
	const (
		account = "/accounts/{account_id}/workers"
		script  = account + "/scripts/{script_name}"
		service = account + "/services/{script_name}"
		env     = service + "/environments/{environment}"
	)
	read := func(path, summary string, h func(context.Context, *product.Call) (product.Reply, error)) product.Route {
		return product.Route{Method: http.MethodGet, Path: path, Permission: readScripts, Summary: summary, Handle: h}
	}
	write := func(method, path, summary string, h func(context.Context, *product.Call) (product.Reply, error)) product.Route {
		return product.Route{Method: method, Path: path, Permission: writeScripts, Summary: summary, Handle: h}
	}
	upload := func(method, path, summary string, h func(context.Context, *product.Call) (product.Reply, error)) product.Route {
		r := write(method, path, summary, h)
		r.MaxBody = maxUpload
		return r
	}
	return []product.Route{
		read(service, "Show a script as wrangler asks for it.", w.getService),
		write(http.MethodDelete, service, "Delete a script with its versions, routes and domains.", w.deleteScript),
		read(env, "Show the production environment of a script.", w.getEnvironment),
		read(env+"/bindings", "List the bindings of a script.", w.getBindings),
		read(env+"/content/v2", "Download the code of a script.", w.getContent),
		read(env+"/content", "Download the code of a script.", w.getContent),
		read(account+"/scripts", "List the scripts of an account.", w.listScripts),
		read(script, "Download the code of a script.", w.getContent),
		upload(http.MethodPut, script, "Upload a script and deploy it.", w.putScript),
		write(http.MethodDelete, script, "Delete a script with its versions, routes and domains.", w.deleteScript),
		read(script+"/content", "Download the code of a script.", w.getContent),
		read(script+"/content/v2", "Download the code of a script.", w.getContent),
		upload(http.MethodPut, script+"/content", "Replace the code of a script and deploy it.", w.putContent),
		read(script+"/bindings", "List the bindings of a script.", w.getBindings),
		read(script+"/references", "List the scripts that use a script.", w.getReferences),
		read(account+"/tails/by-consumer/{script_name}", "List the scripts that have a script as tail consumer.", w.getTailProducers),
		read(script+"/settings", "Show the settings of a script's newest version.", w.getSettings),
		write(http.MethodPatch, script+"/settings", "Change settings and bindings, as a new version that is deployed.", w.patchSettings),
		read(script+"/script-settings", "Show the settings that hold for all versions.", w.getScriptSettings),
		write(http.MethodPatch, script+"/script-settings", "Change the settings that hold for all versions.", w.patchScriptSettings),
		read(script+"/usage-model", "Show the usage model of a script.", w.getUsageModel),
		write(http.MethodPut, script+"/usage-model", "Set the usage model of a script; there is one.", w.putUsageModel),
		read(script+"/versions", "List the versions of a script.", w.listVersions),
		upload(http.MethodPost, script+"/versions", "Upload a version of a script without deploying it.", w.postVersion),
		read(script+"/versions/{version_id}", "Show a version of a script.", w.getVersion),
		read(script+"/deployments", "List the deployments of a script.", w.listDeployments),
		write(http.MethodPost, script+"/deployments", "Deploy one version, or two by percentage.", w.postDeployment),
		read(script+"/deployments/{deployment_id}", "Show a deployment of a script.", w.getDeployment),
		read(script+"/secrets", "List the names of a script's secrets.", w.listSecrets),
		write(http.MethodPut, script+"/secrets", "Set a secret, as a new version that is deployed.", w.putSecret),
		write(http.MethodPatch, script+"/secrets-bulk", "Set and delete secrets, as one new version that is deployed.", w.patchSecrets),
		read(script+"/secrets/{secret_name}", "Show the name of a secret.", w.getSecret),
		write(http.MethodDelete, script+"/secrets/{secret_name}", "Delete a secret, as a new version that is deployed.", w.deleteSecret),
		read(account+"/workers", "List the Workers of an account.", w.listWorkers),
		read(account+"/workers/{script_name}", "Show a Worker by name or ID.", w.getWorker),
		write(http.MethodPatch, account+"/workers/{script_name}", "Change the settings that hold for all versions of a Worker.", w.patchWorker),
		write(http.MethodDelete, account+"/workers/{script_name}", "Delete a Worker with its versions, routes and domains.", w.deleteScript),
		write(http.MethodPatch, account+"/workers/{script_name}/versions/latest", "Make a new version of the newest one, without deploying it.", w.patchLatest),
	}
}

// scriptOf returns the script that a call is about: its path has a name, or an ID.
func (w *Workers) scriptOf(c *product.Call) (base, error) {
	name := c.Params["script_name"]
	b := baseOf(w.o.State.Snapshot(), c.Account.ID, name)
	if b.worker != nil {
		return b, nil
	}
	if len(name) == 32 {
		for _, s := range b.all.Scripts {
			if s.ID == name {
				return baseOf(b.snap, c.Account.ID, s.Name), nil
			}
		}
	}
	return b, noScript(name)
}

// shown is the version that answers of a script are about: the one in force, or the newest.
func (b base) shown() *spec.WorkerVersion {
	best, most := b.latest, -1.0
	for _, s := range b.worker.Deployment.Versions {
		if v := b.all.Versions[s.VersionID]; v != nil && s.Percentage > most {
			best, most = v, s.Percentage
		}
	}
	return best
}

// scriptJSON is a script in listings and in the answer of an upload.
type scriptJSON struct {
	ID  string `json:"id"`
	Tag string `json:"tag"`
	scriptState
	versionState
	DeploymentID  string `json:"deployment_id,omitempty"` // what wrangler shows as the version's ID
	EntryPoint    string `json:"entry_point,omitempty"`
	StartupTimeMs int    `json:"startup_time_ms,omitempty"`
}

// scriptState is what holds for all versions of a script.
type scriptState struct {
	CreatedOn        time.Time           `json:"created_on"`
	ModifiedOn       time.Time           `json:"modified_on"`
	LastDeployedFrom string              `json:"last_deployed_from,omitempty"`
	Logpush          bool                `json:"logpush"`
	MigrationTag     string              `json:"migration_tag,omitempty"`
	Observability    json.RawMessage     `json:"observability,omitempty"`
	PlacementNoted   json.RawMessage     `json:"placement,omitempty"`
	PlacementMode    string              `json:"placement_mode,omitempty"`
	Tags             []string            `json:"tags"`
	TailConsumers    []spec.TailConsumer `json:"tail_consumers"`
}

// versionState is what belongs to the version shown.
type versionState struct {
	Etag               string         `json:"etag"`
	Handlers           []string       `json:"handlers"`
	NamedHandlers      []namedHandler `json:"named_handlers,omitempty"`
	HasAssets          bool           `json:"has_assets"`
	HasModules         bool           `json:"has_modules"`
	CompatibilityDate  string         `json:"compatibility_date,omitempty"`
	CompatibilityFlags []string       `json:"compatibility_flags"`
	UsageModel         string         `json:"usage_model"`
	Limits             *limitsJSON    `json:"limits,omitempty"`
}

type namedHandler struct {
	Name     string   `json:"name"`
	Handlers []string `json:"handlers"`
}

type limitsJSON struct {
	CPUMs       int `json:"cpu_ms,omitempty"`
	Subrequests int `json:"subrequests,omitempty"`
}

func limitsOf(v *spec.WorkerVersion) *limitsJSON {
	if v.CPUMs == 0 && v.Subrequests == 0 {
		return nil
	}
	return &limitsJSON{v.CPUMs, v.Subrequests}
}

func namedHandlers(v *spec.WorkerVersion) []namedHandler {
	var all []namedHandler
	for _, n := range v.NamedHandlers {
		all = append(all, namedHandler{n.Name, list(n.Handlers)})
	}
	return all
}

// list is s, never nil: clients read [] and not null.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func scriptResult(s *spec.Worker, v *spec.WorkerVersion) scriptJSON {
	r := scriptJSON{ID: s.Name, Tag: s.ID, scriptState: scriptStateOf(s)}
	if v == nil {
		return r
	}
	r.versionState = versionState{
		Etag: v.Etag, Handlers: list(v.Handlers), NamedHandlers: namedHandlers(v), HasAssets: v.Assets != nil,
		HasModules: !v.ServiceWorker, CompatibilityDate: v.CompatibilityDate, CompatibilityFlags: list(v.CompatibilityFlags),
		UsageModel: usageModel, Limits: limitsOf(v),
	}
	r.EntryPoint = v.Main
	return r
}

func scriptStateOf(s *spec.Worker) scriptState {
	var placement struct{ Mode string }
	if len(s.PlacementNoted) > 0 {
		_ = json.Unmarshal(s.PlacementNoted, &placement) // no mode is none
	}
	return scriptState{
		CreatedOn: s.CreatedOn, ModifiedOn: s.ModifiedOn, LastDeployedFrom: s.Deployment.Source, Logpush: s.Logpush,
		MigrationTag: s.MigrationTag, Observability: s.Observability, PlacementNoted: s.PlacementNoted, PlacementMode: placement.Mode,
		Tags: list(s.Tags), TailConsumers: list(s.TailConsumers),
	}
}

// uploadResult is the answer of an upload that was deployed.
func uploadResult(done released) scriptJSON {
	r := scriptResult(done.worker, done.version)
	r.DeploymentID = strings.ReplaceAll(done.version.ID, "-", "")
	r.StartupTimeMs = done.version.StartupTimeMs
	return r
}

func (w *Workers) listScripts(_ context.Context, c *product.Call) (product.Reply, error) {
	all := w.o.State.Snapshot().WorkersOf(c.Account.ID)
	results := []scriptJSON{}
	for _, name := range slices.Sorted(maps.Keys(all.Scripts)) {
		b := baseOf(w.o.State.Snapshot(), c.Account.ID, name)
		if b.worker != nil && tagged(b.worker.Tags, c.Query.Get("tags")) {
			results = append(results, scriptResult(b.worker, b.shown()))
		}
	}
	return product.Reply{Result: results}, nil
}

// tagged tells whether tags match a filter such as "staging:yes,team:no".
func tagged(tags []string, filter string) bool {
	for want := range strings.SplitSeq(filter, ",") {
		want = strings.TrimSpace(want)
		if at := strings.LastIndexByte(want, ':'); at > 0 && slices.Contains(tags, want[:at]) != (want[at+1:] == "yes") {
			return false
		}
	}
	return true
}

// getService answers wrangler's first question: is there such a Worker? 10090 says no.
func (w *Workers) getService(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := w.scriptOf(c)
	if err != nil {
		return product.Reply{}, fault.New(fault.NotFound, "workers.api.error.service_not_found: there is no Worker %.80s on your account.", c.Params["script_name"]).WithCode(codeNoService)
	}
	env := environmentResult(b)
	return product.Reply{Result: map[string]any{
		"id": b.worker.Name, "default_environment": env, "environments": []any{env}, "usage_model": usageModel,
		"created_on": b.worker.CreatedOn, "modified_on": b.worker.ModifiedOn,
	}}, nil
}

func environmentResult(b base) map[string]any {
	return map[string]any{
		"environment": production, "created_on": b.worker.CreatedOn, "modified_on": b.worker.ModifiedOn,
		"script": scriptResult(b.worker, b.shown()),
	}
}

// production is the one environment that a script has.
const production = "production"

func (w *Workers) getEnvironment(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := w.environmentOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: environmentResult(b)}, nil
}

// environmentOf is scriptOf for paths that may name an environment.
func (w *Workers) environmentOf(c *product.Call) (base, error) {
	if e := c.Params["environment"]; e != "" && e != production {
		return base{}, fault.New(fault.NotFound, "The Worker has no environment %.80s; there is production only.", e).WithCode(codeNoService)
	}
	return w.scriptOf(c)
}

func (w *Workers) getBindings(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := w.environmentOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Result: bindingResults(b.shown())}, nil
}

// getContent answers the code: modules as multipart/form-data, a service-worker script as it is.
func (w *Workers) getContent(_ context.Context, c *product.Call) (product.Reply, error) {
	b, err := w.environmentOf(c)
	if err != nil {
		return product.Reply{}, err
	}
	v := b.shown()
	if v == nil || v.Main == "" {
		return product.Reply{}, fault.New(fault.NotFound, "The Worker %s has no code.", b.worker.Name).WithCode(codeNoScript)
	}
	if v.ServiceWorker {
		header := http.Header{"Etag": {`"` + v.Etag + `"`}}
		return product.Reply{Raw: &product.Raw{ContentType: "application/javascript", Header: header, Write: func(ctx context.Context, out io.Writer) error {
			return w.copyBlob(ctx, out, v.Modules[0].Digest)
		}}}, nil
	}
	boundary := spec.NewID()
	header := http.Header{"Etag": {`"` + v.Etag + `"`}, "Cf-Entrypoint": {v.Main}}
	return product.Reply{Raw: &product.Raw{ContentType: "multipart/form-data; boundary=" + boundary, Header: header, Write: func(ctx context.Context, out io.Writer) error {
		return w.writeModules(ctx, out, boundary, v.Modules)
	}}}, nil
}

// mediaTypes say how modules are sent to clients.
var mediaTypes = map[string]string{
	"esm": "application/javascript+module", "cjs": "application/javascript", "wasm": "application/wasm", "text": "text/plain",
	"data": "application/octet-stream", "json": "application/json",
}

func (w *Workers) writeModules(ctx context.Context, out io.Writer, boundary string, modules []spec.WorkerModule) error {
	form := multipart.NewWriter(out)
	if err := form.SetBoundary(boundary); err != nil {
		return err
	}
	quote := strings.NewReplacer(`"`, "%22", "\r", "%0D", "\n", "%0A")
	for _, m := range modules {
		name := quote.Replace(m.Name)
		part, err := form.CreatePart(textproto.MIMEHeader{
			"Content-Disposition": {`form-data; name="` + name + `"; filename="` + name + `"`},
			"Content-Type":        {mediaTypes[m.Type]},
		})
		if err != nil {
			return err
		}
		if err := w.copyBlob(ctx, part, m.Digest); err != nil {
			return err
		}
	}
	return form.Close()
}
