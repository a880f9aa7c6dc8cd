package workers

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"selvage/edge"
	"selvage/engine/isolate"
	"selvage/product"
	"selvage/spec"
)

// defaultCPU is what a request may use where the version says nothing, as in Cloudflare's paid plans.
const defaultCPU = 30 * time.Second

// Scripts without Durable Objects are a unit of their own for each version. All scripts of an account
// that have or use objects share one unit, for objects are found by scripts of the same child.

// hasObjects tells whether a version has to live in the account's unit of objects.
func hasObjects(a *spec.AccountWorkers, v *spec.WorkerVersion) bool {
	for _, n := range a.Namespaces {
		if n.Script == v.Script {
			return true
		}
	}
	return slices.ContainsFunc(v.Bindings, func(b spec.WorkerBinding) bool { return b.Type == "durable_object_namespace" })
}

func unitKey(a *spec.AccountWorkers, v *spec.WorkerVersion) string {
	if hasObjects(a, v) {
		return objectsKey(v.AccountID)
	}
	return v.AccountID + "/" + v.Script + "/" + v.ID
}

func objectsKey(accountID string) string { return accountID + "/objects" }

// tracedSuffix marks the key of a unit that is a stateless version with traces: it runs while
// somebody watches, for making traces halves what a child can do.
const tracedSuffix = "/traced"

// programName names a version's program in the unit of objects. The version with the larger share is
// the script itself: it holds the objects of both.
func programName(a *spec.AccountWorkers, v *spec.WorkerVersion) string {
	if holder := holderOf(a, v.Script); holder == nil || holder.ID == v.ID {
		return v.Script
	}
	return v.Script + "@" + v.ID
}

// holderOf returns the version whose classes a script's objects are made of: the one in force that
// has the larger share.
func holderOf(a *spec.AccountWorkers, name string) *spec.WorkerVersion {
	s := a.Scripts[name]
	if s == nil {
		return nil
	}
	var best *spec.WorkerVersion
	most := -1.0
	for _, share := range s.Deployment.Versions {
		if v := a.Versions[share.VersionID]; v != nil && share.Percentage > most {
			best, most = v, share.Percentage
		}
	}
	return best
}

// units returns the units of an account that should be there, by key, and in them those that are
// asked of beside what is deployed.
func (w *Workers) units(accountID string, a *spec.AccountWorkers) (map[string]isolate.Unit, error) {
	units := map[string]isolate.Unit{}
	var faults []error
	objects := isolate.Unit{Key: objectsKey(accountID), Tenant: accountID, Objects: filepath.Join(w.o.ObjectsDir, accountID)}
	for _, name := range slices.Sorted(maps.Keys(a.Scripts)) {
		if old := w.before(a, a.Scripts[name]); old != nil {
			u, err := w.unitOf(a, old.spec, false)
			faults = append(faults, err)
			units[u.Key] = u
		}
		for _, share := range a.Scripts[name].Deployment.Versions {
			v := a.Versions[share.VersionID]
			if v == nil || v.Main == "" {
				continue
			}
			if !hasObjects(a, v) {
				for _, traced := range []bool{false, true}[:1+count(w.watched(v))] {
					u, err := w.unitOf(a, v, traced)
					faults = append(faults, err)
					units[u.Key] = u
				}
				continue
			}
			p, services, err := w.program(a, v, true)
			faults = append(faults, err)
			objects.Programs = append(objects.Programs, p)
			objects.Services = append(objects.Services, services...)
		}
	}
	if len(objects.Programs) > 0 {
		units[objects.Key] = objects
	}
	return units, errors.Join(faults...)
}

// unitOf returns the unit of one stateless version.
func (w *Workers) unitOf(a *spec.AccountWorkers, v *spec.WorkerVersion, traced bool) (isolate.Unit, error) {
	u := isolate.Unit{Key: unitKey(a, v), Tenant: v.AccountID}
	if traced {
		u.Key += tracedSuffix
	}
	p, services, err := w.program(a, v, traced)
	u.Programs, u.Services = []isolate.Program{p}, services
	return u, err
}

func (w *Workers) watched(v *spec.WorkerVersion) bool { return w.o.Tail.Watched(v.AccountID, v.Script) }

