package isolate

import (
	"context"
	_ "embed" // for the scripts below
	"encoding/pem"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"selvage/engine/isolate/config"
	"selvage/foundation/fault"
)

//go:embed js/host.js
var hostScript []byte

//go:embed js/email.js
var emailModule string

// emailName is the module that the runtime's own "cloudflare:email" imports from its host.
const emailName = "cloudflare-internal:email"

// runtimeModules is how the names of modules begin that the runtime itself brings, such as D1's client.
const runtimeModules = "cloudflare-internal:"

// hostDate is the compatibility date of our own Workers: the first with RPC, as an old one starts sooner.
const hostDate = "2024-04-03"

// Names of the services of our own in a child. Programs and services have a prefix, so that they
// cannot take these.
const (
	hostService    = "host"
	runService     = "run"
	objectsService = "objects"
	deniedService  = "internet" // by this name the runtime makes no default one, which would load CAs

	programPrefix = "p:"
	servicePrefix = "s:"
)

// plan is what a child is made of: its configuration, and where what is addressed lies.
type plan struct {
	config  config.Config
	doors   map[door]int // number of the socket
	sockets int
	host    bool // has the dispatcher
}

// door is a program and the name of an entrypoint or door.
type door struct{ program, entry string }

// layout says how a child sees its directories.
type layout struct {
	run, objects string
	memory       int64 // of the heap, in bytes
}

func (l layout) service(i int) string { return l.run + "/s" + strconv.Itoa(i) }

func socketName(i int) string { return "d" + strconv.Itoa(i) }

const (
	hostSocket = "host"
	pingSocket = "ping"
)

// planner makes a plan of a unit.
type planner struct {
	unit    *Unit
	code    func(ctx context.Context, digest string) ([]byte, error)
	modules map[string]string // Options.Modules
	layout  layout
	plan    plan
	bound   []config.Binding // of our own Worker: the doors
	traces  []string         // services that get traces
}

// build returns the plan of a child of the unit; events asks for a dispatcher.
func (p *planner) build(ctx context.Context, events bool) (*plan, error) {
	c := &p.plan.config
	p.plan.doors = map[door]int{}
	// A small new space keeps the heap from growing far beyond what a script uses. Buffers that threads
	// free are not reused soon by the one that allocates: reading values of 1 MB takes 1 GB in the end.
	c.V8Flags = []string{"--max-heap-size=" + strconv.FormatInt(p.layout.memory>>20, 10), "--max-semi-space-size=2", "--no-concurrent-array-buffer-sweeping"}
	c.Modules = append(c.Modules, config.Extension{Name: emailName, Internal: true, Source: emailModule})
	c.Services = append(c.Services,
		config.Service{Name: deniedService, Network: &config.Network{}},
		config.Service{Name: runService, Disk: &config.Disk{Path: p.layout.run}})
	p.socket(pingSocket, config.Designator{Name: runService})
	for i, s := range p.unit.Services {
		c.Services = append(c.Services, config.Service{Name: servicePrefix + s.Name, External: p.external(i, &s)})
	}
	if p.unit.Objects != "" {
		c.Services = append(c.Services, config.Service{Name: objectsService, Disk: &config.Disk{Path: p.layout.objects, Writable: true}})
	}
	for i := range p.unit.Programs {
		if err := p.program(ctx, &p.unit.Programs[i]); err != nil {
			return nil, fmt.Errorf("program %q: %w", p.unit.Programs[i].Name, err)
		}
	}
	if events || len(p.traces) > 0 {
		p.host()
	}
	return &p.plan, nil
}

func (p *planner) external(i int, s *Service) *config.External {
	h := config.HTTP{Proxy: s.Proxy, CFHeader: CFHeader}
	if !s.Proxy {
		h.ProtoHeader = ProtoHeader
	}
	if s.RPC {
		h.RPCHost = RPCHost
		h.InjectResponse = []config.Header{{Name: markHeader, Remove: true}} // the callee's child sets it
	}
	return &config.External{Address: "unix:" + p.layout.service(i), HTTP: h}
}

func (p *planner) socket(name string, to config.Designator) {
	p.plan.sockets++
	p.plan.config.Sockets = append(p.plan.config.Sockets, config.Socket{
		Name: name, Address: "unix:" + p.layout.run + "/" + name, Service: to,
		HTTP: config.HTTP{Proxy: true, CFHeader: CFHeader, RPCHost: RPCHost, InjectResponse: []config.Header{{Name: markHeader, Value: "1"}}},
	})
}

