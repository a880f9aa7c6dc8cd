package workers

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"selvage/engine/blob"
	"selvage/foundation/clock"
	"selvage/product"
	"selvage/product/workers/assets"
	"selvage/spec"
)

// still is a state that does not change.
type still struct{ snap *spec.Snapshot }

func (s *still) Snapshot() *spec.Snapshot { return s.snap }

func (s *still) Update(context.Context, spec.Actor, func(product.Tx) error) error { return nil }

func TestSweepKeepsWhatVersionsName(t *testing.T) {
	dir := t.TempDir()
	blobs, err := blob.Open(filepath.Join(dir, "blobs"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := assets.Open(assets.Options{Dir: filepath.Join(dir, "assets"), Blobs: blobs})
	if err != nil {
		t.Fatal(err)
	}
	put := func(text string) string {
		digest, err := blobs.PutBytes(t.Context(), []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return digest
	}
	code, sources, page, idle := put("code"), put("map"), put("page"), put("idle")
	manifest := put(`{"files":{"/index.html":{"hash":"00000000000000000000000000000000","size":4,"digest":"` + page + `"}}}`)
	v := &spec.WorkerVersion{ID: "v", AccountID: "a", Script: "w", Modules: []spec.WorkerModule{{Digest: code}}, SourceMaps: []spec.WorkerModule{{Digest: sources}}, Assets: &spec.WorkerAssets{Manifest: manifest}}
	snap := spec.NewSnapshot()
	snap.Workers = map[string]*spec.AccountWorkers{"a": {Versions: map[string]*spec.WorkerVersion{"v": v}}}
	now := time.Now()
	w := &Workers{o: Options{State: &still{snap}, Blobs: blobs, Assets: files, Clock: clock.Fixed(func() time.Time { return now })}}
	there := func(want map[string]bool) {
		t.Helper()
		if err := w.sweepBlobs(t.Context()); err != nil {
			t.Fatal(err)
		}
		for digest, kept := range want {
			if blobs.Has(digest) != kept {
				t.Errorf("%v after the start: blob %s is there: %v, want %v", time.Until(now).Round(time.Hour), digest[:8], !kept, kept)
			}
		}
	}
	there(map[string]bool{idle: true})
	now = now.Add(sweepGrace + time.Hour)
	there(map[string]bool{code: true, sources: true, page: true, manifest: true, idle: false})
	// What cannot be known to be unused stays.
	if err := blobs.Delete(manifest); err != nil {
		t.Fatal(err)
	}
	if err := w.sweepBlobs(t.Context()); err == nil || !blobs.Has(page) {
		t.Errorf("sweep without a manifest = %v, page is there: %v", err, blobs.Has(page))
	}
	snap.Workers = nil
	there(map[string]bool{code: false, sources: false, page: false})
}
