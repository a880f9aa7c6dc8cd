package workers

import (
	"context"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// metadata is what an upload says of itself. Source: "Multipart upload metadata" of Cloudflare's
// documentation, and wrangler's create-worker-upload-form.ts.
type metadata struct {
	MainModule         string              `json:"main_module"`
	BodyPart           string              `json:"body_part"`
	CompatibilityDate  string              `json:"compatibility_date"`
	CompatibilityFlags []string            `json:"compatibility_flags"`
	Bindings           []json.RawMessage   `json:"bindings"`
	KeepBindings       []string            `json:"keep_bindings"`
	Migrations         *migrations         `json:"migrations"`
	Annotations        map[string]*string  `json:"annotations"`
	Assets             *uploadedAssets     `json:"assets"`
	KeepAssets         bool                `json:"keep_assets"`
	Limits             *limits             `json:"limits"`
	TailConsumers      []spec.TailConsumer `json:"tail_consumers"`
	Logpush            *bool               `json:"logpush"`
	Observability      json.RawMessage     `json:"observability"`
	Placement          json.RawMessage     `json:"placement"`
	Tags               []string            `json:"tags"`
}

// uploadedAssets names the files of a version by the token that ended their upload.
type uploadedAssets struct {
	JWT    string          `json:"jwt"`
	Config json.RawMessage `json:"config"`
}

// limits are what a request of the script may use.
type limits struct {
	CPUMs       int `json:"cpu_ms"`
	Subrequests int `json:"subrequests"`
}

// tolerated are fields that Cloudflare's clients send and that have no meaning on one node: how an
// update of Durable Objects is spread over machines, what npm packages were bundled, the plan's price
// model, the cache in front of the Worker, and environments, of which there is one.
var tolerated = []string{
	"code_update_strategy", "package_dependencies", "usage_model", "cache_options", "streaming_tail_consumers",
	"tail_consumers[].environment", "tail_consumers[].namespace", "id", "etag", "pipeline_hash", "main_module_path", "assets.config.serve_directly",
}

// refused are fields of Cloudflare's that would silently lose something if they were tolerated.
var refused = map[string]string{
	"exports":      "Durable Objects are declared by migrations here; replace the field exports by migrations.",
	"containers":   "This node runs no containers; remove the field containers.",
	"capnp_schema": "This node has no bindings with Cap'n Proto schemas; remove the field capnp_schema.",
}

// readMeta reads the metadata of an upload.
func readMeta(text []byte) (*metadata, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err == nil {
		for name, why := range refused {
			if v, there := fields[name]; there && !slices.Contains([]string{"null", "{}", "[]"}, string(v)) {
				return nil, invalid(name, "%s", why)
			}
		}
	}
	m := &metadata{}
	if err := product.DecodeJSON(text, m, tolerated...); err != nil {
		return nil, recoded(err)
	}
	return m, m.check()
}

// recoded gives faults without a code that of an invalid upload.
func recoded(err error) error {
	all := fault.All(err)
	if len(all) == 0 {
		return err
	}
	out := make([]error, len(all))
	for i, f := range all {
		if f.Code == 0 || f.Code == 6007 {
			f = f.WithCode(codeInvalidUpload)
		}
		out[i] = f
	}
	return joined(out)
}

const (
	maxBindings   = 512
	maxFlags      = 100
	maxCPUMs      = 300_000
	maxAnnotation = 1000
	maxTags       = 64
)

var dateForm = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}$`)

// check finds what is wrong with the metadata by itself.
func (m *metadata) check() error {
	var faults []error
	find := func(f *fault.Error) { faults = append(faults, f) }
	if m.MainModule != "" && m.BodyPart != "" {
		find(invalid("main_module", "An upload has a main_module (a script of modules) or a body_part (a service-worker script), not both."))
	}
	if m.CompatibilityDate != "" && !dateForm.MatchString(m.CompatibilityDate) {
		find(invalid("compatibility_date", "The compatibility_date %.40q is no date such as 2026-01-31.", m.CompatibilityDate))
	}
	if len(m.CompatibilityFlags) > maxFlags {
		find(invalid("compatibility_flags", "The upload has %d compatibility flags, the limit is %d.", len(m.CompatibilityFlags), maxFlags))
	}
	for _, f := range m.CompatibilityFlags {
		if strings.HasPrefix(f, "python_") {
			find(invalid("compatibility_flags", "The compatibility flag %.80s is for Python. This node runs JavaScript and WebAssembly only.", f))
		}
	}
	if len(m.Bindings) > maxBindings {
		find(invalid("bindings", "The upload has %d bindings, the limit is %d.", len(m.Bindings), maxBindings))
	}
	faults = append(faults, m.Limits.check(), checkAnnotations(m.Annotations), checkTags(m.Tags))
	return joined(faults)
}

// check is right for no limits, too.
func (l *limits) check() error {
	if l == nil {
		return nil
	}
	if l.CPUMs < 0 || l.CPUMs > maxCPUMs {
		return invalid("limits.cpu_ms", "limits.cpu_ms is %d; it has to be from 1 to %d.", l.CPUMs, maxCPUMs)
	}
	if l.Subrequests < 0 || l.Subrequests > 10_000_000 {
		return invalid("limits.subrequests", "limits.subrequests is %d; it has to be from 1 to 10,000,000.", l.Subrequests)
	}
	return nil
}

func checkAnnotations(given map[string]*string) error {
	for name, text := range given {
		if !strings.HasPrefix(name, "workers/") || len(name) > 64 {
			return invalid("annotations", "There is no annotation %.80q; known are workers/message, workers/tag and workers/alias.", name)
		}
		if text != nil && len(*text) > maxAnnotation {
			return invalid("annotations", "The annotation %s has %d bytes, the limit is %d.", name, len(*text), maxAnnotation)
		}
	}
	return nil
}

func checkTags(tags []string) error {
	if len(tags) > maxTags {
		return invalid("tags", "The script has %d tags, the limit is %d.", len(tags), maxTags)
	}
	for _, t := range tags {
		if t == "" || len(t) > 1024 || strings.ContainsAny(t, ",&") {
			return invalid("tags", "The tag %.80q is not valid: tags have 1 to 1,024 bytes, and no comma or ampersand.", t)
		}
	}
	return nil
}

// annotations returns those that were given a text.
func annotations(given map[string]*string, triggeredBy string) map[string]string {
	all := map[string]string{"workers/triggered_by": triggeredBy}
	for name, text := range given {
		if text != nil && *text != "" && name != "workers/triggered_by" {
			all[name] = *text
		}
	}
	return all
}

// bindingFields lists, for each type of binding, the fields it has beside name and type.
var bindingFields = map[string][]string{
	"plain_text":               {"text"},
	"json":                     {"json"},
	"secret_text":              {"text"},
	"secret_key":               {"algorithm", "format", "usages", "key_base64", "key_jwk"},
	"service":                  {"service", "environment", "entrypoint", "props", "cross_account_grant"},
	"durable_object_namespace": {"class_name", "script_name", "environment", "namespace_id"},
	"assets":                   {},
	"version_metadata":         {},
	"ratelimit":                {"namespace_id", "simple"},
	"wasm_module":              {"part"},
	"text_blob":                {"part"},
	"data_blob":                {"part"},
	"inherit":                  {"old_name", "version_id"},
}

var bindingName = regexp.MustCompile(`^[A-Za-z_$][A-Za-z0-9_$.-]{0,254}$`)

// input is one binding of an upload as the client sent it.
type input struct {
	at     string // path of the binding, such as bindings[2]
	name   string
	kind   string
	fields map[string]json.RawMessage
}

// readBinding takes one binding apart; types the node does not have are refused by name.
func (w *Workers) readBinding(at string, raw json.RawMessage) (*input, error) {
	in := &input{at: at, fields: map[string]json.RawMessage{}}
	if err := json.Unmarshal(raw, &in.fields); err != nil {
		return nil, invalid(at, "%s is not an object.", at)
	}
	for name, v := range in.fields {
		if string(v) == "null" {
			delete(in.fields, name)
		}
	}
	var err error
	if in.name, err = in.text("name"); err != nil {
		return nil, err
	}
	if in.kind, err = in.text("type"); err != nil {
		return nil, err
	}
	return in, w.checkInput(in)
}

func (w *Workers) checkInput(in *input) error {
	if !bindingName.MatchString(in.name) {
		return invalid(in.at+".name", "The binding name %.80q is not valid: it begins with a letter, _ or $, and goes on with those, digits, . and -.", in.name)
	}
	if _, ours := w.o.Bindings[in.kind]; ours {
		return nil
	}
	known, ok := bindingFields[in.kind]
	if !ok {
		return invalid(in.at+".type", "The binding %s has the type %.80q, which this node does not offer; remove it from the upload.", in.name, in.kind)
	}
	for name := range in.fields {
		if name != "name" && name != "type" && !slices.Contains(known, name) {
			return invalid(in.at+"."+name, "The binding %s of type %s has no field %.80s.", in.name, in.kind, name)
		}
	}
	return nil
}

// text returns a field that is a string, or empty if it is not there.
func (in *input) text(field string) (string, error) {
	raw, ok := in.fields[field]
	if !ok {
		return "", nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", invalid(in.at+"."+field, "%s.%s must be a string.", in.at, field)
	}
	return s, nil
}

// needed is text that may not be empty.
func (in *input) needed(field string) (string, error) {
	s, err := in.text(field)
	if err == nil && s == "" {
		err = invalid(in.at+"."+field, "binding %s of type %s must have a valid `%s` specified", in.name, in.kind, field)
	}
	return s, err
}

// binding makes the noun's binding of what was sent. Names of other things are checked later, when
// the state they are looked up in is fixed; secrets are sealed here and never kept otherwise.
func (w *Workers) binding(ctx context.Context, accountID, script string, in *input) (spec.WorkerBinding, error) {
	b := spec.WorkerBinding{Name: in.name, Type: in.kind}
	if t, ours := w.o.Bindings[in.kind]; ours {
		return w.productBinding(ctx, accountID, in, t)
	}
	var err error
	switch in.kind {
	case "plain_text":
		if b.Text, err = in.text("text"); err == nil && len(b.Text) > maxVariable {
			err = tooLong(in, len(b.Text))
		}
	case "json":
		if b.JSON = in.fields["json"]; b.JSON == nil {
			b.JSON = json.RawMessage("null")
		}
		if len(b.JSON) > maxVariable {
			err = tooLong(in, len(b.JSON))
		}
	case "secret_text", "secret_key":
		return w.secretBinding(accountID, script, in)
	case "service":
		b.Props = in.fields["props"]
		if b.Service, err = in.needed("service"); err == nil {
			b.Entrypoint, err = in.text("entrypoint")
		}
	case "durable_object_namespace":
		if b.ClassName, err = in.needed("class_name"); err == nil {
			b.ScriptName, err = in.text("script_name")
		}
		if b.ScriptName == script {
			b.ScriptName = ""
		}
	case "ratelimit":
		err = in.rateLimit(&b)
	case "wasm_module", "text_blob", "data_blob":
		b.Part, err = in.needed("part")
	}
	return b, err
}

func tooLong(in *input, size int) error {
	return fault.New(fault.TooMuch, "The value of %s has %d bytes, the limit is %d.", in.name, size, maxVariable).WithCode(codeInvalidUpload).At(in.at)
}

// rateLimit reads {namespace_id, simple {limit, period}}.
func (in *input) rateLimit(b *spec.WorkerBinding) error {
	var err error
	if b.NamespaceID, err = in.needed("namespace_id"); err != nil {
		return err
	}
	var simple struct {
		Limit  int `json:"limit"`
		Period int `json:"period"`
	}
	if err := product.DecodeJSON(in.fields["simple"], &simple); err != nil {
		return invalid(in.at+".simple", "binding %s of type ratelimit must have `simple` with `limit` and `period`", in.name)
	}
	if simple.Limit < 1 || simple.Period != 10 && simple.Period != 60 {
		return invalid(in.at+".simple", "The rate limit %s needs a limit of at least 1 and a period of 10 or 60 seconds.", in.name)
	}
	b.Limit, b.Period = simple.Limit, simple.Period
	return nil
}

// productBinding keeps what another product's type needs as the client sent it, and asks that product.
func (w *Workers) productBinding(ctx context.Context, accountID string, in *input, t product.BindingType) (spec.WorkerBinding, error) {
	b := spec.WorkerBinding{Name: in.name, Type: in.kind}
	for field, to := range map[string]*string{"namespace_id": &b.NamespaceID, "dataset": &b.Dataset} {
		s, err := in.text(field)
		if err != nil {
			return b, err
		}
		*to = s
	}
	extra := map[string]json.RawMessage{}
	for name, v := range in.fields {
		if name != "name" && name != "type" {
			extra[name] = v
		}
	}
	if len(extra) > 0 {
		text, err := json.Marshal(extra)
		if err != nil {
			return b, err
		}
		b.Extra = text
	}
	if t.Check == nil {
		return b, nil
	}
	if err := t.Check(ctx, accountID, &b); err != nil {
		return b, recoded(err)
	}
	return b, nil
}
