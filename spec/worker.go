package spec

import (
	"encoding/json"
	"regexp"
	"time"

	"selvage/foundation/fault"
)

// Kinds of nouns that Workers are made of. All but routes are scoped by account.
const (
	KindWorker           Kind = "worker"
	KindWorkerVersion    Kind = "worker_version"
	KindWorkerDeployment Kind = "worker_deployment" // history; the one in force stands in Worker
	KindWorkerRoute      Kind = "worker_route"      // scoped by zone
	KindWorkerDomain     Kind = "worker_domain"
	KindWorkerSubdomain  Kind = "worker_subdomain" // one per account, its ID is the account's
	KindObjectNamespace  Kind = "object_namespace"
)

// Worker is one script: what is deployed of it, and what holds for all of its versions.
type Worker struct {
	ID         string    `json:"id"` // 32 hex digits; scripts are told apart by Name, objects by this
	AccountID  string    `json:"account_id"`
	Name       string    `json:"name"`
	CreatedOn  time.Time `json:"created_on"`
	ModifiedOn time.Time `json:"modified_on"`

	Versions     int              `json:"versions"`                // made so far: the number of the newest
	Latest       string           `json:"latest,omitempty"`        // ID of the newest version, deployed or not
	Deployment   WorkerDeployment `json:"deployment"`              // in force; its ID is empty before the first
	Before       []VersionShare   `json:"before,omitempty"`        // what the deployment before had in force: it answers if this one does not start
	MigrationTag string           `json:"migration_tag,omitempty"` // last Durable Object migration applied

	OnSubdomain    bool             `json:"on_subdomain"` // answers at NAME.SUBDOMAIN
	Previews       bool             `json:"previews"`     // each version answers at its own name there
	Schedules      []WorkerSchedule `json:"schedules,omitempty"`
	TailConsumers  []TailConsumer   `json:"tail_consumers,omitempty"`
	Logpush        bool             `json:"logpush,omitempty"`
	Observability  json.RawMessage  `json:"observability,omitempty"`
	Tags           []string         `json:"tags,omitempty"`
	PlacementNoted json.RawMessage  `json:"placement,omitempty"` // kept for the client; one node has one place
}

// WorkerDeployment says which versions answer, and how much of the traffic each gets.
type WorkerDeployment struct {
	ID        string         `json:"id"` // UUID
	AccountID string         `json:"account_id,omitempty"`
	Script    string         `json:"script,omitempty"`
	Versions  []VersionShare `json:"versions"` // one or two; percentages add up to 100
	CreatedOn time.Time      `json:"created_on"`
	WorkerAuthor
	Annotations map[string]string `json:"annotations,omitempty"`
}

// WorkerAuthor is who made a version or deployment, and with what.
type WorkerAuthor struct {
	AuthorEmail string `json:"author_email,omitempty"`
	AuthorID    string `json:"author_id,omitempty"`
	Source      string `json:"source,omitempty"` // wrangler, api, ...
}

// VersionShare is a version and its percentage of the traffic, 0 to 100.
type VersionShare struct {
	VersionID  string  `json:"version_id"`
	Percentage float64 `json:"percentage"`
}

// WorkerSchedule is a cron trigger, five fields in UTC.
type WorkerSchedule struct {
	Cron       string    `json:"cron"`
	CreatedOn  time.Time `json:"created_on"`
	ModifiedOn time.Time `json:"modified_on"`
}

// TailConsumer names a Worker of the account that gets the traces of another.
type TailConsumer struct {
	Service string `json:"service"`
}

// WorkerVersion is one uploaded state of a script: code, bindings, settings. It never changes.
type WorkerVersion struct {
	ID          string            `json:"id"` // UUID
	AccountID   string            `json:"account_id"`
	Script      string            `json:"script"`
	Number      int               `json:"number"` // counts from 1
	CreatedOn   time.Time         `json:"created_on"`
	Annotations map[string]string `json:"annotations,omitempty"` // workers/message, workers/tag, ...
	WorkerAuthor

	Main          string         `json:"main"`           // name of the main module, or of the service-worker script
	ServiceWorker bool           `json:"service_worker"` // addEventListener syntax
	Modules       []WorkerModule `json:"modules"`        // without source maps
	SourceMaps    []WorkerModule `json:"source_maps,omitempty"`
	Etag          string         `json:"etag"` // hex digest over code

	CompatibilityDate  string          `json:"compatibility_date"`
	CompatibilityFlags []string        `json:"compatibility_flags,omitempty"`
	Bindings           []WorkerBinding `json:"bindings,omitempty"`
	Assets             *WorkerAssets   `json:"assets,omitempty"`
	CPUMs              int             `json:"cpu_ms,omitempty"`      // CPU milliseconds a request may use; 0 is the default, 30,000
	Subrequests        int             `json:"subrequests,omitempty"` // a request may make; 0 is the default, 1,000

	WorkerExports
}

