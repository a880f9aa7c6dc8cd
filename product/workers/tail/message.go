package tail

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
)

// message is a trace in the form that Cloudflare's tail has, and nearly the one that the runtime gives:
// it does not know what its scripts are called.
type message struct {
	WallTime        float64         `json:"wallTime"` // milliseconds
	CPUTime         float64         `json:"cpuTime"`
	Truncated       bool            `json:"truncated"`
	ExecutionModel  string          `json:"executionModel,omitempty"` // stateless, durableObject
	Outcome         string          `json:"outcome"`
	ScriptName      string          `json:"scriptName"`
	ScriptVersion   *scriptVersion  `json:"scriptVersion,omitempty"`
	Entrypoint      string          `json:"entrypoint,omitempty"`
	DurableObjectID string          `json:"durableObjectId,omitempty"`
	Diagnostics     json.RawMessage `json:"diagnosticsChannelEvents"`
	Exceptions      []exception     `json:"exceptions"`
	Logs            []logLine       `json:"logs"`
	EventTimestamp  *float64        `json:"eventTimestamp"` // milliseconds since 1970
	Event           json.RawMessage `json:"event"`

	// Lost makes this no trace but a note that so many were dropped in the runtime.
	Lost int `json:"lost,omitempty"`
}

type scriptVersion struct {
	ID      string `json:"id"`
	Tag     string `json:"tag,omitempty"`
	Message string `json:"message,omitempty"`
}

type exception struct {
	Name      string  `json:"name"`
	Message   string  `json:"message"`
	Stack     string  `json:"stack,omitempty"`
	Timestamp float64 `json:"timestamp"`
}

type logLine struct {
	Message   json.RawMessage `json:"message"` // an array
	Level     string          `json:"level"`
	Timestamp float64         `json:"timestamp"`
	// Errors says more of the Error objects in Message, at their index; the runtime's own addition.
	Errors []*exception `json:"errorInfo,omitempty"`
}

// view is a message as those who want it look at it.
type view struct {
	message *message
	encoded json.RawMessage

	request *request // of the event, once read
}

// request is what filters ask of the event of an HTTP request.
type request struct {
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"` // names in lower case
}

// fetch returns the request of the event, never nil: it is empty for other events.
func (v *view) fetch() *request {
	if v.request == nil {
		var e struct {
			Request request `json:"request"`
		}
		_ = json.Unmarshal(v.message.Event, &e) // what has another form has no request
		v.request = &e.Request
	}
	return v.request
}

// isTail tells whether this is the trace of a tail handler.
func (v *view) isTail() bool {
	var e struct {
		Consumed json.RawMessage `json:"consumedEvents"`
	}
	return bytes.Contains(v.message.Event, []byte(`"consumedEvents"`)) && json.Unmarshal(v.message.Event, &e) == nil && e.Consumed != nil
}

// maker makes messages of the items of one version of a script.
type maker struct {
	hub     *Hub
	script  script
	version string
	id      *scriptVersion // once asked for
}

// each calls f with every item and returns how many could not be read.
func (m *maker) each(ctx context.Context, items []json.RawMessage, f func(*view)) (bad int) {
	for _, raw := range items {
		msg := &message{}
		if err := json.Unmarshal(raw, msg); err != nil {
			bad++
			continue
		}
		if msg.Lost > 0 {
			m.hub.lose(m.script, msg.Lost, m.hub.metrics.lostRuntime)
			continue
		}
		m.complete(ctx, msg)
		encoded, err := encode(msg)
		if err != nil {
			bad++
			continue
		}
		f(&view{message: msg, encoded: encoded})
	}
	return bad
}

// complete says whose message this is and leads its stacks to the sources.
func (m *maker) complete(ctx context.Context, msg *message) {
	msg.ScriptName = m.script.name
	if m.version != "" && m.id == nil {
		m.id = &scriptVersion{ID: m.version}
		if m.hub.o.Version != nil {
			m.id.Tag, m.id.Message = m.hub.o.Version(m.script.account, m.version)
		}
	}
	msg.ScriptVersion = m.id
	if len(msg.Diagnostics) == 0 {
		msg.Diagnostics = json.RawMessage("[]")
	}
	if len(msg.Event) == 0 {
		msg.Event = json.RawMessage("null")
	}
	if msg.Exceptions == nil {
		msg.Exceptions = []exception{}
	}
	if msg.Logs == nil {
		msg.Logs = []logLine{}
	}
	for i := range msg.Exceptions {
		e := &msg.Exceptions[i]
		e.Stack = m.stack(ctx, e.Stack)
	}
	for i := range msg.Logs {
		m.explain(ctx, &msg.Logs[i])
	}
}

// explain puts the stacks of logged errors behind their text.
func (m *maker) explain(ctx context.Context, l *logLine) {
	if len(l.Message) == 0 {
		l.Message = json.RawMessage("[]")
	}
	about := l.Errors
	l.Errors = nil
	var args []json.RawMessage
	if len(about) == 0 || json.Unmarshal(l.Message, &args) != nil {
		return
	}
	for i, e := range about[:min(len(about), len(args))] {
		var text string
		if e == nil || e.Stack == "" || json.Unmarshal(args[i], &text) != nil || strings.Contains(text, e.Stack) {
			continue
		}
		if with, err := encode(text + "\n" + m.stack(ctx, e.Stack)); err == nil {
			args[i] = with
		}
	}
	if all, err := encode(args); err == nil {
		l.Message = all
	}
}

func (m *maker) stack(ctx context.Context, stack string) string {
	return m.hub.maps.rewrite(ctx, m.script.account, m.version, stack)
}

// encode is json.Marshal that leaves <, > and & alone: stacks are full of them.
func encode(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// notice is a message about the tail itself. kind is overload or overload-stop.
func notice(of script, now float64, kind, text string) json.RawMessage {
	about, _ := encode(map[string]string{"type": kind, "message": text}) // of strings: cannot fail
	m, _ := encode(&message{
		Outcome: "unknown", ScriptName: of.name, Diagnostics: json.RawMessage("[]"), Exceptions: []exception{}, Logs: []logLine{},
		EventTimestamp: &now, Event: about,
	})
	return m
}
