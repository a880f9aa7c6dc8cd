package workers_test

import (
	"context"
	"os"
	"testing"

	"selvage/engine/isolate"
	"selvage/product/workers"
	"selvage/product/workers/outbound"
	"selvage/product/workers/tail"
	"selvage/spec"
)

// options completes o with what runs scripts: the real runtime, without walls.
func options(t testing.TB, dir string, o workers.Options) workers.Options {
	t.Helper()
	runtime, err := isolate.FindRuntime(os.Environ())
	must(t, err)
	o.Host, err = isolate.New(isolate.Options{
		Runtime: runtime, RunDir: t.TempDir(), Spares: -1,
		Code:    func(_ context.Context, digest string) ([]byte, error) { return o.Blobs.Read(digest, 0) },
		Modules: map[string]string{outbound.RateLimitModule: outbound.RateLimitSource},
	})
	must(t, err)
	t.Cleanup(o.Host.Close)
	o.Tail = tail.New(tail.Options{})
	t.Cleanup(o.Tail.Close)
	o.Outbound = outbound.New(outbound.Options{})
	o.ObjectsDir, o.Domain = dir+"/objects", "workers.test"
	return o
}

// apply brings each state into effect, as control/rollout does.
func apply(w *workers.Workers) func(context.Context, *spec.Snapshot) error {
	return func(ctx context.Context, next *spec.Snapshot) error {
		c, err := w.Prepare(ctx, next)
		if err != nil {
			return err
		}
		c.Commit()
		return nil
	}
}
