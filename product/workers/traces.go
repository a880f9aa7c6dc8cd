package workers

import (
	"context"
	"encoding/json"
	"errors"
	"path"
	"strings"

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
