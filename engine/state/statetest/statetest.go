// Package statetest is the suite that every store of keys and values passes on which products keep data.
// It says in one place what products need of such a store: batches that take effect as a whole, keys in
// the order of their octets, ranges both ways, reads that see what was applied, scans of one moment, and
// durability of what was waited for. engine/state passes it; a store of many nodes, once there is one, has
// to pass the same.
package statetest

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"selvage/engine/state"
)

// Store is what products use of an open store.
type Store[B Batch] interface {
	NewBatch() B
	Commit(B) error
	Get(key []byte) ([]byte, error)
	View(key []byte, look func(value []byte) error) (found bool, err error)
	Scan(r state.Range) iter.Seq2[state.Pair, error]
	Close() error
}

// Batch is a set of changes.
type Batch interface {
	Put(key, value []byte) error
	Delete(key []byte) error
	DeleteRange(r state.Range) error
	Len() int
	Drop()
}

// Run checks a kind of store. open opens the one in dir, whether it is new or was closed before.
func Run[B Batch](t *testing.T, open func(t *testing.T, dir string) Store[B]) {
	fresh := func(t *testing.T) *bench[B] {
		b := &bench[B]{t: t, open: open, dir: t.TempDir()}
		b.Store = open(t, b.dir)
		t.Cleanup(func() { b.Close() })
		return b
	}
	for name, test := range map[string]func(*bench[B]){
		"reads see what was applied":        (*bench[B]).reads,
		"batches are whole":                 (*bench[B]).batches,
		"order is that of octets":           (*bench[B]).order,
		"ranges go both ways":               (*bench[B]).ranges,
		"deleted ranges":                    (*bench[B]).deletedRanges,
		"scans are of one moment":           (*bench[B]).moment,
		"random changes against a map":      (*bench[B]).againstMap,
		"writers at once":                   (*bench[B]).writers,
		"what was waited for is there":      (*bench[B]).reopened,
		"a closed store refuses":            (*bench[B]).closed,
		"values are lent only while looked": (*bench[B]).lent,
	} {
		t.Run(name, func(t *testing.T) { test(fresh(t)) })
	}
}

// bench is a store under test.
type bench[B Batch] struct {
	Store[B]
	t    *testing.T
	open func(t *testing.T, dir string) Store[B]
	dir  string
}

func (b *bench[B]) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// put stores pairs in one batch.
func (b *bench[B]) put(pairs ...string) {
	b.t.Helper()
	batch := b.NewBatch()
	for i := 0; i < len(pairs); i += 2 {
		b.must(batch.Put([]byte(pairs[i]), []byte(pairs[i+1])))
	}
	b.must(b.Commit(batch))
}

// has reads a key in all ways and compares; no value is "-".
func (b *bench[B]) has(key, want string) {
	b.t.Helper()
	got := "-"
	value, err := b.Get([]byte(key))
	b.must(err)
	if value != nil {
		got = string(value)
	}
	seen := "-"
	found, err := b.View([]byte(key), func(v []byte) error { seen = string(v); return nil })
	b.must(err)
	if got != want || seen != want || found != (want != "-") {
		b.t.Errorf("%q is %q by Get and %q by View, want %q", key, got, seen, want)
	}
}

// scan returns a range as "k=v k=v".
func (b *bench[B]) scan(r state.Range) string {
	b.t.Helper()
	var out []string
	for p, err := range b.Scan(r) {
		b.must(err)
		out = append(out, string(p.Key)+"="+string(p.Value))
	}
	return strings.Join(out, " ")
}

func (b *bench[B]) reads() {
	b.has("a", "-")
	b.put("a", "1", "empty", "")
	b.has("a", "1")
	b.has("empty", "")
	b.put("a", "2")
	b.has("a", "2")
	batch := b.NewBatch()
	b.must(batch.Delete([]byte("a")))
	b.must(batch.Delete([]byte("none")))
	b.has("a", "2") // not yet
	b.must(b.Commit(batch))
	b.has("a", "-")
	large := strings.Repeat("x", 5<<20)
	b.put("large", large)
	if v, err := b.Get([]byte("large")); err != nil || string(v) != large {
		b.t.Errorf("a large value has %d bytes, %v", len(v), err)
	}
}

