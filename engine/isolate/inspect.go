package isolate

import (
	"context"
	_ "embed" // for the probes
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
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
	u := newUnit(h, content, "")
	u.probing = true
	c, err := u.bear(ctx, content, false)
	if err != nil {
		return Exports{}, probeError(err, &p)
	}
	defer c.retire(0)
	if p.Modules[0].Type == "python" {
		return Exports{Handlers: []string{"fetch"}, Startup: c.took}, nil
	}
	exports, err := c.exports(ctx, p.Name)
	exports.Startup = c.took
	return exports, err
}

// probeError returns err with places as they are in the program: a script's first line had the probe
// before it.
func probeError(err error, p *Program) error {
	var stopped *Stopped
	if !p.ServiceWorker || !errors.As(err, &stopped) {
		return err
	}
	out := *stopped
	out.Detail = firstLine.ReplaceAllStringFunc(stopped.Detail, func(place string) string {
		at := strings.LastIndexByte(place, ':') + 1
		column, err := strconv.Atoi(place[at:])
		if err != nil || column <= len(scriptPrefix()) {
			return place
		}
		return place[:at] + strconv.Itoa(column-len(scriptPrefix()))
	})
	return &out
}

var firstLine = regexp.MustCompile(`:1:\d+`)

func scriptPrefix() string { return strings.TrimSpace(scriptProbe) }

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
		p.Modules[0].source = append([]byte(scriptPrefix()), code...)
	} else if p.Modules[0].Type != "python" {
		source := strings.ReplaceAll(probe, `"MAIN"`, mustJSON("./"+p.Modules[0].Name))
		p.Modules = slices.Insert(p.Modules, 0, Module{Name: probeName, Type: "esm", source: []byte(source)})
	}
	p.Classes, p.Entrypoints, p.Doors, p.Trace = nil, nil, nil, ""
	p.Bindings = slices.DeleteFunc(slices.Clone(p.Bindings), func(b Binding) bool { return b.Kind == Objects })
	for i := range p.Bindings {
		if p.Bindings[i].Kind == Analytics {
			p.Bindings[i].Kind = Fetcher // the runtime calls the other one experimental
		}
	}
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
