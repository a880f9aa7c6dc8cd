package api_test

import (
	"fmt"
	"net/http/httptest"
	"testing"
)

// BenchmarkGetZone is the least an API request costs: route, authenticate, check rights, answer.
func BenchmarkGetZone(b *testing.B) {
	s := newSite(b)
	path := "/client/v4/zones/" + s.zone("mine.test")
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("Authorization", "Bearer "+s.owner.Secret)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != 200 {
			b.Fatal(w.Body)
		}
	}
}

// BenchmarkFindZone looks one zone up by name among many, as DNS-01 clients do.
func BenchmarkFindZone(b *testing.B) {
	s := newSite(b)
	for i := range 1000 {
		s.zone(fmt.Sprintf("z%d.test", i))
	}
	b.ReportAllocs()
	for b.Loop() {
		if g := s.do("GET", "/zones?name=z77.test&per_page=50", ""); g.Info.Count != 1 {
			b.Fatal(g.Body)
		}
	}
}
