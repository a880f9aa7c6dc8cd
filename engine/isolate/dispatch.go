package isolate

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"selvage/engine/isolate/wire"
)

// maxOutcome is the most bytes of what a dispatcher answers.
const maxOutcome = 16 << 20

// Dispatch hands an event to a program and returns when its handler, and what that waits for, has
// ended. A handler that throws is an Outcome, not an error; the error is *Stopped if the child was
// stopped.
func (h *Host) Dispatch(ctx context.Context, a Address, e Event) (Outcome, error) {
	u, err := h.unit(a.Unit)
	if err != nil {
		return Outcome{}, err
	}
	kind, body, err := e.encode()
	if err != nil {
		return Outcome{}, err
	}
	u.requests.Add(1)
	call, err := u.acquire(ctx, true)
	if err != nil {
		return Outcome{}, err
	}
	defer call.finish()
	client, err := call.find(a)
	if err != nil {
		return Outcome{}, err
	}
	door := strings.TrimPrefix(filepath.Base(client.Path), "d") // by which the dispatcher knows the program
	resp, err := call.c.host.Do(ctx, &wire.Request{
		Method: "POST", Scheme: "http", Host: "host", Target: "/" + kind + "/" + door, Header: func(func(string, string) bool) {},
		Body: bytes.NewReader(body), Length: int64(len(body)), Progress: &call.progress,
	})
	if err != nil {
		_, err = call.failed(err, &Request{Body: nil})
		return Outcome{}, err
	}
	defer resp.Body.Close()
	call.answered.Store(true)
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxOutcome))
	if err != nil {
		_, err = call.failed(err, &Request{})
		return Outcome{}, err
	}
	if !resp.Marked {
		return Outcome{Outcome: "exception", Error: "the program has no handler for this event, or could not be asked"}, nil
	}
	return readOutcome(kind, answer)
}

// readOutcome takes apart what host.js answers, which is the runtime's own form.
func readOutcome(kind string, answer []byte) (Outcome, error) {
	var o struct {
		Outcome string `json:"outcome"`
		NoRetry bool   `json:"noRetry"`
		Error   string `json:"error"`
	}
	if err := json.Unmarshal(answer, &o); err != nil {
		return Outcome{}, fmt.Errorf("read the outcome of an event: %w", err)
	}
	out := Outcome{Outcome: o.Outcome, NoRetry: o.NoRetry, Error: o.Error}
	if kind == "queue" {
		out.Queue = answer
	}
	return out, nil
}

// encode returns the event as host.js reads it.
func (e *Event) encode() (kind string, body []byte, err error) {
	switch {
	case e.Scheduled != nil:
		kind = "scheduled"
		body, err = json.Marshal(map[string]any{"cron": e.Scheduled.Cron, "time": e.Scheduled.Time.UnixMilli()})
	case e.Queue != nil:
		kind = "queue"
		type message struct {
			ID        string `json:"id"`
			Timestamp int64  `json:"timestamp"`
			Attempts  int    `json:"attempts"`
			Type      string `json:"type"`
			Body      string `json:"body"`
		}
		messages := make([]message, len(e.Queue.Messages))
		for i, m := range e.Queue.Messages {
			messages[i] = message{m.ID, m.Timestamp.UnixMilli(), m.Attempts, m.ContentType, base64.StdEncoding.EncodeToString(m.Body)}
		}
		body, err = json.Marshal(map[string]any{"queue": e.Queue.Queue, "messages": messages})
	default:
		kind, body = "traces", e.Traces
	}
	return kind, body, err
}
