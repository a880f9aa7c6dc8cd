package certs_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"selvage/foundation/observe"
	"selvage/product/certs"
)

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	h := open(t, certs.Options{Observe: observe.Observer{Metrics: registry}}, "one.test")
	n := leaf{hosts: []string{"www.one.test"}}.noun(h.zone(t, "one.test"), "custom", 0)
	h.put(t, n)
	for _, name := range []string{"one.test", "one.test", "www.one.test", "two.test"} {
		h.names(t, hello(name))
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			key := f.GetName()
			for _, l := range m.Label {
				key += " " + l.GetValue()
			}
			got[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for key, want := range map[string]float64{
		"selvage_certs_handshakes_total local":               2,
		"selvage_certs_handshakes_total custom":              1,
		"selvage_certs_handshakes_total none":                1,
		"selvage_certs_local_issued_total":                   1,
		"selvage_certs_key_pairs":                            2,
		"selvage_certs_stored custom":                        1,
		"selvage_certs_packs_failing":                        0,
		"selvage_certs_next_expiry_timestamp_seconds custom": float64(n.ExpiresOn.Unix()),
	} {
		if v, ok := got[key]; !ok || v != want {
			t.Errorf("%s = %v, want %v", key, v, want)
		}
	}
	if got["selvage_certs_next_expiry_timestamp_seconds local_ca"] < float64(n.ExpiresOn.Unix()) {
		t.Error("the local CA's expiry is not shown")
	}
}
