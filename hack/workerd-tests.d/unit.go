package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"selvage/engine/isolate"
	"selvage/product/workers/outbound"
)

const (
	tenant = "0123456789abcdef0123456789abcdef"
	tests  = "SelvageTests" // the driver's entrypoint
)

// maker makes a unit of a configuration.
type maker struct {
	stage   *stage
	config  map[string]any
	unit    isolate.Unit
	workers []string          // names of services that are Workers, and run tests
	loops   map[string]target // external services that come back to a Worker of the unit
	tails   []string          // services that get traces
	notes   []string          // what of the configuration has no counterpart and was left out
}

// target is a Worker and an entrypoint of it.
type target struct{ worker, entry string }

// errNoCounterpart tells that a configuration uses what no script here is given.
type errNoCounterpart string

func (e errNoCounterpart) Error() string { return string(e) }

func no(what string, args ...any) error { return errNoCounterpart(fmt.Sprintf(what, args...)) }

func str(v any) string {
	s, _ := v.(string)
	return s
}

func records(v any) []map[string]any {
	list, _ := v.([]any)
	var out []map[string]any
	for _, e := range list {
		if r, ok := e.(map[string]any); ok {
			out = append(out, r)
		}
	}
	return out
}

// make returns the unit of a configuration.
func (m *maker) make(key, objects string) error {
	m.unit = isolate.Unit{Key: key, Tenant: tenant}
	m.loops = map[string]target{}
	m.unit.Services = append(m.unit.Services,
		isolate.Service{Name: "egress", Proxy: true, Serve: m.stage.out.Egress(m.stage.caller)},
		isolate.Service{Name: "cache", Serve: m.stage.out.Cache(m.stage.caller)})
	if len(records(m.config["extensions"])) > 0 {
		m.notes = append(m.notes, "extensions")
	}
	if f, ok := m.config["v8Flags"].([]any); ok && len(f) > 0 {
		m.notes = append(m.notes, "v8Flags")
	}
	if f, ok := m.config["autogates"].([]any); ok && len(f) > 0 {
		m.notes = append(m.notes, "autogates")
	}
	m.doors()
	for _, s := range records(m.config["services"]) {
		if w, ok := s["worker"].(map[string]any); ok {
			for _, kind := range []string{"tails", "streamingTails"} {
				for _, t := range list(w[kind]) {
					m.tails = append(m.tails, designator(t).worker)
				}
			}
		}
	}
	for _, s := range records(m.config["services"]) {
		if err := m.service(str(s["name"]), s); err != nil {
			return err
		}
	}
	if len(m.workers) == 0 {
		return no("no Worker with modules")
	}
	for i := range m.unit.Programs {
		if len(m.unit.Programs[i].Classes) > 0 {
			m.unit.Objects = objects
		}
	}
	return nil
}

func list(v any) []any {
	l, _ := v.([]any)
	return l
}

// doors notes the addresses at which Workers listen for themselves.
func (m *maker) doors() {
	for _, s := range records(m.config["sockets"]) {
		if at := str(s["address"]); strings.HasPrefix(at, "loopback:") {
			m.loops[at] = designator(s["service"])
		}
	}
}

func designator(v any) target {
	if r, ok := v.(map[string]any); ok {
		return target{str(r["name"]), str(r["entrypoint"])}
	}
	return target{str(v), ""}
}

func (m *maker) service(name string, s map[string]any) error {
	if w, ok := s["worker"].(map[string]any); ok {
		if slices.Contains(m.tails, name) {
			m.notes = append(m.notes, "tails")
			return nil
		}
		return m.worker(name, w)
	}
	if e, ok := s["external"].(map[string]any); ok {
		to, ok := m.loops[str(e["address"])]
		if !ok {
			return no("a service at %s", str(e["address"]))
		}
		m.relay(name, to)
		return nil
	}
	return nil // disks and networks: who uses them is found by their bindings
}

// relay adds a service through which Workers of the unit reach each other as scripts of an account do.
func (m *maker) relay(name string, to target) {
	at := isolate.Address{Unit: m.unit.Key, Program: to.worker, Entrypoint: to.entry}
	m.unit.Services = append(m.unit.Services, isolate.Service{Name: name, RPC: true,
		Serve: m.stage.out.Relay(m.stage.caller, to.worker, func(context.Context) (isolate.Address, error) { return at, nil }, m.stage.host)})
}

// taken are the fields of a Worker that have a counterpart, or change nothing of what a test sees.
var taken = []string{"modules", "compatibilityFlags", "compatibilityDate", "bindings", "durableObjectNamespaces", "durableObjectStorage", "tails", "streamingTails", "globalOutbound", "cacheApiOutbound", "durableObjectUniqueKeyModifier"}

