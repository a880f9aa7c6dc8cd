package workers

import (
	"context"
	"encoding/json"
	"errors"
	"path"
	"strings"

	"selvage/edge"
	"selvage/engine/isolate"
	"selvage/foundation/fault"
)

// What follows is what a tail.Hub asks about the scripts whose traces it takes in.

// Exists tells whether an account has a script.
func (w *Workers) Exists(accountID, name string) bool {
	return w.current.Load().find(accountID, name) != nil
}

// Annotations returns the tag and message that a version was uploaded with.
func (w *Workers) Annotations(accountID, versionID string) (tag, message string) {
	v := w.current.Load().from.WorkersOf(accountID).Versions[versionID]
	if v == nil {
		return "", ""
	}
	return v.Annotations["workers/tag"], v.Annotations["workers/message"]
}

// SourceMap returns the source map of a module of a version, or nil if none was uploaded. Maps are
// called as their module with .map at the end, and may lie elsewhere.
func (w *Workers) SourceMap(accountID, versionID, module string) ([]byte, error) {
	v := w.current.Load().from.WorkersOf(accountID).Versions[versionID]
	if v == nil {
		return nil, nil
	}
	for _, m := range v.SourceMaps {
		if m.Name == module+".map" || path.Base(m.Name) == path.Base(module)+".map" {
			return w.o.Blobs.Read(m.Digest, m.Size)
		}
	}
	return nil, nil
}

// TailConsumers names the scripts that get the traces of a script.
func (w *Workers) TailConsumers(accountID, name string) []string {
	s := w.current.Load().find(accountID, name)
	if s == nil {
		return nil
	}
	var names []string
	for _, c := range s.worker.TailConsumers {
		names = append(names, c.Service)
	}
	return names
}

// Deliver hands traces to the tail handler of a consumer.
func (w *Workers) Deliver(ctx context.Context, accountID, consumer string, items json.RawMessage) error {
	s := w.current.Load().find(accountID, consumer)
	if s == nil || len(s.shares) == 0 {
		return fault.New(fault.NotFound, "The tail consumer %s is not deployed.", consumer)
	}
	out, err := w.host.Dispatch(ctx, w.address(s.pick(nil).version), isolate.Event{Traces: items})
	if err != nil {
		return err
	}
	if out.Outcome != "ok" {
		return errors.New("the tail handler of " + consumer + " ended with " + out.Outcome)
	}
	return nil
}

// Failed tells those who watch the scripts of a unit that it does not start.
func (w *Workers) Failed(u *isolate.Unit, why *isolate.Stopped) {
	now := w.o.Clock.Now().UnixMilli()
	for i := range u.Programs {
		name, _, _ := strings.Cut(u.Programs[i].Name, "@")
		item, err := json.Marshal(map[string]any{
			"outcome": "exception", "scriptName": name, "eventTimestamp": now, "event": nil, "logs": []any{},
			"exceptions": []map[string]any{{"name": "Error", "message": "The version does not start, and the one before it answers: " + why.Detail, "timestamp": now}},
		})
		if err == nil {
			err = w.o.Tail.Accept(u.Tenant, name, u.Programs[i].Version, json.RawMessage("["+string(item)+"]"))
		}
		if err != nil {
			w.log.Error("who watches cannot be told", "unit", u.Key, "error", err)
		}
	}
}

// tellStopped tells those who watch a script that a request of it was stopped: the child that would
// have made the trace is gone.
func (w *Workers) tellStopped(ex *edge.Exchange, v *version, err error) {
	var s *isolate.Stopped
	if !errors.As(err, &s) || !w.watched(v.spec) {
		return
	}
	outcomes := map[isolate.Reason]string{isolate.ReasonCPU: "exceededCpu", isolate.ReasonMemory: "exceededMemory", isolate.ReasonKilled: "canceled"}
	outcome := outcomes[s.Reason]
	if outcome == "" {
		outcome = "exception"
	}
	headers := map[string]string{}
	for _, f := range ex.Request.Header.Fields() {
		switch name := strings.ToLower(f.Name); name {
		case "authorization", "cookie":
			headers[name] = "REDACTED"
		default:
			headers[name] = f.Value
		}
	}
	now := w.o.Clock.Now().UnixMilli()
	item, err := json.Marshal(map[string]any{
		"outcome": outcome, "scriptName": v.spec.Script, "eventTimestamp": ex.Start.UnixMilli(), "logs": []any{},
		"exceptions": []map[string]any{{"name": "Error", "message": s.Detail, "timestamp": now}},
		"event": map[string]any{"request": map[string]any{
			"url": ex.Request.Scheme + "://" + authority(&ex.Request) + ex.Request.URI(), "method": ex.Request.Method, "headers": headers,
			"cf": json.RawMessage(describe(ex, w.o.PoP)),
		}},
	})
	if err == nil {
		err = w.o.Tail.Accept(v.spec.AccountID, v.spec.Script, v.spec.ID, json.RawMessage("["+string(item)+"]"))
	}
	if err != nil {
		w.log.Error("who watches cannot be told of a stopped request", "script", v.spec.Script, "error", err)
	}
}