func (p *planner) door(d door, to config.Designator) {
	i := len(p.plan.doors)
	p.plan.doors[d] = i
	p.socket(socketName(i), to)
	p.bound = append(p.bound, config.Binding{Name: socketName(i), Type: config.BindService, Service: to})
}

// host adds our own Worker.
func (p *planner) host() {
	p.plan.host = true
	w := &config.Worker{
		CompatibilityDate:  hostDate,
		CompatibilityFlags: []string{"service_binding_extra_handlers"},
		Modules:            []config.Module{{Name: "host.js", Type: config.ESModule, Body: hostScript}},
		Bindings:           p.bound,
	}
	for _, s := range p.traces {
		w.Bindings = append(w.Bindings, config.Binding{Name: servicePrefix + s, Type: config.BindService, Service: config.Designator{Name: servicePrefix + s}})
	}
	p.plan.config.Services = append(p.plan.config.Services, config.Service{Name: hostService, Worker: w})
	p.socket(hostSocket, config.Designator{Name: hostService})
}

func (p *planner) program(ctx context.Context, g *Program) error {
	w := &config.Worker{CompatibilityDate: g.CompatibilityDate, CompatibilityFlags: g.CompatibilityFlags}
	if err := p.load(ctx, g, w); err != nil {
		return err
	}
	for i := range g.Bindings {
		b, err := p.binding(&g.Bindings[i])
		if err != nil {
			return fmt.Errorf("binding %q: %w", g.Bindings[i].Name, err)
		}
		w.Bindings = append(w.Bindings, b)
	}
	w.Outbound = config.Designator{Name: deniedService}
	var err error
	if g.Outbound != "" {
		if w.Outbound, err = p.target(g.Outbound); err != nil {
			return err
		}
	}
	if g.Cache != "" {
		if w.Cache, err = p.target(g.Cache); err != nil {
			return err
		}
	}
	if g.Trace != "" {
		if err := p.trace(g, w); err != nil {
			return err
		}
	}
	for _, c := range g.Classes {
		w.Namespaces = append(w.Namespaces, config.Namespace{Class: c.Name, UniqueKey: c.Namespace, SQL: c.SQLite})
	}
	if len(g.Classes) > 0 {
		if p.unit.Objects == "" {
			return fault.New(fault.Invalid, "It has Durable Object classes, but its unit has no directory for objects.")
		}
		w.Storage = objectsService
	}
	name := programPrefix + g.Name
	p.plan.config.Services = append(p.plan.config.Services, config.Service{Name: name, Worker: w})
	p.door(door{g.Name, ""}, config.Designator{Name: name})
	for _, e := range g.Entrypoints {
		p.door(door{g.Name, e}, config.Designator{Name: name, Entrypoint: e})
	}
	for _, d := range g.Doors {
		p.door(door{g.Name, d.Name}, config.Designator{Name: name, Entrypoint: d.Entrypoint, Props: string(d.Props)})
	}
	return nil
}

// load fetches the code.
func (p *planner) load(ctx context.Context, g *Program, w *config.Worker) error {
	if len(g.Modules) == 0 {
		return fault.New(fault.Invalid, "It has no modules.")
	}
	for _, m := range g.Modules {
		body := m.source
		if body == nil {
			var err error
			if body, err = p.code(ctx, m.Digest); err != nil {
				return fmt.Errorf("load module %q: %w", m.Name, err)
			}
		}
		if g.ServiceWorker {
			w.Script = append([]byte{}, body...)
			return nil
		}
		kind, ok := moduleTypes[m.Type]
		if !ok {
			return fault.New(fault.Invalid, "Module %q has the type %q, which is not known.", m.Name, m.Type)
		}
		w.Modules = append(w.Modules, config.Module{Name: m.Name, Type: kind, Body: body})
	}
	return nil
}

var moduleTypes = map[string]config.ModuleType{
	"esm": config.ESModule, "cjs": config.CommonJS, "text": config.Text, "data": config.Data,
	"wasm": config.Wasm, "json": config.JSON, "python": config.Python,
}

func (p *planner) trace(g *Program, w *config.Worker) error {
	to, err := p.target(g.Trace)
	if err != nil {
		return err
	}
	if !slices.Contains(p.traces, g.Trace) {
		p.traces = append(p.traces, g.Trace)
	}
	w.Tails = []config.Designator{{Name: hostService, Entrypoint: "Trace",
		Props: mustJSON(map[string]string{"out": to.Name, "script": g.Name, "version": g.Version})}}
	return nil
}

