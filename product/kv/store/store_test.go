package store_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"selvage/engine/state"
	"selvage/foundation/clock"
	"selvage/foundation/fault"
	"selvage/product/kv/store"
)

// bench is a store with a time of its own and what surrounds it.
type bench struct {
	*store.Store
	t      testing.TB
	dir    string
	db     *state.Shared
	now    atomic.Int64
	exists atomic.Bool // the namespaces
	limit  int64       // of an account's bytes; 0 is none
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir()}
	b.now.Store(1_800_000_000)
	b.exists.Store(true)
	b.db = state.NewShared(filepath.Join(b.dir, "data"), state.Options{})
	b.reopen()
	t.Cleanup(func() { b.db.Close("over") })
	return b
}

// reopen closes the node's store and opens it as after a restart.
func (b *bench) reopen() {
	b.t.Helper()
	must(b.t, b.db.Close("reopened"))
	must(b.t, b.db.Open())
	var err error
	b.Store, err = store.New(store.Options{
		DB: b.db, Prefix: "k/", Dir: filepath.Join(b.dir, "kv"), Clock: clock.Fixed(func() time.Time { return time.Unix(b.now.Load(), 0) }),
		Exists: func(store.Space) bool { return b.exists.Load() },
		Allow: func(_ string, used, more store.Usage) error {
			if b.limit != 0 && more.Bytes > 0 && used.Bytes+more.Bytes > b.limit {
				return fault.New(fault.TooMuch, "over the limit")
			}
			return nil
		},
	})
	must(b.t, err)
}

// houseKeeping runs the store's background work until done.
func (b *bench) houseKeeping(done func() bool) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(b.t.Context())
	over := make(chan error)
	go func() { over <- b.Run(ctx) }()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Error("the background work did not get done")
			break
		}
	}
	cancel()
	must(b.t, <-over)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func space(t testing.TB, account, namespace byte) store.Space {
	t.Helper()
	sp, err := store.SpaceOf(strings.Repeat(string(account), 32), strings.Repeat(string(namespace), 32))
	must(t, err)
	return sp
}

func (b *bench) put(sp store.Space, key string, value []byte, expires int64, metadata string) error {
	w := store.Write{Key: key, Expires: expires}
	if metadata != "" {
		w.Metadata = []byte(metadata)
	}
	return b.Put(b.t.Context(), sp, w, bytes.NewReader(value))
}

// get returns a whole value and its metadata; nil if there is none.
func (b *bench) get(sp store.Space, key string) ([]byte, string, error) {
	e, body, err := b.Open(b.t.Context(), sp, key)
	if e == nil || err != nil {
		return nil, "", err
	}
	if body == nil {
		return append([]byte{}, e.Data...), string(e.Metadata), nil
	}
	defer body.Close()
	value, err := io.ReadAll(body)
	return value, string(e.Metadata), err
}

func (b *bench) files() (names []string) {
	b.t.Helper()
	must(b.t, filepath.WalkDir(filepath.Join(b.dir, "kv"), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, path)
		}
		return err
	}))
	return names
}

func random(n int) []byte {
	value := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	r.Read(value)
	return value
}

// TestValuesOfEverySize has values where they lie beside their metadata, apart, in files, and at the
// borders between.
func TestValuesOfEverySize(t *testing.T) {
	b, sp := newBench(t), space(t, 'a', '1')
	sizes := []int{0, 1, 1024, 1025, 64<<10 - 1, 64 << 10, 64<<10 + 1, 128 << 10, 1<<20 + 7, store.MaxValue}
	check := func() {
		t.Helper()
		total := int64(0)
		for _, n := range sizes {
			key := fmt.Sprint("key ", n)
			value, metadata, err := b.get(sp, key)
			if err != nil || !bytes.Equal(value, random(n)) || metadata != `{"n":1}` {
				t.Errorf("%s: %d bytes, metadata %s, %v", key, len(value), metadata, err)
			}
			total += int64(len(key) + n + len(`{"n":1}`))
		}
		if u, err := b.Usage(sp); err != nil || u != (store.Usage{Keys: int64(len(sizes)), Bytes: total}) {
			t.Errorf("usage %+v, %v; want %d keys, %d bytes", u, err, len(sizes), total)
		}
	}
	for _, n := range sizes {
		must(t, b.put(sp, fmt.Sprint("key ", n), random(n), 0, `{"n":1}`))
	}
	check()
	check() // from memory
	b.reopen()
	check()
	// Each becomes each other.
	for _, from := range sizes[:8] {
		for _, to := range sizes[:8] {
			must(t, b.put(sp, "turns", random(from), 0, ""))
			must(t, b.put(sp, "turns", random(to), 0, ""))
			if value, _, err := b.get(sp, "turns"); err != nil || !bytes.Equal(value, random(to)) {
				t.Fatalf("%d bytes became %d: %v", to, len(value), err)
			}
		}
	}
	must(t, b.Delete(t.Context(), sp, "turns"))
	check()
	if n := len(b.files()); n != 4 {
		t.Errorf("%d files are left: %v", n, b.files())
	}
	if err := b.put(sp, "large", random(store.MaxValue+5), 0, ""); err == nil || err.(*store.TooLarge).Size != store.MaxValue+5 {
		t.Errorf("put of %d bytes: %v", store.MaxValue+5, err)
	}
	check()
}