// WorkerExports is what a script exports, found by starting it once.
type WorkerExports struct {
	Handlers      []string       `json:"handlers"` // of the default export: fetch, scheduled, queue, ...
	NamedHandlers []NamedHandler `json:"named_handlers,omitempty"`
	StartupTimeMs int            `json:"startup_time_ms"`
}

// NamedHandler is a named export that can be bound to.
type NamedHandler struct {
	Name     string   `json:"name"`
	Kind     string   `json:"kind"` // entrypoint, object (a Durable Object class), workflow
	Handlers []string `json:"handlers"`
}

// WorkerModule is one part of a script. Its bytes lie in the blob store under Digest.
type WorkerModule struct {
	Name   string `json:"name"`
	Type   string `json:"type"`   // esm, cjs, text, data, wasm, json, python, sourcemap
	Digest string `json:"digest"` // hex SHA-256
	Size   int64  `json:"size"`   // bytes
}

// WorkerAssets are the static files of a version. The manifest is a blob: JSON that maps paths to
// hashes and sizes.
type WorkerAssets struct {
	Manifest  string          `json:"manifest"` // hex SHA-256 of the manifest in the blob store
	Config    json.RawMessage `json:"config,omitempty"`
	Redirects string          `json:"redirects,omitempty"` // text of _redirects
	Headers   string          `json:"headers,omitempty"`   // text of _headers
}

// WorkerBinding is one env.NAME of a version. Which fields count depends on Type, as in the v4 API.
type WorkerBinding struct {
	Name string `json:"name"`
	Type string `json:"type"` // plain_text, json, secret_text, service, durable_object_namespace, kv_namespace, ...

	Text   string          `json:"text,omitempty"`   // plain_text
	JSON   json.RawMessage `json:"json,omitempty"`   // json
	Sealed []byte          `json:"sealed,omitempty"` // secret_text, secret_key: encrypted, never shown
	Part   string          `json:"part,omitempty"`   // wasm_module, text_blob, data_blob: name of the module

	Service     string          `json:"service,omitempty"`    // service: script name
	Entrypoint  string          `json:"entrypoint,omitempty"` // service: named export; empty is the default one
	Props       json.RawMessage `json:"props,omitempty"`      // service: ctx.props of the callee
	ClassName   string          `json:"class_name,omitempty"`
	ScriptName  string          `json:"script_name,omitempty"`  // durable_object_namespace of another script
	NamespaceID string          `json:"namespace_id,omitempty"` // durable_object_namespace, kv_namespace, ratelimit
	Dataset     string          `json:"dataset,omitempty"`      // analytics_engine
	Limit       int             `json:"limit,omitempty"`        // ratelimit: requests ...
	Period      int             `json:"period,omitempty"`       // ... in so many seconds, 10 or 60

	// Extra holds what a binding type of another product needs, as the client sent it.
	Extra json.RawMessage `json:"extra,omitempty"`
}

// WorkerRoute sends requests of a zone to a script.
type WorkerRoute struct {
	ID      string `json:"id"`
	ZoneID  string `json:"zone_id"`
	Pattern string `json:"pattern"` // [http[s]://]host[/path], with * at the host's start and the path's end
	Script  string `json:"script"`  // empty: no Worker runs on what this matches
}

// WorkerDomain is a host name whose origin is a script.
type WorkerDomain struct {
	ID          string    `json:"id"`
	AccountID   string    `json:"account_id"`
	ZoneID      string    `json:"zone_id"`
	ZoneName    string    `json:"zone_name"`
	Hostname    string    `json:"hostname"`
	Service     string    `json:"service"`
	Environment string    `json:"environment"` // production
	RecordID    string    `json:"record_id"`   // the DNS record made for it
	CreatedOn   time.Time `json:"created_on"`
}

// WorkerSubdomain is the account's name under the node's workers domain. Its zone, which the node
// makes, holds a wildcard record.
type WorkerSubdomain struct {
	AccountID string `json:"account_id"`
	Name      string `json:"name"`    // one label
	ZoneID    string `json:"zone_id"` // of NAME.WORKERS-DOMAIN
}

