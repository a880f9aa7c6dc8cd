package statetest_test

import (
	"testing"

	"selvage/engine/state"
	"selvage/engine/state/statetest"
)

func TestEmbedded(t *testing.T) {
	statetest.Run(t, func(t *testing.T, dir string) statetest.Store[*state.Batch] {
		db, err := state.Open(dir, state.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return db
	})
}