// TestAgainstAMap does random things to the store and to a map, with restarts in between, and compares
// content, listings and counts.
func TestAgainstAMap(t *testing.T) {
	b := newBench(t)
	type kept struct {
		value    []byte
		metadata string
		expires  int64
	}
	spaces := []store.Space{space(t, 'a', '1'), space(t, 'a', '2'), space(t, 'b', '1')}
	model := map[store.Space]map[string]kept{}
	for _, sp := range spaces {
		model[sp] = map[string]kept{}
	}
	keys := []string{"a", "a\x00", "a/", "a/b", "aa", "b", "é", "\U0010FFFF", strings.Repeat("k", 512), "~"}
	sizes := []int{0, 10, 2000, 70 << 10}
	r := rand.New(rand.NewPCG(1, 2))
	check := func() {
		t.Helper()
		for sp, want := range model {
			var names []string
			var total int64
			for k, v := range want {
				total += int64(len(k) + len(v.value) + len(v.metadata))
				if v.expires == 0 || v.expires > b.now.Load() {
					names = append(names, k)
				}
			}
			slices.Sort(names)
			var listed []string
			for q := (store.Query{Limit: 3}); ; {
				page, err := b.List(t.Context(), sp, q)
				must(t, err)
				for _, k := range page.Keys {
					listed = append(listed, k.Name)
					if v := want[k.Name]; string(k.Metadata) != v.metadata || k.Expires != v.expires {
						t.Fatalf("%q is listed with %s and %d, want %s and %d", k.Name, k.Metadata, k.Expires, v.metadata, v.expires)
					}
				}
				if q.After = page.Next; !page.More {
					break
				}
			}
			if !slices.Equal(listed, names) {
				t.Fatalf("listed %q, want %q", listed, names)
			}
			for _, k := range keys {
				v, ok := want[k]
				ok = ok && (v.expires == 0 || v.expires > b.now.Load())
				value, metadata, err := b.get(sp, k)
				if err != nil || (value != nil) != ok || ok && (!bytes.Equal(value, v.value) || metadata != v.metadata) {
					t.Fatalf("get %q: %d bytes, %s, %v; want %v of %d bytes, %s", k, len(value), metadata, err, ok, len(v.value), v.metadata)
				}
			}
			if u, err := b.Usage(sp); err != nil || u != (store.Usage{Keys: int64(len(want)), Bytes: total}) {
				t.Fatalf("usage %+v, %v; want %d keys and %d bytes", u, err, len(want), total)
			}
		}
	}
	for i := range 600 {
		sp := spaces[r.IntN(len(spaces))]
		k := keys[r.IntN(len(keys))]
		switch r.IntN(10) {
		case 0, 1:
			must(t, b.Delete(t.Context(), sp, k))
			delete(model[sp], k)
		case 2:
			w := []store.Write{}
			for _, k := range append(keys[:r.IntN(len(keys))], k) {
				v := kept{random(sizes[r.IntN(len(sizes))]), "", 0}
				w = append(w, store.Write{Key: k, Value: v.value})
				model[sp][k] = v
			}
			must(t, b.PutMany(t.Context(), sp, w))
		case 3:
			b.now.Add(20)
		case 4:
			b.houseKeeping(func() bool {
				for sp, want := range model {
					n := 0
					for _, v := range want {
						if v.expires == 0 || v.expires > b.now.Load() {
							n++
						}
					}
					if u, _ := b.Usage(sp); u.Keys != int64(n) {
						return false
					}
				}
				return true
			})
			for _, want := range model {
				maps.DeleteFunc(want, func(_ string, v kept) bool { return v.expires != 0 && v.expires <= b.now.Load() })
			}
		default:
			v := kept{value: random(sizes[r.IntN(len(sizes))])}
			if r.IntN(2) == 0 {
				v.metadata = `"m"`
			}
			if r.IntN(3) == 0 {
				v.expires = b.now.Load() + int64(r.IntN(100)) + 1
			}
			must(t, b.put(sp, k, v.value, v.expires, v.metadata))
			model[sp][k] = v
		}
		if i%50 == 49 {
			check()
			b.reopen()
		}
	}
	check()
	files := 0
	for _, want := range model {
		for _, v := range want {
			if len(v.value) > 64<<10 {
				files++
			}
		}
	}
	if n := len(b.files()); n != files {
		t.Errorf("%d files for %d large values", n, files)
	}
}

