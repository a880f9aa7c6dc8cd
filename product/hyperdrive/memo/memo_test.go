package memo_test

import (
	"fmt"
	"testing"
	"time"

	"selvage/product/hyperdrive/memo"
)

var policy = memo.Policy{MaxAge: time.Minute, Stale: 15 * time.Second}

func TestAges(t *testing.T) {
	m, now, key := memo.New(1<<20), time.Unix(1e9, 0), []byte("k")
	lead := m.Find(key, policy, now).Lead
	if lead == nil {
		t.Fatal("nobody leads")
	}
	wait := m.Find(key, policy, now).Wait
	if wait == nil {
		t.Fatal("a second one does not wait")
	}
	lead.Done([]byte("one"), now)
	<-wait.Landed()
	if string(wait.Body()) != "one" {
		t.Errorf("who waited got %q", wait.Body())
	}
	if f := m.Find(key, policy, now.Add(59*time.Second)); string(f.Body) != "one" || f.Refresh != nil {
		t.Errorf("fresh: %+v", f)
	}
	stale := m.Find(key, policy, now.Add(61*time.Second))
	if string(stale.Body) != "one" || stale.Refresh == nil {
		t.Fatalf("stale: %+v", stale)
	}
	if f := m.Find(key, policy, now.Add(62*time.Second)); f.Refresh != nil || f.Body == nil {
		t.Errorf("two refresh at once: %+v", f)
	}
	stale.Refresh.Done(nil, now.Add(63*time.Second))
	again := m.Find(key, policy, now.Add(64*time.Second))
	if again.Refresh == nil {
		t.Fatal("after a refresh that failed nobody tries again")
	}
	again.Refresh.Done([]byte("two"), now.Add(65*time.Second))
	if f := m.Find(key, policy, now.Add(66*time.Second)); string(f.Body) != "two" || f.Refresh != nil {
		t.Errorf("refreshed: %+v", f)
	}
	if f := m.Find(key, policy, now.Add(time.Hour)); f.Lead == nil {
		t.Errorf("much too old: %+v", f)
	}
}

func TestBound(t *testing.T) {
	m, now := memo.New(100_000), time.Unix(1e9, 0)
	for i := range 1000 {
		if f := m.Find(fmt.Appendf(nil, "key %d", i), policy, now); f.Lead != nil {
			f.Lead.Done(make([]byte, 1000), now)
		}
		if m.Bytes() > 100_000 {
			t.Fatalf("%d bytes are in use", m.Bytes())
		}
	}
	if m.Has([]byte("key 1")) || !m.Has([]byte("key 999")) {
		t.Error("the wrong ones were forgotten")
	}
	f := m.Find([]byte("none"), policy, now).Lead
	f.Done(nil, now)
	if m.Has([]byte("none")) {
		t.Error("no answer was remembered")
	}
}
