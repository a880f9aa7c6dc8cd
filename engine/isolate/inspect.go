package isolate

import (
	"context"
	_ "embed" // for the probes
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"selvage/engine/isolate/wire"
)

//go:embed js/probe.js
var probe string

//go:embed js/probe-script.js
var scriptProbe string

const (
	probeName    = "selvage-probe.js"
	inspectLimit = 10 * time.Second
	maxExports   = 1 << 20 // bytes of what a probe answers
)

// Inspect starts a program once, in a child of its own that reaches nothing, and returns what it
// exports. If it does not start the error is *Stopped with ReasonStart and the runtime's words.
func (h *Host) Inspect(ctx context.Context, p Program) (Exports, error) {
	ctx, cancel := context.WithTimeout(ctx, inspectLimit)
	defer cancel()
	content, err := h.probed(ctx, p)
	if err != nil {
		return Exports{}, err
	}
	began := time.Now()
	c, err := newUnit(h, content, "").bear(ctx, content, false)
	if err != nil {
		return Exports{}, err
	}
	took := time.Since(began)
	defer c.retire(0)
	exports, err := c.exports(ctx, p.Name)
	exports.Startup = took
	return exports, err
}

// exports asks the probe.
func (c *child) exports(ctx context.Context, program string) (Exports, error) {
	resp, err := c.doors[door{program, ""}].Do(ctx, &wire.Request{
		Method: "GET", Scheme: "http", Host: "probe", Target: "/", Header: func(func(string, string) bool) {},
	})
	if err != nil {
		if stopped := c.fate(); stopped != nil {
			return Exports{}, &Stopped{Reason: ReasonStart, Culprit: true, Detail: stopped.Detail}
		}
		return Exports{}, fmt.Errorf("ask for exports: %w", err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxExports))
	if err != nil {
		return Exports{}, fmt.Errorf("read exports: %w", err)
	}
	if !resp.Marked {
		return Exports{}, &Stopped{Reason: ReasonStart, Culprit: true, Detail: "The exports of the main module cannot be read: " + lastLine(c.p.said.String())}
	}
	var exports Exports
	if err := json.Unmarshal(answer, &exports); err != nil {
		return Exports{}, fmt.Errorf("read exports: %w", err)
	}
	return exports, nil
}

// probed returns a unit in which a probe stands before the program, and nothing before its services.
func (h *Host) probed(ctx context.Context, p Program) (*Unit, error) {
	unit := &Unit{Key: "inspect " + p.Name}
	if len(p.Modules) == 0 {
		return nil, &Stopped{Reason: ReasonStart, Culprit: true, Detail: "The script has no modules."}
	}
	p.Modules = slices.Clone(p.Modules)
	if p.ServiceWorker {
		code, err := h.o.Code(ctx, p.Modules[0].Digest)
		if err != nil {
			return nil, fmt.Errorf("load module %q: %w", p.Modules[0].Name, err)
		}
		p.Modules[0].source = append([]byte(strings.TrimSpace(scriptProbe)), code...)
	} else {
		source := strings.ReplaceAll(probe, `"MAIN"`, mustJSON(p.Modules[0].Name))
		p.Modules = slices.Insert(p.Modules, 0, Module{Name: probeName, Type: "esm", source: []byte(source)})
	}
	p.Classes, p.Entrypoints, p.Doors, p.Trace = nil, nil, nil, ""
	p.Bindings = slices.DeleteFunc(slices.Clone(p.Bindings), func(b Binding) bool { return b.Kind == Objects })
	for _, name := range servicesOf(&p) {
		unit.Services = append(unit.Services, Service{Name: name, Serve: refuseAll})
	}
	unit.Programs = []Program{p}
	return unit, nil
}

// servicesOf returns the names of the services that a program uses.
func servicesOf(p *Program) []string {
	names := []string{p.Outbound, p.Cache}
	var add func(list []Binding)
	add = func(list []Binding) {
		for i := range list {
			names = append(names, list[i].Service)
			add(list[i].Inner)
		}
	}
	add(p.Bindings)
	slices.Sort(names)
	names = slices.Compact(names)
	return slices.DeleteFunc(names, func(n string) bool { return n == "" })
}

// refuseAll serves nothing.
func refuseAll(ctx context.Context, l net.Listener) {
	defer l.Close()
	<-ctx.Done()
}