func (b *bench[B]) batches() {
	batch := b.NewBatch()
	b.must(batch.Put([]byte("a"), []byte("1")))
	b.must(batch.Put([]byte("a"), []byte("2")))
	b.must(batch.Put([]byte("b"), []byte("1")))
	b.must(batch.Delete([]byte("b")))
	b.must(batch.Delete([]byte("c")))
	b.must(batch.Put([]byte("c"), []byte("3")))
	if batch.Len() == 0 {
		b.t.Error("a batch with six changes is empty")
	}
	b.must(b.Commit(batch))
	if got := b.scan(state.Range{}); got != "a=2 c=3" {
		b.t.Errorf("after a batch: %s", got)
	}
	batch = b.NewBatch()
	b.must(batch.Put([]byte("a"), []byte("dropped")))
	batch.Drop()
	b.has("a", "2")
	key, value := []byte("mine"), []byte("mine")
	batch = b.NewBatch()
	b.must(batch.Put(key, value))
	copy(key, "XXXX") // both were copied
	copy(value, "XXXX")
	b.must(b.Commit(batch))
	b.has("mine", "mine")
}

func (b *bench[B]) order() {
	keys := []string{"\x00", "\x00\x00", "\x01", "A", "a", "a\x00", "a/", "a/b", "aa", "b", "é", "\U0001F600", "\xff", "\xff\xff"}
	for _, i := range rand.New(rand.NewPCG(1, 1)).Perm(len(keys)) {
		b.put(keys[i], "")
	}
	var got []string
	for p, err := range b.Scan(state.Range{}) {
		b.must(err)
		got = append(got, string(p.Key))
	}
	slices.Sort(keys)
	if !slices.Equal(got, keys) {
		b.t.Errorf("order %q, want %q", got, keys)
	}
}

func (b *bench[B]) ranges() {
	b.put("a", "1", "b/1", "2", "b/2", "3", "b\xff", "4", "c", "5")
	for _, c := range []struct {
		r    state.Range
		want string
	}{
		{state.Range{}, "a=1 b/1=2 b/2=3 b\xff=4 c=5"},
		{state.Prefix([]byte("b")), "b/1=2 b/2=3 b\xff=4"},
		{state.Prefix([]byte("b/")), "b/1=2 b/2=3"},
		{state.Prefix([]byte("x")), ""},
		{state.Range{Lower: []byte("b/2")}, "b/2=3 b\xff=4 c=5"},
		{state.Range{Upper: []byte("b/2")}, "a=1 b/1=2"},
		{state.Range{Lower: []byte("b/1"), Upper: []byte("b/1")}, ""},
		{state.Range{Reverse: true}, "c=5 b\xff=4 b/2=3 b/1=2 a=1"},
		{state.Range{Lower: []byte("b/1"), Upper: []byte("c"), Reverse: true}, "b\xff=4 b/2=3 b/1=2"},
	} {
		if got := b.scan(c.r); got != c.want {
			b.t.Errorf("Scan(%+v) = %q, want %q", c.r, got, c.want)
		}
	}
	n := 0
	for range b.Scan(state.Range{}) {
		if n++; n == 2 {
			break
		}
	}
	b.put("after a scan that was left", "1")
}

func (b *bench[B]) deletedRanges() {
	b.put("a", "1", "b/1", "2", "b/2", "3", "c", "4")
	batch := b.NewBatch()
	b.must(batch.Put([]byte("b/0"), []byte("before")))
	b.must(batch.DeleteRange(state.Prefix([]byte("b/"))))
	b.must(batch.Put([]byte("b/3"), []byte("after")))
	b.must(b.Commit(batch))
	if got := b.scan(state.Range{}); got != "a=1 b/3=after c=4" {
		b.t.Errorf("after a deleted range: %s", got)
	}
	b.has("b/1", "-")
	b.has("b/3", "after")
}

func (b *bench[B]) moment() {
	for i := range 50 {
		b.put(fmt.Sprintf("k%02d", i), "old")
	}
	n := 0
	for p, err := range b.Scan(state.Range{}) {
		b.must(err)
		if n == 0 {
			b.put("k00", "new", "k30", "new", "k99", "new")
		}
		if n++; string(p.Value) != "old" {
			b.t.Errorf("%s=%s was put after the scan began", p.Key, p.Value)
		}
	}
	if n != 50 {
		b.t.Errorf("the scan saw %d keys of 50", n)
	}
	b.has("k30", "new")
}

