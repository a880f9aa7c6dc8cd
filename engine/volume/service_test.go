//go:build service

package volume_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"selvage/engine/volume"
	"selvage/engine/volume/volumetest"
)

// TestService runs the suite against the service that SELVAGE_TEST_VOLUME names, with credentials from the
// environment; clients/volume_test.go starts some.
func TestService(t *testing.T) {
	place := os.Getenv("SELVAGE_TEST_VOLUME")
	if place == "" {
		t.Fatal("SELVAGE_TEST_VOLUME names no service")
	}
	var places atomic.Int32
	volumetest.Run(t, func(t *testing.T) volumetest.Place {
		bucket, query, _ := strings.Cut(place, "?")
		here := fmt.Sprintf("%s/p%d-%d/?%s", bucket, os.Getpid(), places.Add(1), query)
		open := func(t *testing.T) volume.Volume {
			t.Helper()
			v, err := volume.Open(t.Context(), here, volume.OpenOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		return volumetest.Place{Volume: open(t), Reopen: open, Change: func(t *testing.T, name string, edit func([]byte) []byte) {
			v := open(t).(*volume.S3)
			stored, err := v.Stored(t.Context(), name)
			if err == nil {
				err = v.Delete(t.Context(), name)
			}
			if changed := edit(stored); err == nil && changed != nil {
				err = v.Store(t.Context(), name, changed)
			}
			if err != nil {
				t.Fatal(errors.Join(errors.New("change content"), err))
			}
		}}
	})
}