func TestListing(t *testing.T) {
	b, sp := newBench(t), space(t, 'a', '1')
	var writes []store.Write
	for i := range 2500 {
		writes = append(writes, store.Write{Key: fmt.Sprintf("p%04d", i)})
	}
	must(t, b.PutMany(t.Context(), sp, append(writes, store.Write{Key: "o"}, store.Write{Key: "q"}, store.Write{Key: "p"})))
	for _, c := range []struct {
		q     store.Query
		n     int
		first string
		more  bool
	}{
		{store.Query{Limit: 1000}, 1000, "o", true},
		{store.Query{Prefix: "p", Limit: 1000}, 1000, "p", true},
		{store.Query{Prefix: "p24", Limit: 100}, 100, "p2400", false},
		{store.Query{Prefix: "p24", Limit: 99}, 99, "p2400", true},
		{store.Query{Prefix: "p", After: "p2498", Limit: 10}, 1, "p2499", false},
		{store.Query{Prefix: "p", After: "a", Limit: 1}, 1, "p", true},
		{store.Query{Prefix: "p", After: "z", Limit: 1}, 0, "", false},
		{store.Query{Prefix: "x", Limit: 1}, 0, "", false},
		{store.Query{After: "p2499", Limit: 10}, 1, "q", false},
	} {
		page, err := b.List(t.Context(), sp, c.q)
		if err != nil || len(page.Keys) != c.n || page.More != c.more || c.n > 0 && page.Keys[0].Name != c.first {
			t.Errorf("List(%+v) = %d keys, more %v, %v; want %+v", c.q, len(page.Keys), page.More, err, c)
		}
	}
}

func TestQuota(t *testing.T) {
	b, sp := newBench(t), space(t, 'a', '1')
	b.limit = 1000
	must(t, b.put(sp, "k", random(900), 0, ""))
	if err := b.put(space(t, 'a', '2'), "l", random(200), 0, ""); fault.KindOf(err) != fault.TooMuch {
		t.Errorf("put over the account's limit: %v", err)
	}
	if err := b.put(sp, "l", random(100<<10), 0, ""); fault.KindOf(err) != fault.TooMuch || len(b.files()) != 0 {
		t.Errorf("put of a file over the limit: %v, files %v", err, b.files())
	}
	must(t, b.put(space(t, 'b', '1'), "l", random(200), 0, ""))
	must(t, b.put(sp, "k", random(950), 0, ""))
	must(t, b.put(sp, "k", random(10), 0, ""))
	must(t, b.put(sp, "l", random(900), 0, ""))
	if u, err := b.AccountUsage(strings.Repeat("a", 32)); err != nil || u != (store.Usage{Keys: 2, Bytes: 912}) {
		t.Errorf("usage %+v, %v", u, err)
	}
}

// TestDroppedSpaceLeavesNothing deletes a namespace, with a restart between the steps.
func TestDroppedSpaceLeavesNothing(t *testing.T) {
	b, sp, other := newBench(t), space(t, 'a', '1'), space(t, 'a', '2')
	for _, s := range []store.Space{sp, other} {
		for _, n := range []int{10, 2000, 100 << 10} {
			must(t, b.put(s, fmt.Sprint(n), random(n), b.now.Load()+1000, ""))
		}
	}
	must(t, b.Condemn(sp))
	b.reopen()
	b.houseKeeping(func() bool { return true })
	if value, _, err := b.get(sp, "2000"); err != nil || len(value) != 2000 {
		t.Errorf("a namespace whose deletion failed lost its data: %v", err)
	}
	must(t, b.Condemn(other))
	b.exists.Store(false)
	b.houseKeeping(func() bool {
		u, err := b.AccountUsage(strings.Repeat("a", 32))
		return err == nil && u == store.Usage{} && len(b.files()) == 0
	})
	if err := b.put(sp, "k", nil, 0, ""); fault.KindOf(err) != fault.NotFound {
		t.Errorf("put into a dropped space: %v", err)
	}
	if err := b.put(sp, "k", random(100<<10), 0, ""); fault.KindOf(err) != fault.NotFound || len(b.files()) != 0 {
		t.Errorf("put of a file into a dropped space: %v, %v", err, b.files())
	}
	db, err := b.db.DB()
	must(t, err)
	for p, err := range db.Scan(state.Prefix([]byte("k/"))) {
		if t.Errorf("left in the store: %q, %v", p.Key, err); err != nil {
			break
		}
	}
}

