package workers

import (
	"context"
	"io"

	"selvage/engine/isolate"
)

// host runs scripts: an isolate.Host, or nothing on a node without the runtime.
type host interface {
	asked
	steered
}

// asked is what scripts are asked by.
type asked interface {
	Fetch(ctx context.Context, a isolate.Address, r *isolate.Request) (*isolate.Response, error)
	Dial(ctx context.Context, a isolate.Address) (io.ReadWriteCloser, error)
	Dispatch(ctx context.Context, a isolate.Address, e isolate.Event) (isolate.Outcome, error)
}

// steered is what units are declared, watched and ended by.
type steered interface {
	Set(u isolate.Unit)
	Drop(key string)
	Start(ctx context.Context, key string) error
	Inspect(ctx context.Context, p isolate.Program) (isolate.Exports, error)
	Kill(key, why string)
	Usage() []isolate.Usage
	Load(key string) (begun uint64, running int)
}

var (
	_ host = (*isolate.Host)(nil)
	_ host = absent{}
)

// absent stands where the runtime is not installed: everything can be looked at, nothing runs.
type absent struct{}

var errAbsent = &isolate.Stopped{Reason: isolate.ReasonMissing, Detail: "the Workers runtime is not installed on this node"}

func (absent) Set(isolate.Unit)                    {}
func (absent) Drop(string)                         {}
func (absent) Start(context.Context, string) error { return errAbsent }
func (absent) Inspect(context.Context, isolate.Program) (isolate.Exports, error) {
	return isolate.Exports{}, errAbsent
}
func (absent) Fetch(context.Context, isolate.Address, *isolate.Request) (*isolate.Response, error) {
	return nil, errAbsent
}
func (absent) Dial(context.Context, isolate.Address) (io.ReadWriteCloser, error) {
	return nil, errAbsent
}
func (absent) Dispatch(context.Context, isolate.Address, isolate.Event) (isolate.Outcome, error) {
	return isolate.Outcome{}, errAbsent
}
func (absent) Kill(string, string)       {}
func (absent) Usage() []isolate.Usage    { return nil }
func (absent) Load(string) (uint64, int) { return 0, 0 }
