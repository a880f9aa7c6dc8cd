package supervise_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"selvage/foundation/supervise"
)

var silent = slog.New(slog.DiscardHandler)

func TestRestartsWithGrowingPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		g := supervise.New(ctx, silent)
		began := time.Now()
		var starts []time.Duration
		g.Go("task", func(context.Context) error {
			starts = append(starts, time.Since(began))
			switch len(starts) {
			case 1:
				return errors.New("broken")
			case 2:
				panic("broken badly")
			}
			return nil
		})
		g.Wait()
		cancel()
		want := []time.Duration{0, 50 * time.Millisecond, 150 * time.Millisecond}
		if len(starts) != 3 || starts[1] != want[1] || starts[2] != want[2] {
			t.Errorf("started after %v, want %v", starts, want)
		}
	})
}

func TestEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		g := supervise.New(ctx, silent)
		g.Go("waits", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		g.Go("fails", func(context.Context) error { return errors.New("always") })
		synctest.Wait()
		cancel()
		g.Wait()
	})
}