// ObjectNamespace is the home of one Durable Object class. Objects are found by its ID, whatever
// becomes of script and class names.
type ObjectNamespace struct {
	ID        string    `json:"id"` // 32 hex digits, also the engine's unique key
	AccountID string    `json:"account_id"`
	Script    string    `json:"script"`
	Class     string    `json:"class"`
	SQLite    bool      `json:"use_sqlite"`
	CreatedOn time.Time `json:"created_on"`
}

// Key returns the script's key.
func (w *Worker) Key() Key { return Key{KindWorker, w.AccountID, w.Name} }

// Key returns the version's key.
func (v *WorkerVersion) Key() Key { return Key{KindWorkerVersion, v.AccountID, v.ID} }

// Key returns the deployment's key.
func (d *WorkerDeployment) Key() Key { return Key{KindWorkerDeployment, d.AccountID, d.ID} }

// Key returns the route's key.
func (r *WorkerRoute) Key() Key { return Key{KindWorkerRoute, r.ZoneID, r.ID} }

// Key returns the domain's key.
func (d *WorkerDomain) Key() Key { return Key{KindWorkerDomain, d.AccountID, d.ID} }

// Key returns the subdomain's key.
func (s *WorkerSubdomain) Key() Key { return Key{KindWorkerSubdomain, s.AccountID, s.AccountID} }

// Key returns the namespace's key.
func (n *ObjectNamespace) Key() Key { return Key{KindObjectNamespace, n.AccountID, n.ID} }

var (
	scriptName = regexp.MustCompile(`^[a-z0-9_][a-z0-9_-]{0,62}$`)
	dnsLabel   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

// Validate checks the name.
func (w *Worker) Validate() error {
	if !scriptName.MatchString(w.Name) {
		return fault.New(fault.Invalid, "The script name %.80q is not valid: it has 1 to 63 lower-case letters, digits, hyphens and underscores and does not begin with a hyphen.", w.Name).WithCode(10016).At("script_name")
	}
	return nil
}

// Validate checks that a version has code or assets; product/workers checks the rest at upload.
func (v *WorkerVersion) Validate() error {
	if len(v.Modules) == 0 && v.Assets == nil {
		return fault.New(fault.Invalid, "A version needs a script or assets.").WithCode(10021).At("main_module")
	}
	return nil
}

// Validate checks that the percentages add up.
func (d *WorkerDeployment) Validate() error {
	sum := 0.0
	for _, v := range d.Versions {
		if v.Percentage < 0 || v.Percentage > 100 {
			return fault.New(fault.Invalid, "The percentage of version %s is %g; it has to be from 0 to 100.", v.VersionID, v.Percentage).At("versions")
		}
		sum += v.Percentage
	}
	if len(d.Versions) < 1 || len(d.Versions) > 2 {
		return fault.New(fault.Invalid, "A deployment has one or two versions, not %d.", len(d.Versions)).At("versions")
	}
	if sum < 99.99 || sum > 100.01 {
		return fault.New(fault.Invalid, "The percentages of a deployment add up to 100, not %g.", sum).At("versions")
	}
	return nil
}

// Validate accepts any pattern; product/workers, which knows how patterns match, checks it.
func (r *WorkerRoute) Validate() error { return nil }

// Validate checks the host name.
func (d *WorkerDomain) Validate() error { return CheckHostname(d.Hostname) }

// Validate checks the label.
func (s *WorkerSubdomain) Validate() error {
	if !dnsLabel.MatchString(s.Name) {
		return fault.New(fault.Invalid, "The subdomain %.80q is not valid: it is one DNS label of lower-case letters, digits and hyphens.", s.Name).WithCode(10031).At("subdomain")
	}
	return nil
}

// Validate checks that script and class are named.
func (n *ObjectNamespace) Validate() error {
	if n.Script == "" || n.Class == "" {
		return fault.New(fault.Invalid, "A namespace needs a script and a class.").At("class")
	}
	return nil
}

var _ Redacted = (*WorkerVersion)(nil)

// Redact returns a copy without sealed secrets.
func (v *WorkerVersion) Redact() Noun {
	r := *v
	r.Bindings = make([]WorkerBinding, len(v.Bindings))
	for i, b := range v.Bindings {
		b.Sealed = nil
		r.Bindings[i] = b
	}
	return &r
}
