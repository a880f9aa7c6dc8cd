package store_test

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"

	"selvage/product/kv/store"
)

// BenchmarkGet reads values from memory, from the node's store and from files.
func BenchmarkGet(b *testing.B) {
	s, sp := newBench(b), space(b, 'a', '1')
	for _, n := range []int{100, 10_000, 1 << 20} {
		for i := range 64 {
			must(b, s.put(sp, fmt.Sprint(n, " ", i), random(n), 0, ""))
		}
		b.Run(fmt.Sprint("hot/", n), func(b *testing.B) {
			key := fmt.Sprint(n, " 1")
			b.ReportAllocs()
			b.SetBytes(int64(n))
			for b.Loop() {
				read(b, s, sp, key)
			}
		})
	}
	b.Run("none", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if e, err := s.Get(b.Context(), sp, fmt.Sprint("none ", i)); e != nil || err != nil {
				b.Fatal(e, err)
			}
		}
	})
}

func read(b *testing.B, s *bench, sp store.Space, key string) {
	e, body, err := s.Open(b.Context(), sp, key)
	if err != nil {
		b.Fatal(err)
	}
	if body == nil {
		return
	}
	defer body.Close()
	var buf [64 << 10]byte
	for n := int64(0); n < e.Size; {
		m, err := body.Read(buf[:])
		if n += int64(m); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPut stores values, each on disk before the next, and many at once.
func BenchmarkPut(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		value := random(n)
		b.Run(fmt.Sprint("one/", n), func(b *testing.B) {
			s, sp := newBench(b), space(b, 'a', '1')
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				must(b, s.Put(b.Context(), sp, store.Write{Key: fmt.Sprint("key ", i%1000)}, bytes.NewReader(value)))
			}
		})
		b.Run(fmt.Sprint("64 at once/", n), func(b *testing.B) {
			s, sp := newBench(b), space(b, 'a', '1')
			var next atomic.Int64
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					must(b, s.Put(b.Context(), sp, store.Write{Key: fmt.Sprint("key ", next.Add(1)%1000)}, bytes.NewReader(value)))
				}
			})
		})
	}
}
