package store

import (
	"context"
	"encoding/json"

	"selvage/foundation/fault"
)

// The index changes hands between processes at a takeover, while what a client sends or takes at its own
// pace goes on in the old one. Content lies in the volume, which both have: a put that has taken its
// content in when the index is another process's has only the record entered there.

// settlement is what one process asks another to enter: content that it has taken in.
type settlement struct {
	Bucket Bucket
	Key    string
	Record []byte // of the object or part
	Inline []byte // content that lies in the index

	Condition Condition
	Action    string
	Source    Bucket // of a copy
	SourceKey string

	Upload string // whose part it is; empty for an object
	Number int
}

// settled is what became of a settlement: a record or a refusal.
type settled struct {
	Record  []byte     `json:",omitempty"`
	Kind    fault.Kind `json:",omitempty"`
	Code    int        `json:",omitempty"`
	Message string     `json:",omitempty"`
}

// Leave says that the operation under ctx goes on without the index, to its end: what was opened is read.
func (s *Store) Leave(ctx context.Context) { s.aside(ctx) }

// aside lets the index change hands while the operation under ctx does without it. back waits until it is
// to be had again, and tells whether it is this process's.
func (s *Store) aside(ctx context.Context) (back func() (here bool, err error)) {
	if s.o.Aside == nil {
		return func() (bool, error) { return true, nil }
	}
	return s.o.Aside(ctx)
}

// elsewhere has the process that has the index enter what was taken in, and returns the record.
func (s *Store) elsewhere(ctx context.Context, in *taken, w settlement) (*Object, error) {
	w.Inline = in.inline
	message, err := json.Marshal(w)
	if err != nil {
		return nil, err
	}
	in.kept = true // whether the other has it is not known until it says so; if not, it is swept
	raw, err := s.o.Elsewhere(ctx, message)
	if err != nil {
		return nil, err
	}
	var out settled
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, err
	}
	if out.Record == nil {
		in.kept = false
		return nil, fault.New(out.Kind, "%s", out.Message).WithCode(out.Code)
	}
	return decodeObject(w.Key, out.Record)
}

// Settle enters what another process has taken in, which Elsewhere of its Options says in message, and
// answers what became of it. It returns when that is durable.
func (s *Store) Settle(ctx context.Context, message []byte) (answer []byte, err error) {
	var w settlement
	if err := json.Unmarshal(message, &w); err != nil {
		return nil, err
	}
	obj, err := s.settle(w)
	var out settled
	switch refusal := fault.All(err); {
	case err == nil:
		out.Record = obj.encode()
	case len(refusal) > 0:
		out = settled{Kind: refusal[0].Kind, Code: refusal[0].Code, Message: refusal[0].Message}
	default:
		return nil, err
	}
	return json.Marshal(out)
}

func (s *Store) settle(w settlement) (*Object, error) {
	obj, err := decodeObject(w.Key, w.Record)
	if err != nil {
		return nil, err
	}
	n, err := s.session()
	if err != nil {
		return nil, err
	}
	// It is kept whatever happens: who took it in gives it up.
	in := &taken{s: s, n: n, size: obj.Size, sums: obj.Checksums, segments: obj.content.segments, inline: w.Inline, here: true}
	s.using.add(in.segments)
	defer s.using.done(in.segments)
	if w.Upload != "" {
		return s.enterPart(n, PartOf{Bucket: w.Bucket, Key: w.Key, Upload: w.Upload, Number: w.Number}, obj, in)
	}
	return s.replace(n, w.Bucket, obj, replacing{in: in, condition: &w.Condition, action: w.Action, source: lockName{w.Source, w.SourceKey}})
}
