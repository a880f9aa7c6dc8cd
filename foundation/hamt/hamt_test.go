package hamt

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// TestAgainstGoMap edits at random and holds every version against Go's own map, old ones too.
func TestAgainstGoMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	type version struct {
		m    Map[int]
		want map[string]int
	}
	var versions []version
	var m Map[int]
	want := map[string]int{}
	for range 300 {
		e := m.Edit()
		for range rnd.IntN(60) {
			key := fmt.Sprint(rnd.IntN(3000))
			if rnd.IntN(3) == 0 {
				e.Delete(key)
				delete(want, key)
				continue
			}
			v := rnd.Int()
			e.Set(key, v)
			want[key] = v
			if e.Get(key) != v || e.Len() != len(want) {
				t.Fatalf("in the edit %s is %d of %d, want %d of %d", key, e.Get(key), e.Len(), v, len(want))
			}
		}
		m = e.Map()
		versions = append(versions, version{m, maps.Clone(want)})
	}
	for i, v := range versions {
		if got := maps.Collect(v.m.All()); v.m.Len() != len(v.want) || !maps.Equal(got, v.want) {
			t.Fatalf("version %d has %d entries, %d by Len, want %d", i, len(got), v.m.Len(), len(v.want))
		}
		for key := range 3000 {
			k := fmt.Sprint(key)
			n, ok := v.want[k]
			if got, found := v.m.Find(k); got != n || found != ok || v.m.GetBytes([]byte(k)) != n {
				t.Fatalf("version %d: Find(%s) = %d, %v, want %d, %v", i, k, got, found, n, ok)
			}
		}
	}
	e := m.Edit()
	for key := range want {
		e.Delete(key)
	}
	if e.root != nil || e.Len() != 0 {
		t.Errorf("after all is deleted %d entries are left", e.Len())
	}
}

// TestSameHash puts keys with one hash below each other, which names hardly ever have.
func TestSameHash(t *testing.T) {
	e := Map[int]{}.Edit()
	root := &node[int]{owner: e.owner}
	for i := range 4 {
		root = e.set(root, entry[int]{fmt.Sprint(i), i}, 7, lastShift)
	}
	root = e.set(root, entry[int]{"2", 22}, 7, lastShift)
	if e.size != 4 || root.entries[root.index("2")].value != 22 {
		t.Errorf("four keys of one hash: %+v, size %d", root.entries, e.size)
	}
	for _, key := range []string{"1", "0", "3", "2"} {
		if root.index(key) < 0 {
			t.Fatalf("key %s is lost", key)
		}
		root = e.remove(root, key, 7, lastShift)
	}
	if root != nil {
		t.Errorf("left over: %+v", root.entries)
	}
}

func TestStopsIterating(t *testing.T) {
	e := Map[int]{}.Edit()
	for i := range 1000 {
		e.Set(fmt.Sprint(i), i)
	}
	n := 0
	for range e.Map().All() {
		if n++; n == 500 {
			break
		}
	}
	if n != 500 {
		t.Errorf("%d entries yielded, want 500", n)
	}
}

func filled(n int) (Map[*int], []string) {
	e := Map[*int]{}.Edit()
	var keys []string
	for i := range n {
		keys = append(keys, fmt.Sprintf("host%d.example.com", i))
		e.Set(keys[i], new(int))
	}
	return e.Map(), keys
}

func BenchmarkGet(b *testing.B) {
	m, keys := filled(10_000)
	b.Run("hamt", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			m.Get(keys[i%len(keys)])
		}
	})
	std := maps.Collect(m.All())
	b.Run("map", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			_ = std[keys[i%len(keys)]]
		}
	})
}

func BenchmarkSetOne(b *testing.B) {
	m, keys := filled(10_000)
	b.Run("hamt", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			e := m.Edit()
			e.Set(keys[i%len(keys)], nil)
			m = e.Map()
		}
	})
	std := maps.Collect(m.All())
	b.Run("map", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			std = maps.Clone(std)
			std[keys[i%len(keys)]] = nil
		}
	})
}
