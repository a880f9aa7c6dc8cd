package rollout_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"selvage/control/rollout"
	"selvage/engine/state/powercut"
	"selvage/product/producttest"
)

// versions is a durability plan: one snapshot after the other is written; the last good one must be
// whole and no older than the last that was reported as written.
var versions = powercut.Plan{
	Writer: func(dir string, round int, ack func(string)) error {
		r, err := rollout.New(rollout.Options{Dir: dir})
		if err != nil {
			return err
		}
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		s := producttest.Snapshot(uint64(round)*1_000_000+1, "a.test", "b.test", "c.test")
		for {
			if err := r.Apply(context.Background(), s); err != nil {
				return err
			}
			if err := r.Run(ended); err != nil { // writes what is not on disk yet
				return err
			}
			ack(strconv.FormatUint(s.Version, 10))
			s = edit(s, "b.test")
		}
	},
	Verify: func(dir string, acked []string) error {
		r, err := rollout.New(rollout.Options{Dir: dir})
		if err != nil {
			return err
		}
		s, err := r.LastGood()
		if err != nil || s == nil {
			return fmt.Errorf("LastGood = %v, %w", s, err)
		}
		newest, err := strconv.ParseUint(acked[len(acked)-1], 10, 64)
		if err != nil {
			return err
		}
		if s.Version < newest || len(s.Zones) != 3 {
			return fmt.Errorf("last good is version %d with %d zones, want at least version %d and 3 zones", s.Version, len(s.Zones), newest)
		}
		return nil
	},
}

func TestLastGoodSurvivesKill(t *testing.T) { powercut.Kill(t, versions) }

func TestLastGoodSurvivesPowerCut(t *testing.T) { powercut.Cut(t, versions) }