// TestSweep has files that a crash left beside those that are in use.
func TestSweep(t *testing.T) {
	b, sp := newBench(t), space(t, 'a', '1')
	must(t, b.put(sp, "k", random(100<<10), 0, ""))
	dir := filepath.Dir(b.files()[0])
	for _, path := range []string{filepath.Join(dir, strings.Repeat("0", 32)), filepath.Join(b.dir, "kv", "tmp", "half")} {
		must(t, os.WriteFile(path, []byte("x"), 0o600))
	}
	b.reopen()
	b.houseKeeping(func() bool { return len(b.files()) == 1 })
	if value, _, err := b.get(sp, "k"); err != nil || !bytes.Equal(value, random(100<<10)) {
		t.Errorf("the value in use: %d bytes, %v", len(value), err)
	}
}

// TestPin has a backup take its time: files that were named when it began stay until it has ended.
func TestPin(t *testing.T) {
	b, sp, gone := newBench(t), space(t, 'a', '1'), space(t, 'a', '2')
	for _, s := range []store.Space{sp, gone} {
		must(t, b.put(s, "k", random(100<<10), 0, ""))
	}
	unpin := b.Pin()
	must(t, b.put(sp, "k", random(10), 0, ""))
	must(t, b.Condemn(gone))
	b.exists.Store(false)
	must(t, b.put(sp, "e", random(10), b.now.Load()+1, ""))
	b.now.Add(1)
	b.houseKeeping(func() bool { u, err := b.Usage(sp); return err == nil && u.Keys == 1 })
	if n := len(b.files()); n != 2 {
		t.Errorf("%d files are left while two are pinned", n)
	}
	unpin()
	b.houseKeeping(func() bool { return len(b.files()) == 0 })
}

// TestDamagedFilesAreFound flips bits of and shortens large values: reading says so, at the latest where
// the damage is, and everything else is served.
func TestDamagedFilesAreFound(t *testing.T) {
	b, sp := newBench(t), space(t, 'a', '1')
	must(t, b.put(sp, "good", random(300<<10), 0, ""))
	must(t, b.put(sp, "k", random(200<<10), 0, ""))
	path := ""
	for _, f := range b.files() {
		if info, err := os.Stat(f); err == nil && info.Size() == 200<<10 {
			path = f
		}
	}
	whole, err := os.ReadFile(path)
	must(t, err)
	for name, spoiled := range map[string][]byte{
		"first bit": append([]byte{whole[0] ^ 1}, whole[1:]...), "last bit": append(slices.Clone(whole[:len(whole)-1]), whole[len(whole)-1]^0x80),
		"short": whole[:len(whole)-1], "empty": nil, "long": append(slices.Clone(whole), 0), "gone": {},
	} {
		must(t, os.WriteFile(path, spoiled, 0o600))
		if name == "gone" {
			must(t, os.Remove(path))
		}
		value, _, err := b.get(sp, "k")
		if err == nil || fault.KindOf(err) != fault.Unavailable || len(value) > 0 && !bytes.Equal(value, whole[:len(value)]) {
			t.Errorf("%s: %d bytes, %v", name, len(value), err)
		}
		if value, _, err := b.get(sp, "good"); err != nil || !bytes.Equal(value, random(300<<10)) {
			t.Errorf("%s: the other value: %v", name, err)
		}
	}
	must(t, b.put(sp, "k", random(10), 0, ""))
	if value, _, err := b.get(sp, "k"); err != nil || len(value) != 10 {
		t.Errorf("after another put: %d bytes, %v", len(value), err)
	}
}

// TestReadWhileReplaced reads large values slowly while others take their place.
func TestReadWhileReplaced(t *testing.T) {
	b, sp := newBench(t), space(t, 'a', '1')
	must(t, b.put(sp, "k", random(300<<10), 0, ""))
	_, body, err := b.Open(t.Context(), sp, "k")
	must(t, err)
	defer body.Close()
	must(t, b.put(sp, "k", random(200<<10), 0, ""))
	must(t, b.Delete(t.Context(), sp, "k"))
	if value, err := io.ReadAll(body); err != nil || !bytes.Equal(value, random(300<<10)) {
		t.Errorf("the old value: %d bytes, %v", len(value), err)
	}
}

// TestPutThatBreaksOff leaves what was there.
func TestPutThatBreaksOff(t *testing.T) {
	b, sp := newBench(t), space(t, 'a', '1')
	must(t, b.put(sp, "k", []byte("old"), 0, ""))
	for _, n := range []int{10, 1 << 20} {
		body := io.MultiReader(bytes.NewReader(random(n)), broken{})
		if err := b.Put(t.Context(), sp, store.Write{Key: "k"}, body); err == nil {
			t.Errorf("a put that broke off after %d bytes succeeded", n)
		}
	}
	if value, _, err := b.get(sp, "k"); err != nil || string(value) != "old" || len(b.files()) != 0 {
		t.Errorf("%.20q, %v, files %v", value, err, b.files())
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
