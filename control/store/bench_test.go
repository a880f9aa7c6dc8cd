package store_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"selvage/product"
	"selvage/spec"
)

func BenchmarkUpdate(b *testing.B) {
	for _, writers := range []int{1, 64} {
		for _, records := range []int{1, 10_000} {
			b.Run(fmt.Sprintf("writers=%d/records=%d", writers, records), func(b *testing.B) {
				s := fresh(b)
				z := zone("a.test")
				put(b, s, account, z)
				putMany(b, s, z, records)
				b.ReportAllocs()
				b.ResetTimer()
				var left atomic.Int64
				left.Store(int64(b.N))
				var group sync.WaitGroup
				for range writers {
					group.Go(func() {
						r := record(z, "www")
						for left.Add(-1) >= 0 {
							put(b, s, r)
						}
					})
				}
				group.Wait()
			})
		}
	}
}

func BenchmarkBulk10k(b *testing.B) {
	b.ReportAllocs()
	for range b.N {
		s := fresh(b)
		z := zone("a.test")
		put(b, s, account, z)
		putMany(b, s, z, 10_000)
	}
}

func putMany(b *testing.B, s product.State, z *spec.Zone, n int) {
	err := s.Update(b.Context(), admin, func(tx product.Tx) error {
		for i := range n {
			if err := tx.Put(record(z, fmt.Sprintf("host%d", i))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
