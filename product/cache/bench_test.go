package cache_test

import (
	"context"
	"fmt"
	"io"
	"testing"

	"selvage/edge"
	"selvage/product/cache"
)

// BenchmarkHit is a hit in memory from the phase's door on, read to its end; on disk, from a file.
func BenchmarkHit(b *testing.B) {
	for _, c := range []struct {
		name string
		size int
	}{{"memory-1KB", 1 << 10}, {"memory-100KB", 100 << 10}, {"disk-5MB", 5 << 20}} {
		b.Run(c.name, func(b *testing.B) {
			s := newSite(b, cache.Options{Dir: b.TempDir()}, everything)
			s.sized("Content-Type", "text/css", "Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT", "Vary", "Accept-Encoding",
				"X-Content-Type-Options", "nosniff", "Strict-Transport-Security", "max-age=31536000", "Accept-Ranges", "bytes")
			path := fmt.Sprintf("/1-%d", c.size)
			s.get(path, "Accept-Encoding", "gzip, br")
			ex := s.request("GET", path, "Accept-Encoding", "gzip, br", "User-Agent", "bench", "Accept", "*/*")
			b.SetBytes(int64(c.size))
			b.ReportAllocs()
			for b.Loop() {
				ex.Response = edge.Response{}
				if err := s.handler(context.Background(), ex); err != nil {
					b.Fatal(err)
				}
				if w, ok := ex.Response.Body.(io.WriterTo); ok {
					w.WriteTo(io.Discard)
				}
				ex.Response.Close()
			}
			if ex.Note.CacheStatus != "HIT" {
				b.Fatalf("it is %s", ex.Note.CacheStatus)
			}
		})
	}
}

// BenchmarkFill is a miss of 10 KB that is stored.
func BenchmarkFill(b *testing.B) {
	s := newSite(b, cache.Options{Dir: b.TempDir()}, everything)
	body := make([]byte, 10<<10)
	s.serve(func(_ context.Context, ex *edge.Exchange) error {
		ex.Respond(200, edge.NewHeader("Cache-Control", "max-age=600", "Content-Type", "text/css"), body)
		return nil
	})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		if r := s.get(fmt.Sprintf("/%d", i)); r.status != "MISS" {
			b.Fatalf("it is %s", r.status)
		}
	}
}

// BenchmarkPurgeTag purges a tag of 100,000 stored objects, with the disk's sync.
func BenchmarkPurgeTag(b *testing.B) {
	s := newSite(b, cache.Options{Dir: b.TempDir(), MemoryBytes: 1 << 30}, everything)
	s.says("Cache-Control", "max-age=600", "Cache-Tag", "all")
	for i := range 100_000 {
		s.get(fmt.Sprintf("/%d", i))
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.purge(`{"tags": ["all"]}`); err != nil {
			b.Fatal(err)
		}
	}
}
