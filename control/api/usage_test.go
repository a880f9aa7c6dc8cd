package api_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"selvage/control/api"
	"selvage/foundation/clock"
	"selvage/foundation/fault"
	"selvage/product"
)

func TestQuotas(t *testing.T) {
	s := newSite(t)
	q := product.Quota{Name: "kv_bytes", Summary: "Bytes in KV.", Default: 1000, Used: func(_ context.Context, account string) (int64, error) {
		if account != s.owner.AccountID {
			return 0, errors.New("of another account")
		}
		return 700, nil
	}}
	var err error
	if s.API, err = api.New(api.Options{State: s.state, Quotas: []product.Quota{q}, Clock: clock.Clock{}}); err != nil {
		t.Fatal(err)
	}
	account := "/accounts/" + s.owner.AccountID
	if g := s.do("GET", account+"/selvage/usage", ""); !strings.Contains(g.Body, `"used":700,"limit":1000,"default":1000`) {
		t.Errorf("usage = %s", g.Body)
	}
	if err := q.Check(s.state.Snapshot(), s.owner.AccountID, 700, 300); err != nil {
		t.Errorf("up to the limit: %v", err)
	}
	if err := q.Check(s.state.Snapshot(), s.owner.AccountID, 700, 301); fault.KindOf(err) != fault.TooMuch || !strings.Contains(err.Error(), "kv_bytes is 1000 and 700") {
		t.Errorf("over the limit: %v", err)
	}
	if g := s.do("PATCH", account+"/selvage/quotas", `{"kv_bytes":2000}`); !strings.Contains(g.Body, `"limit":2000,"default":1000`) {
		t.Errorf("set = %s", g.Body)
	}
	if err := q.Check(s.state.Snapshot(), s.owner.AccountID, 700, 1300); err != nil {
		t.Errorf("after the limit was raised: %v", err)
	}
	for body, want := range map[string]string{`{"kv_keys":1}`: "no quota", `{"kv_bytes":-1}`: "must be 0 or more", `{"kv_bytes":"x"}`: "kv_bytes"} {
		if g := s.do("PATCH", account+"/selvage/quotas", body); g.Status != 400 || !strings.Contains(g.Body, want) {
			t.Errorf("PATCH %s = %d %s, want 400 with %q", body, g.Status, g.Body, want)
		}
	}
	if g := s.do("PATCH", account+"/selvage/quotas", `{"kv_bytes":null}`); !strings.Contains(g.Body, `"limit":1000,"default":1000`) {
		t.Errorf("back to the default = %s", g.Body)
	}
}