// address says where a version's requests go.
func (w *Workers) address(v *version) isolate.Address {
	unit := v.unit
	if !v.traced && w.watched(v.spec) {
		// Whoever begins to watch is heard of a moment before the unit is there.
		if _, there := w.tracing.Load(unit + tracedSuffix); there {
			unit += tracedSuffix
		}
	}
	return isolate.Address{Unit: unit, Program: v.name}
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// program makes a version ready for the engine, with the services it reaches. The names of services
// carry the program's, for a unit may have several.
func (w *Workers) program(a *spec.AccountWorkers, v *spec.WorkerVersion, traced bool) (isolate.Program, []isolate.Service, error) {
	p := isolate.Program{
		Name: v.Script, Version: v.ID, CPU: defaultCPU, ServiceWorker: v.ServiceWorker,
		CompatibilityDate: v.CompatibilityDate, CompatibilityFlags: v.CompatibilityFlags,
	}
	if v.CPUMs > 0 {
		p.CPU = time.Duration(v.CPUMs) * time.Millisecond
	}
	if hasObjects(a, v) {
		p.Name = programName(a, v)
	}
	for _, m := range v.Modules {
		p.Modules = append(p.Modules, isolate.Module{Name: m.Name, Type: m.Type, Digest: m.Digest})
	}
	slices.SortStableFunc(p.Modules, func(x, y isolate.Module) int { return last(x.Name != v.Main, y.Name != v.Main) })
	for _, n := range v.NamedHandlers {
		if n.Kind == "entrypoint" {
			p.Entrypoints = append(p.Entrypoints, n.Name)
		}
	}
	p.Doors = doorsOf(a, v.Script)
	if p.Name == v.Script {
		for _, n := range a.Namespaces {
			if n.Script == v.Script {
				p.Classes = append(p.Classes, isolate.Class{Name: n.Class, Namespace: n.ID, SQLite: n.SQLite})
			}
		}
		slices.SortFunc(p.Classes, func(x, y isolate.Class) int { return last(x.Namespace > y.Namespace, y.Namespace > x.Namespace) })
	}
	b := binder{w: w, account: a, version: v, program: &p, unit: unitKey(a, v)}
	if traced && !hasObjects(a, v) {
		b.unit += tracedSuffix
	}
	b.common(traced)
	for i := range v.Bindings {
		if err := b.bind(&v.Bindings[i]); err != nil {
			b.faults = append(b.faults, err)
		}
	}
	return p, b.services, errors.Join(b.faults...)
}

// doorsOf returns the ways into a script that service bindings of the account's other scripts need
// beside its entrypoints: those with props, which the callee's side has to know.
func doorsOf(a *spec.AccountWorkers, callee string) []isolate.Door {
	var doors []isolate.Door
	for _, s := range a.Scripts {
		for _, share := range s.Deployment.Versions {
			v := a.Versions[share.VersionID]
			if v == nil {
				continue
			}
			for i := range v.Bindings {
				if b := &v.Bindings[i]; b.Type == "service" && b.Service == callee && len(b.Props) > 0 {
					doors = append(doors, isolate.Door{Name: doorName(v, b), Entrypoint: b.Entrypoint, Props: b.Props})
				}
			}
		}
	}
	slices.SortFunc(doors, func(x, y isolate.Door) int { return strings.Compare(x.Name, y.Name) })
	return doors
}

// doorName is unique to a binding of a version; no export is called so.
func doorName(v *spec.WorkerVersion, b *spec.WorkerBinding) string { return v.ID + " " + b.Name }

// binder gives a program its bindings and services.
type binder struct {
	w        *Workers
	account  *spec.AccountWorkers
	version  *spec.WorkerVersion
	program  *isolate.Program
	unit     string // that the program is of
	counted  func(edge.Handler) edge.Handler
	services []isolate.Service
	faults   []error
}

// serve adds a service and returns its name.
func (b *binder) serve(name string, s isolate.Service) string {
	s.Name = b.program.Name + "." + name
	b.services = append(b.services, s)
	return s.Name
}

// bind adds one binding of the version.
func (b *binder) bind(s *spec.WorkerBinding) error {
	if t, ok := b.w.o.Bindings[s.Type]; ok {
		user := product.BindingUser{AccountID: b.version.AccountID, Script: b.version.Script}
		service := b.serve("bind."+s.Name, b.external(t, user, s))
		if t.Kind == isolate.Wrapped {
			b.add(isolate.Binding{Name: s.Name, Kind: isolate.Wrapped, Wrapper: t.Wrapper, Inner: []isolate.Binding{
				{Name: "fetcher", Kind: isolate.Fetcher, Service: service},
			}})
			return nil
		}
		made := isolate.Binding{Name: s.Name, Kind: t.Kind, Service: service}
		if t.Login != nil {
			login := t.Login(user, s)
			made.Login = &login
		}
		b.add(made)
		return nil
	}
	switch s.Type {
	case "plain_text":
		b.add(isolate.Binding{Name: s.Name, Kind: isolate.Text, Text: s.Text})
	case "json":
		b.add(isolate.Binding{Name: s.Name, Kind: isolate.JSON, Text: string(s.JSON)})
	case "secret_text", "secret_key":
		return b.secret(s)
	case "version_metadata":
		b.add(isolate.Binding{Name: s.Name, Kind: isolate.JSON, Text: b.metadata()})
	case "service":
		b.add(isolate.Binding{Name: s.Name, Kind: isolate.Fetcher, Service: b.serve("service."+s.Name, b.relay(s))})
	case "durable_object_namespace":
		b.objects(s)
	case "assets":
		b.add(isolate.Binding{Name: s.Name, Kind: isolate.Fetcher, Service: b.serve("assets", b.assets())})
	case "ratelimit":
		return b.rateLimit(s)
	case "wasm_module", "text_blob", "data_blob":
		return b.part(s)
	}
	return nil
}

func (b *binder) add(made isolate.Binding) { b.program.Bindings = append(b.program.Bindings, made) }

// metadata is the value of a version_metadata binding.
func (b *binder) metadata() string {
	data, err := json.Marshal(map[string]string{
		"id": b.version.ID, "tag": b.version.Annotations["workers/tag"], "timestamp": b.version.CreatedOn.UTC().Format(time.RFC3339Nano),
	})
	if err != nil {
		return "{}" // cannot be: strings
	}
	return string(data)
}

// objects binds a namespace. Its class is exported by the version that holds the script's objects.
func (b *binder) objects(s *spec.WorkerBinding) {
	script, class := s.ScriptName, s.ClassName
	if script == "" {
		script = b.version.Script
	}
	// The namespace knows better than the binding: its script may have renamed or transferred the class.
	if n := b.account.Namespaces[s.NamespaceID]; n != nil {
		script, class = n.Script, n.Class
	}
	b.add(isolate.Binding{Name: s.Name, Kind: isolate.Objects, Program: script, Class: class})
}

// part binds a module of a service-worker script.
func (b *binder) part(s *spec.WorkerBinding) error {
	for _, m := range b.version.Modules {
		if m.Name != s.Part {
			continue
		}
		data, err := b.w.o.Blobs.Read(m.Digest, m.Size)
		if err != nil {
			return err
		}
		switch s.Type {
		case "wasm_module":
			b.add(isolate.Binding{Name: s.Name, Kind: isolate.Wasm, Data: data})
		case "text_blob":
			b.add(isolate.Binding{Name: s.Name, Kind: isolate.Text, Text: string(data)})
		default:
			b.add(isolate.Binding{Name: s.Name, Kind: isolate.Data, Data: data})
		}
		b.program.Modules = slices.DeleteFunc(b.program.Modules, func(p isolate.Module) bool { return p.Name == m.Name })
	}
	return nil
}

// secret opens a sealed value for the child.
func (b *binder) secret(s *spec.WorkerBinding) error {
	plain, err := b.w.o.Seal.Open(s.Sealed, secretContext(b.version.AccountID, b.version.Script, s.Name))
	if err != nil {
		return err
	}
	if s.Type == "secret_key" {
		var key isolate.CryptoKey
		if err := json.Unmarshal(plain, &key); err != nil {
			return err
		}
		b.add(isolate.Binding{Name: s.Name, Kind: isolate.Key, Key: &key})
		return nil
	}
	b.add(isolate.Binding{Name: s.Name, Kind: isolate.Text, Text: string(plain)})
	return nil
}

// settle waits until the versions in force of a script answer on this node. Its error says which
// does not start, and why.
func (w *Workers) settle(ctx context.Context, accountID, name string) error {
	s := w.current.Load().find(accountID, name)
	if s == nil {
		return nil
	}
	for _, sh := range s.shares {
		if sh.version.spec.Main == "" {
			continue
		}
		if err := w.host.Start(ctx, w.address(sh.version).Unit); err != nil {
			return err
		}
	}
	return nil
}

// inspect starts a draft once and tells what it exports, or why it does not start.
func (w *Workers) inspect(ctx context.Context, draft *spec.WorkerVersion) (isolate.Exports, error) {
	p, _, err := w.program(w.o.State.Snapshot().WorkersOf(draft.AccountID), draft, false)
	if err != nil {
		return isolate.Exports{}, err
	}
	return w.host.Inspect(ctx, p)
}
