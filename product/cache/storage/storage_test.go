package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"selvage/edge"
	"selvage/product/cache/semantics"
)

// These tests are inside the package, for what they look at has no door: what a sweep leaves, and
// which of many entries the policy keeps.

func openStore(t testing.TB, o Options) *Store {
	t.Helper()
	if o.MemoryBytes == 0 {
		o.MemoryBytes = 16 << 20
	}
	if o.DiskBytes == 0 {
		o.DiskBytes = 1 << 30
	}
	o.MaxObject = 1 << 30
	o.Log, o.Now = slog.New(slog.NewTextHandler(io.Discard, nil)), time.Now
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func metaOf(i int) *Meta {
	m := &Meta{Status: 200, Born: time.Unix(1, int64(i)), Verdict: semantics.Verdict{Store: true, Lifetime: time.Hour}}
	m.Key[0], m.Key[1], m.Key[2] = byte(i), byte(i>>8), byte(i>>16)
	m.Place = Place{Zone: "zone", Scheme: "https", Host: "a.test", URI: fmt.Sprintf("/%d", i), Tags: []string{fmt.Sprint("t", i%10)}}
	m.Header = edge.NewHeader("Content-Type", "text/plain", "X-Octets", "\x80\xff")
	m.Vary, m.Selected = []string{"foo"}, []string{"\x00"}
	return m
}

func fill(t testing.TB, s *Store, m *Meta, body string) {
	t.Helper()
	f := s.Begin()
	f.Expect(int64(len(body)))
	if _, err := f.ReadFrom(strings.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	f.Store(m)
	f.End(nil)
}

// run runs s until the test ends or the function returned is called.
func run(t testing.TB, s *Store) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run = %v", err)
			}
		}
	}
	t.Cleanup(stop)
	return stop
}

func (s *Store) waitForDisk(t testing.TB, objects int64) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if st := s.Stats(); st.DiskObjects == objects && st.Indexed {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("got %+v, want %d objects on disk", st, objects)
		}
	}
}

// TestSweep: a sweep removes what was purged from both tiers, then forgets the purges, but none
// that something still under way is older than.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, Options{Dir: dir})
	run(t, s)
	const n = 300
	for i := range n {
		fill(t, s, metaOf(i), "body")
	}
	s.waitForDisk(t, n)
	underWay := s.Begin()
	if err := s.Purge([]Purge{{PurgeTag, "zone", "t3"}, {PurgeURL, "zone", URLOf("https", "a.test", "/7")}, {PurgeTag, "other", "t4"}}); err != nil {
		t.Fatal(err)
	}
	s.sweep(context.Background())
	if got := s.purges.size(); got == 0 {
		t.Error("purges were forgotten while something older was under way")
	}
	underWay.Expect(3)
	underWay.ReadFrom(strings.NewReader("old"))
	late := metaOf(13)
	underWay.Store(late)
	underWay.End(nil)
	if o := s.Lookup(late.Key, &edge.Header{}); o != nil {
		t.Error("what began before a purge is served after it")
	}
	s.sweep(context.Background())
	if got := s.purges.size(); got != 0 {
		t.Errorf("%d purges are left after a sweep", got)
	}
	if st := s.Stats(); st.DiskObjects != n-31 || st.MemoryObjects != n-31 {
		t.Errorf("after the sweep: %+v, want %d objects in each tier", st, n-31)
	}
	log, err := os.ReadFile(filepath.Join(dir, "purges.log"))
	if err != nil || bytes.Count(log, []byte("\n")) != 1 {
		t.Errorf("the log is %q (%v), want one line", log, err)
	}
	for i := range n {
		gone := i%10 == 3 || i == 7
		if o := s.Lookup(metaOf(i).Key, &edge.Header{}); (o == nil) != gone {
			t.Errorf("object %d: found %v, want %v", i, o != nil, !gone)
		}
	}
}

func TestVariantsAreBounded(t *testing.T) {
	s := openStore(t, Options{Dir: t.TempDir()})
	run(t, s)
	for i := range 3 * maxVariants {
		m := metaOf(1)
		m.Selected = []string{fmt.Sprint(i)}
		fill(t, s, m, "body")
	}
	s.waitForDisk(t, maxVariants)
	if st := s.Stats(); st.MemoryObjects != maxVariants {
		t.Errorf("%d variants in memory, want %d", st.MemoryObjects, maxVariants)
	}
	newest := edge.NewHeader("Foo", fmt.Sprint(3*maxVariants-1))
	if s.Lookup(metaOf(1).Key, &newest) == nil {
		t.Error("the newest variant has gone")
	}
}