func (m *maker) worker(name string, w map[string]any) error {
	for field := range w {
		if !slices.Contains(taken, field) {
			return no("the field %s of a Worker", field)
		}
	}
	p := isolate.Program{Name: name, CompatibilityDate: date, Outbound: "egress", Cache: "cache", Entrypoints: []string{tests}}
	if d := str(w["compatibilityDate"]); d != "" {
		p.CompatibilityDate = d
	}
	for _, f := range list(w["compatibilityFlags"]) {
		p.CompatibilityFlags = append(p.CompatibilityFlags, str(f))
	}
	for _, n := range records(w["durableObjectNamespaces"]) {
		if n["uniqueKey"] == nil {
			return no("Durable Objects that are not stored")
		}
		p.Classes = append(p.Classes, isolate.Class{Name: str(n["className"]), Namespace: str(n["uniqueKey"]), SQLite: n["enableSql"] == word("true")})
	}
	if to := designator(w["globalOutbound"]).worker; to != "" && to != "internet" {
		p.Outbound = to
	}
	if to := designator(w["cacheApiOutbound"]).worker; to != "" {
		p.Cache = to
	}
	if err := m.modules(&p, w); err != nil {
		return err
	}
	for _, b := range records(w["bindings"]) {
		bound, err := m.binding(name, b)
		if err != nil {
			return err
		}
		p.Bindings = append(p.Bindings, bound)
	}
	for _, to := range m.loops {
		if to.worker == name && to.entry != "" && !slices.Contains(p.Entrypoints, to.entry) {
			p.Entrypoints = append(p.Entrypoints, to.entry)
		}
	}
	m.workers = append(m.workers, name)
	m.unit.Programs = append(m.unit.Programs, p)
	return nil
}

var moduleKinds = map[string]string{"esModule": "esm", "commonJsModule": "cjs", "text": "text", "data": "data", "wasm": "wasm", "json": "json"}

var hasDefault = regexp.MustCompile(`(?m)^\s*export\s+default\b|\bas\s+default\b`)

// modules adds the modules, and the driver before them.
func (m *maker) modules(p *isolate.Program, w map[string]any) error {
	for i, mod := range records(w["modules"]) {
		kind, body := "", []byte(nil)
		for field, v := range mod {
			k, ok := moduleKinds[field]
			switch {
			case field == "name":
			case !ok || field == "commonJsModule" && i == 0:
				return no("modules of the kind %s", field)
			default:
				kind = k
				if f, ok := v.(file); ok {
					body = f.body
				} else {
					body = []byte(str(v))
				}
			}
		}
		if i == 0 {
			source := strings.ReplaceAll(driver, `"MAIN"`, quote("./"+str(mod["name"])))
			if hasDefault.Match(body) {
				source = strings.ReplaceAll(source, "/*DEFAULT*/", "export { default } from "+quote("./"+str(mod["name"]))+";")
			}
			p.Modules = append(p.Modules, isolate.Module{Name: "selvage-tests.js", Type: "esm", Digest: m.stage.put([]byte(source))})
		}
		p.Modules = append(p.Modules, isolate.Module{Name: str(mod["name"]), Type: kind, Digest: m.stage.put(body)})
	}
	if len(p.Modules) == 0 {
		return no("a Worker without modules")
	}
	return nil
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings can be written
	}
	return string(b)
}

var clients = map[string]isolate.BindingKind{
	"service": isolate.Fetcher, "kvNamespace": isolate.KV, "r2Bucket": isolate.R2, "queue": isolate.Queue, "analyticsEngine": isolate.Analytics,
}

func (m *maker) binding(self string, b map[string]any) (isolate.Binding, error) {
	out := isolate.Binding{Name: str(b["name"])}
	for field, v := range b {
		if kind, ok := clients[field]; ok {
			out.Kind = kind
			to := designator(v)
			out.Service, out.Entry = to.worker, to.entry
			if r, ok := v.(map[string]any); ok {
				if props, ok := r["props"].(map[string]any); ok {
					out.Props = str(props["json"])
				}
			}
			if !m.there(out.Service) {
				return out, no("a binding to the service %s", out.Service)
			}
			continue
		}
		switch field {
		case "name":
		case "text":
			out.Kind, out.Text = isolate.Text, text(v)
		case "json":
			out.Kind, out.Text = isolate.JSON, text(v)
		case "data":
			out.Kind, out.Data = isolate.Data, []byte(text(v))
		case "wasmModule":
			out.Kind, out.Data = isolate.Wasm, []byte(text(v))
		case "durableObjectNamespace":
			to := target{self, str(v)}
			if r, ok := v.(map[string]any); ok {
				if to.entry = str(r["className"]); str(r["serviceName"]) != "" {
					to.worker = str(r["serviceName"])
				}
			}
			out.Kind, out.Program, out.Class = isolate.Objects, to.worker, to.entry
		default:
			return out, no("bindings of the kind %s", field)
		}
	}
	return out, nil
}

func text(v any) string {
	if f, ok := v.(file); ok {
		return string(f.body)
	}
	return str(v)
}

// there tells whether a service is a Worker of the unit or comes back to one.
func (m *maker) there(name string) bool {
	for _, s := range records(m.config["services"]) {
		if str(s["name"]) == name && !slices.Contains(m.tails, name) {
			return s["worker"] != nil || s["external"] != nil
		}
	}
	return false
}

// put keeps code and returns its digest.
func (s *stage) put(body []byte) string {
	sum := sha256.Sum256(body)
	digest := hex.EncodeToString(sum[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code[digest] = body
	return digest
}

func (s *stage) get(_ context.Context, digest string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b, ok := s.code[digest]; ok {
		return b, nil
	}
	return nil, errors.New("no such code")
}

var _ outbound.Host = (*isolate.Host)(nil)
