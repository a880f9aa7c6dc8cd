package isolate_test

import (
	"fmt"
	"testing"
	"time"

	"selvage/engine/isolate"
	"selvage/foundation/fault"
)

// Where there is room for two children, a third takes the place of the one that was unused for
// longest, and is refused if both have something to do.
func TestChildrenMakeRoomForOthers(t *testing.T) {
	h := start(t, func(o *isolate.Options) { o.Children, o.Replicas = 2, 1 })
	code := h.put(`export default { async fetch(r) { if (new URL(r.url).pathname === "/slow") await new Promise((done) => setTimeout(done, 8000)); return new Response("ok"); } }`)
	for i := range 4 {
		h.Set(isolate.Unit{Key: fmt.Sprint("u", i), Tenant: "t", Programs: []isolate.Program{{
			Name: "w", CompatibilityDate: "2024-09-23", Modules: []isolate.Module{{Name: "w.js", Type: "esm", Digest: code}},
		}}})
	}
	ask := func(unit int, path string) error {
		resp, err := h.Fetch(t.Context(), isolate.Address{Unit: fmt.Sprint("u", unit), Program: "w"}, &isolate.Request{
			Method: "GET", Scheme: "http", Host: "w.test", Target: path, Header: func(func(string, string) bool) {}, Again: true,
		})
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
	for i := range 4 {
		if err := ask(i, "/"); err != nil {
			t.Fatalf("unit %d of four, where two have room: %v", i, err)
		}
	}
	for i := range 2 {
		go ask(i, "/slow")
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if a, b := running(h, "u0"), running(h, "u1"); a == 1 && b == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the slow requests are not under way")
		}
	}
	if err := ask(2, "/"); err != nil && fault.KindOf(err) != fault.Unavailable {
		t.Errorf("a third child while two are busy: %v, want it to come late or be refused as unavailable", err)
	}
}

func running(h *house, unit string) int {
	_, n := h.Load(unit)
	return n
}