// target finds a service by the name that a program uses.
func (p *planner) target(name string) (config.Designator, error) {
	for _, s := range p.unit.Services {
		if s.Name == name {
			return config.Designator{Name: servicePrefix + name}, nil
		}
	}
	for i := range p.unit.Programs {
		if p.unit.Programs[i].Name == name {
			return config.Designator{Name: programPrefix + name}, nil
		}
	}
	return config.Designator{}, fault.New(fault.Invalid, "It uses the service %q, which its unit does not have.", name)
}

var serviceBindings = map[BindingKind]config.BindingType{
	Fetcher: config.BindService, KV: config.BindKV, R2: config.BindR2, Queue: config.BindQueue, Analytics: config.BindAnalytics,
	Hyperdrive: config.BindHyperdrive,
}

func (p *planner) binding(b *Binding) (config.Binding, error) {
	out := config.Binding{Name: b.Name}
	switch b.Kind {
	case Text:
		out.Type, out.Text = config.BindText, b.Text
	case JSON:
		out.Type, out.Text = config.BindJSON, b.Text
	case Data:
		out.Type, out.Data = config.BindData, b.Data
	case Wasm:
		out.Type, out.Data = config.BindWasm, b.Data
	case Key:
		key, err := cryptoKey(b.Key)
		out.Type, out.Key = config.BindKey, key
		return out, err
	case Objects:
		out.Type, out.Class, out.Of = config.BindObjects, b.Class, programPrefix+b.Program
	case Wrapped:
		return p.wrapped(b)
	default:
		kind, ok := serviceBindings[b.Kind]
		if !ok {
			return out, fault.New(fault.Invalid, "Bindings of the kind %q are not known.", b.Kind)
		}
		to, err := p.target(b.Service)
		to.Entrypoint, to.Props = b.Entry, b.Props
		out.Type, out.Service = kind, to
		if b.Kind == Hyperdrive {
			if b.Login == nil {
				return out, fault.New(fault.Invalid, "The login is missing.")
			}
			out.Login = &config.Login{Scheme: b.Login.Scheme, Database: b.Login.Database, User: b.Login.User, Password: b.Login.Password}
		}
		return out, err
	}
	return out, nil
}

// wrapped adds the module to the configuration, once.
func (p *planner) wrapped(b *Binding) (config.Binding, error) {
	name, builtIn := b.Wrapper, strings.HasPrefix(b.Wrapper, runtimeModules)
	source, ok := p.modules[b.Wrapper]
	if !ok && !builtIn {
		return config.Binding{}, fault.New(fault.Invalid, "There is no module %q to wrap it.", b.Wrapper)
	}
	if !builtIn {
		name = "selvage-internal:" + b.Wrapper
	}
	c := &p.plan.config
	if !builtIn && !slices.ContainsFunc(c.Modules, func(e config.Extension) bool { return e.Name == name }) {
		c.Modules = append(c.Modules, config.Extension{Name: name, Internal: true, Source: source})
	}
	out := config.Binding{Name: b.Name, Type: config.BindWrapped, Module: name}
	for i := range b.Inner {
		inner, err := p.binding(&b.Inner[i])
		if err != nil {
			return out, err
		}
		out.Inner = append(out.Inner, inner)
	}
	return out, nil
}

func cryptoKey(k *CryptoKey) (*config.Key, error) {
	if k == nil {
		return nil, fault.New(fault.Invalid, "The key is missing.")
	}
	out := &config.Key{Data: k.Data, Algorithm: string(k.Algorithm), Usages: k.Usages}
	switch k.Format {
	case "raw":
		out.Format = config.KeyRaw
	case "pkcs8":
		out.Format, out.Data = config.KeyPKCS8, asPEM("PRIVATE KEY", k.Data)
	case "spki":
		out.Format, out.Data = config.KeySPKI, asPEM("PUBLIC KEY", k.Data)
	case "jwk":
		out.Format = config.KeyJWK
	default:
		return nil, fault.New(fault.Invalid, "Keys have the format raw, pkcs8, spki or jwk, not %q.", k.Format)
	}
	return out, nil
}

// asPEM wraps DER, which the API takes, as the runtime wants it; what is PEM already stays.
func asPEM(kind string, data []byte) []byte {
	if block, _ := pem.Decode(data); block != nil {
		return data
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data})
}
