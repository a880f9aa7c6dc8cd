package node

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	gcRoom    = 32 << 20 // bytes of garbage that may gather between two collections in any case
	gcPercent = 100      // of the live heap that may gather when it is larger than gcRoom
	gcMost    = 400      // of a small live heap
	gcLook    = time.Second
)

// paceGC makes collections rare while the live heap is small. An idle node lives on some 4 MB, and
// under load the runtime would collect after every other 4 MB, some 50 times a second; with room it
// stays below 60 MB of memory all the same. GOGC in the environment switches this off.
func paceGC(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	look := time.NewTicker(gcLook)
	defer look.Stop()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for now := 0; ; {
		metrics.Read(live)
		percent := int(min(gcMost, max(gcPercent, gcRoom*100/(live[0].Value.Uint64()+1))))
		// Setting it stops the world for a moment.
		if percent > now+now/4 || percent < now-now/4 {
			debug.SetGCPercent(percent)
			now = percent
		}
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
	}
}