func (b *bench[B]) againstMap() {
	r := rand.New(rand.NewPCG(7, 7))
	want := map[string]string{}
	key := func() string { return fmt.Sprintf("%c%d", 'a'+r.IntN(4), r.IntN(30)) }
	for round := range 150 {
		batch := b.NewBatch()
		for range r.IntN(8) {
			switch k := key(); r.IntN(5) {
			case 0:
				b.must(batch.Delete([]byte(k)))
				delete(want, k)
			case 1:
				p := state.Prefix([]byte(k[:1]))
				b.must(batch.DeleteRange(p))
				for k := range want {
					if bytes.HasPrefix([]byte(k), p.Lower) {
						delete(want, k)
					}
				}
			default:
				v := fmt.Sprint(round, k)
				b.must(batch.Put([]byte(k), []byte(v)))
				want[k] = v
			}
		}
		b.must(b.Commit(batch))
		if round%25 == 24 {
			b.compare(want)
			b.must(b.Close())
			b.Store = b.open(b.t, b.dir)
			b.compare(want)
		}
	}
}

func (b *bench[B]) compare(want map[string]string) {
	b.t.Helper()
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(want)) {
		pairs = append(pairs, k+"="+want[k])
	}
	if got := b.scan(state.Range{}); got != strings.Join(pairs, " ") {
		b.t.Fatalf("stored %s\nwant %s", got, strings.Join(pairs, " "))
	}
}

// writers has each of some writers move a token between keys of its own: a reader always finds exactly
// one of each.
func (b *bench[B]) writers() {
	const n, moves = 8, 60
	for w := range n {
		b.put(fmt.Sprintf("w%d/0", w), "token")
	}
	var writing, reading sync.WaitGroup
	done := make(chan struct{})
	for w := range n {
		writing.Go(func() {
			for i := range moves {
				batch := b.NewBatch()
				err := errors.Join(batch.Delete(fmt.Appendf(nil, "w%d/%d", w, i)), batch.Put(fmt.Appendf(nil, "w%d/%d", w, i+1), []byte("token")))
				if err == nil {
					err = b.Commit(batch)
				}
				if err != nil {
					b.t.Error(err)
					return
				}
			}
		})
	}
	reading.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			tokens := 0
			for _, err := range b.Scan(state.Range{}) {
				if err != nil {
					b.t.Error(err)
					return
				}
				tokens++
			}
			if tokens != n {
				b.t.Errorf("%d tokens of %d", tokens, n)
				return
			}
		}
	})
	writing.Wait()
	close(done)
	reading.Wait()
	for w := range n {
		b.has(fmt.Sprintf("w%d/%d", w, moves), "token")
	}
}

func (b *bench[B]) reopened() {
	b.put("a", "1", "b", "2")
	batch := b.NewBatch()
	b.must(batch.DeleteRange(state.Prefix([]byte("a"))))
	b.must(b.Commit(batch))
	b.must(b.Close())
	b.Store = b.open(b.t, b.dir)
	if got := b.scan(state.Range{}); got != "b=2" {
		b.t.Errorf("after it was opened again: %s", got)
	}
}

func (b *bench[B]) closed() {
	b.put("a", "1")
	batch := b.NewBatch()
	b.must(batch.Put([]byte("b"), []byte("2")))
	b.must(b.Close())
	if _, err := b.Get([]byte("a")); err == nil {
		b.t.Error("Get from a closed store succeeded")
	}
	if _, err := b.View([]byte("a"), func([]byte) error { return nil }); err == nil {
		b.t.Error("View of a closed store succeeded")
	}
	if err := b.Commit(batch); err == nil {
		b.t.Error("Commit to a closed store succeeded")
	}
	for _, err := range b.Scan(state.Range{}) {
		if err == nil {
			b.t.Error("Scan of a closed store yielded something")
		}
	}
}

func (b *bench[B]) lent() {
	b.put("a", "1")
	stop := errors.New("stop")
	if found, err := b.View([]byte("a"), func([]byte) error { return stop }); !found || !errors.Is(err, stop) {
		b.t.Errorf("View = %v, %v; want what look returned", found, err)
	}
}