func TestFillWithoutDiskWaitsForReaders(t *testing.T) {
	s := openStore(t, Options{})
	f := s.Begin()
	r, err := f.NewReader(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("0123456789"), 1<<20)
	done := make(chan error, 1)
	go func() {
		_, err := f.ReadFrom(bytes.NewReader(body))
		f.Store(metaOf(1))
		f.End(err)
		done <- err
	}()
	var got bytes.Buffer
	buf := make([]byte, 3000)
	for {
		n, err := r.Read(buf)
		got.Write(buf[:n])
		if held := s.filling.Load(); held > spillAt+2*chunkSize {
			t.Fatalf("%d octets are held, the bound is %d", held, spillAt+2*chunkSize)
		}
		if err != nil {
			break
		}
	}
	r.Close()
	if err := <-done; err != nil || !bytes.Equal(got.Bytes(), body) {
		t.Errorf("got %d octets (%v), want %d", got.Len(), err, len(body))
	}
	if _, err := f.NewReader(context.Background(), nil); err == nil {
		t.Error("a reader comes to a body whose beginning is gone")
	}
	if held := s.filling.Load(); held != 0 {
		t.Errorf("%d octets are still counted", held)
	}
	if s.Lookup(metaOf(1).Key, &edge.Header{}) != nil {
		t.Error("what could not be kept whole is stored")
	}
}

func TestFillNobodyReads(t *testing.T) {
	s := openStore(t, Options{})
	f := s.Begin()
	if _, err := f.ReadFrom(bytes.NewReader(make([]byte, 4<<20))); !errors.Is(err, ErrAbandoned) {
		t.Errorf("got %v, want ErrAbandoned", err)
	}
	f.End(ErrAbandoned)
}

// TestPolicyNeverExceeds: whatever is added, removed and used, the sum of costs is what is counted
// and never over the limit.
func TestPolicyNeverExceeds(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	in := map[*entry[int]]bool{}
	p := policy[int]{limit: 10_000, evict: func(e *entry[int]) { delete(in, e) }}
	for range 50_000 {
		switch r.IntN(4) {
		case 0, 1:
			e := &entry[int]{id: r.Uint64N(500), cost: r.Int64N(12_000) * r.Int64N(2) / 2}
			if r.IntN(3) > 0 {
				e.cost = 1 + r.Int64N(300)
			}
			in[e] = true
			p.add(e)
		case 2:
			for e := range in {
				e.touch()
				break
			}
		case 3:
			for e := range in {
				p.remove(e)
				delete(in, e)
				break
			}
		}
		var sum int64
		for e := range in {
			sum += e.cost
		}
		if sum != p.used || p.used > p.limit || p.smallUsed < 0 || p.smallUsed > p.used || len(in) != p.small.n+p.main.n {
			t.Fatalf("counted %d (small %d), it is %d, the limit %d; %d entries, queues hold %d and %d", p.used, p.smallUsed, sum, p.limit, len(in), p.small.n, p.main.n)
		}
	}
}

func TestPurgeLogOrder(t *testing.T) {
	// Two purges that race may stand in the log in either order.
	dir := t.TempDir()
	lines := formatLine(0, Purge{Kind: "base"}) + formatLine(5, Purge{PurgeTag, "zone", "t1"}) + formatLine(4, Purge{PurgeZone, "zone", ""})
	if err := os.WriteFile(filepath.Join(dir, "purges.log"), []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, Options{Dir: dir})
	for seq, covered := range map[uint64]bool{3: true, 4: true, 5: false} {
		m := metaOf(1)
		m.Seq = seq
		if got := s.purges.covers(m, nil); got != covered {
			t.Errorf("an object of number %d is covered: %v, want %v", seq, got, covered)
		}
	}
	s.log.close()
}

func TestCodec(t *testing.T) {
	m := metaOf(7)
	m.Length = 3 << 20
	m.sums = []uint64{1, 2, 3}
	m.Verdict = semantics.Verdict{Store: true, Lifetime: 1, WhileRevalidate: 2, IfError: 3, Validate: true, Strict: true}
	m.Seq = 9
	got, err := decodeMeta(m.encode())
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("got %+v (%v), want %+v", got, err, m)
	}
}

func FuzzDecodeMeta(f *testing.F) {
	f.Add(metaOf(1).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b)
		if err != nil {
			return
		}
		again, err := decodeMeta(m.encode())
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Errorf("%+v becomes %+v (%v)", m, again, err)
		}
	})
}

func FuzzPurgeLine(f *testing.F) {
	f.Add(uint64(1), "tag", "zone", "a b\n\xff")
	f.Fuzz(func(t *testing.T, seq uint64, kind, zone, value string) {
		parseLine(zone + value)
		in := Purge{PurgeKind("tag"), zone, value}
		line := formatLine(seq, in)
		gotSeq, got, err := parseLine(strings.TrimSuffix(line, "\n"))
		if err != nil || gotSeq != seq || got != in || strings.Count(line, "\n") != 1 {
			t.Errorf("%d %+v becomes %d %+v (%v)", seq, in, gotSeq, got, err)
		}
	})
}
