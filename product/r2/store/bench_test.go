package store_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"

	"selvage/product/r2/store"
)

var benchSizes = []struct {
	name  string
	bytes int
}{{"4KiB", 4 << 10}, {"1MiB", 1 << 20}, {"100MiB", 100 << 20}}

func BenchmarkPut(b *testing.B) {
	for _, size := range benchSizes {
		for _, clients := range []int{1, 16} {
			if clients > 1 && size.bytes > 1<<20 {
				continue
			}
			b.Run(fmt.Sprintf("%s/%d", size.name, clients), func(b *testing.B) {
				s := open(b, b.TempDir())
				content := noise(1, size.bytes)
				b.SetBytes(int64(size.bytes))
				b.ReportAllocs()
				b.SetParallelism(max(1, clients/2))
				var n atomic.Int64
				work := func() {
					key := fmt.Sprint(n.Add(1) % 64)
					if _, err := s.Put(background, bucket, key, bytes.NewReader(content), store.PutOptions{Size: int64(size.bytes)}); err != nil {
						b.Error(err)
					}
				}
				if clients == 1 {
					for b.Loop() {
						work()
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						work()
					}
				})
			})
		}
	}
}

// BenchmarkGet sends objects to a socket, as a front does.
func BenchmarkGet(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(size.name, func(b *testing.B) {
			s := open(b, b.TempDir())
			put(b, s, "k", noise(1, size.bytes))
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			go func() {
				c, err := l.Accept()
				if err == nil {
					io.Copy(io.Discard, c)
					c.Close()
				}
			}()
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			b.SetBytes(int64(size.bytes))
			b.ReportAllocs()
			for b.Loop() {
				r, err := s.Get(background, bucket, "k", store.GetOptions{})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(c, r.Body); err != nil {
					b.Fatal(err)
				}
				r.Body.Close()
			}
		})
	}
}

func BenchmarkList(b *testing.B) {
	s := open(b, b.TempDir())
	for i := range 2000 {
		put(b, s, fmt.Sprintf("folder%d/%d", i%20, i), nil)
	}
	for _, o := range []store.ListOptions{{}, {Delimiter: "/"}} {
		b.Run(fmt.Sprintf("delimiter%q", o.Delimiter), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.List(background, bucket, o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
