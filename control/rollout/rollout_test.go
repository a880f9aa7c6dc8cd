package rollout_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"selvage/control/rollout"
	"selvage/product"
	"selvage/product/producttest"
	"selvage/spec"
)

// fake is a product that refuses zones by name.
type fake struct {
	bad       map[string]func(z *spec.ZoneConfig) error // by zone name
	before    func(ctx context.Context, s *spec.Snapshot) error
	effective *spec.Snapshot
	prepared  int
	discarded int
}

func (f *fake) Name() string { return "fake" }

func (f *fake) Run(ctx context.Context) error { <-ctx.Done(); return nil }

func (f *fake) Prepare(ctx context.Context, s *spec.Snapshot) (product.Change, error) {
	f.prepared++
	if f.before != nil {
		if err := f.before(ctx, s); err != nil {
			return nil, err
		}
	}
	var faults []error
	for _, z := range s.Zones {
		if bad := f.bad[z.Zone.Name]; bad != nil {
			faults = append(faults, bad(z))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("cannot: %w", err)
	}
	return &fakeChange{f, s}, nil
}

type fakeChange struct {
	f *fake
	s *spec.Snapshot
}

func (c *fakeChange) Commit()  { c.f.effective = c.s }
func (c *fakeChange) Discard() { c.f.discarded++ }

func named(z *spec.ZoneConfig) error {
	return &product.ZoneError{ZoneID: z.Zone.ID, Err: errors.New("too crooked")}
}
func unnamed(*spec.ZoneConfig) error { return errors.New("something is wrong") }
func panicky(*spec.ZoneConfig) error { panic("out of range") }
func passing(*spec.ZoneConfig) error { return nil }

func build(t *testing.T, products ...product.Product) *rollout.Rollout {
	t.Helper()
	r, err := rollout.New(rollout.Options{Products: products, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// zones lists name@version of the zones of a snapshot.
func zones(s *spec.Snapshot) string {
	var list []string
	for _, z := range s.Zones {
		list = append(list, fmt.Sprintf("%s@%d", z.Zone.Name, z.Version))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// edit returns the next snapshot, in which a zone has another record.
func edit(s *spec.Snapshot, names ...string) *spec.Snapshot {
	var changes []spec.Change
	for _, name := range names {
		z := s.ZoneByName(name).Zone
		r := &spec.Record{ID: spec.NewID(), ZoneID: z.ID, Name: "new." + name, Type: "A", Content: "192.0.2.7", TTL: 1}
		changes = append(changes, spec.Change{Key: r.Key(), Noun: r})
	}
	return s.With(s.Version+1, changes)
}

func TestBadZoneStaysWhileOthersMove(t *testing.T) {
	for name, bad := range map[string]func(*spec.ZoneConfig) error{"named": named, "unnamed": unnamed, "panic": panicky} {
		t.Run(name, func(t *testing.T) {
			f := &fake{bad: map[string]func(*spec.ZoneConfig) error{}}
			second := &fake{}
			r := build(t, second, f)
			one := producttest.Snapshot(1, "a.test", "b.test", "c.test", "d.test", "e.test")
			if err := r.Apply(t.Context(), one); err != nil {
				t.Fatal(err)
			}
			id := one.ZoneByName("b.test").Zone.ID
			good := one.Zones[id]
			f.bad["b.test"] = func(z *spec.ZoneConfig) error {
				if z == good {
					return nil
				}
				return bad(z)
			}
			two := edit(one, "a.test", "b.test", "c.test")
			err := r.Apply(t.Context(), two)
			var ze *product.ZoneError
			if !errors.As(err, &ze) || ze.ZoneID != id {
				t.Errorf("Apply = %v, want an error of zone b.test", err)
			}
			for _, p := range []*fake{f, second} {
				if got, want := zones(p.effective), "a.test@2 b.test@1 c.test@2 d.test@1 e.test@1"; got != want {
					t.Errorf("in effect: %s, want %s", got, want)
				}
			}
			if f.effective.Version != 2 || second.discarded == 0 {
				t.Errorf("version %d in effect, %d discarded; want 2 and some", f.effective.Version, second.discarded)
			}
			if s := r.Zone(id); s.Want != 2 || s.InEffect != 1 || s.Err == nil || s.Since.IsZero() {
				t.Errorf("status of the bad zone: %+v", s)
			}
			if s := r.Zone(one.ZoneByName("a.test").Zone.ID); s.Want != 2 || s.InEffect != 2 || s.Err != nil || !s.Since.IsZero() {
				t.Errorf("status of a good zone: %+v", s)
			}

			// Others move on, without a word about the bad zone, and at the price of one Prepare.
			before := f.prepared
			three := edit(two, "d.test")
			if err := r.Apply(t.Context(), three); err != nil {
				t.Errorf("Apply of another zone's change = %v", err)
			}
			if f.prepared != before+1 {
				t.Errorf("%d calls of Prepare, want 1", f.prepared-before)
			}
			// The zone is mended by its next change.
			f.bad["b.test"] = passing
			if err := r.Apply(t.Context(), edit(three, "b.test")); err != nil {
				t.Errorf("Apply of the mended zone = %v", err)
			}
			if s := r.Zone(id); s.InEffect != 4 || s.Err != nil {
				t.Errorf("status of the mended zone: %+v", s)
			}
		})
	}
}

func TestManyBadZonesOfMany(t *testing.T) {
	f := &fake{bad: map[string]func(*spec.ZoneConfig) error{}}
	var names, want []string
	for i := range 40 {
		name := fmt.Sprintf("z%02d.test", i)
		names = append(names, name)
		if i%10 == 3 {
			f.bad[name] = unnamed
			continue
		}
		want = append(want, name+"@1")
	}
	r := build(t, f)
	if err := r.Apply(t.Context(), producttest.Snapshot(1, names...)); err == nil {
		t.Error("Apply = nil, want the errors of four zones")
	}
	if got := zones(f.effective); got != strings.Join(want, " ") {
		t.Errorf("in effect: %s", got)
	}
	if f.prepared > 60 {
		t.Errorf("%d calls of Prepare to find 4 bad zones of 40", f.prepared)
	}
}

func TestNewBadZoneIsLeftOut(t *testing.T) {
	f := &fake{bad: map[string]func(*spec.ZoneConfig) error{"bad.test": named}}
	r := build(t, f)
	s := producttest.Snapshot(1, "bad.test", "good.test")
	r.Apply(t.Context(), s)
	if got := zones(f.effective); got != "good.test@1" {
		t.Errorf("in effect: %s", got)
	}
	if st := r.Zone(s.ZoneByName("bad.test").Zone.ID); st.Want != 1 || st.InEffect != 0 || st.Err == nil {
		t.Errorf("status: %+v", st)
	}
}

// A zone that serves is not taken out because another one's change made a product blame it.
func TestWronglyBlamedZoneStays(t *testing.T) {
	f := &fake{}
	r := build(t, f)
	one := producttest.Snapshot(1, "a.test", "b.test", "c.test")
	if err := r.Apply(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	f.before = func(_ context.Context, s *spec.Snapshot) error {
		if s.ZoneByName("a.test").Version > 1 {
			return &product.ZoneError{ZoneID: one.ZoneByName("b.test").Zone.ID, Err: errors.New("name taken")}
		}
		return nil
	}
	if err := r.Apply(t.Context(), edit(one, "a.test", "c.test")); err == nil {
		t.Error("Apply = nil, want an error")
	}
	if got, want := zones(f.effective), "a.test@1 b.test@1 c.test@2"; got != want {
		t.Errorf("in effect: %s, want %s", got, want)
	}
}

func TestFailureThatIsNoZonesChangesNothing(t *testing.T) {
	f := &fake{}
	r := build(t, f)
	one := producttest.Snapshot(1, "a.test")
	if err := r.Apply(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	f.before = func(context.Context, *spec.Snapshot) error { return errors.New("out of file descriptors") }
	two := edit(one, "a.test")
	if err := r.Apply(t.Context(), two); err == nil || !strings.Contains(err.Error(), "file descriptors") {
		t.Errorf("Apply = %v", err)
	}
	id := one.ZoneByName("a.test").Zone.ID
	if f.effective != one || r.InEffect() != one {
		t.Error("a failed rollout changed what is in effect")
	}
	if s := r.Zone(id); s.Want != 2 || s.InEffect != 1 || s.Err == nil {
		t.Errorf("status: %+v", s)
	}
	f.before = nil
	if err := r.Apply(t.Context(), edit(two)); err != nil {
		t.Errorf("Apply afterwards = %v", err)
	}
	if s := r.Zone(id); s.InEffect != 2 || s.Err != nil {
		t.Errorf("status afterwards: %+v", s)
	}
}

func TestCancelledRoundIsMadeByTheNext(t *testing.T) {
	f := &fake{}
	r := build(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	f.before = func(ctx context.Context, _ *spec.Snapshot) error { cancel(); return ctx.Err() }
	two := producttest.Snapshot(2, "a.test")
	if err := r.Apply(ctx, two); !errors.Is(err, context.Canceled) {
		t.Errorf("Apply = %v", err)
	}
	f.before = nil
	if err := r.Apply(t.Context(), producttest.Snapshot(1)); err != nil || r.InEffect() != two {
		t.Errorf("Apply = %v, version %d in effect; want nil and 2", err, r.InEffect().Version)
	}
}

func TestWaitingSnapshotsBecomeOneRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		f.before = func(context.Context, *spec.Snapshot) error { time.Sleep(time.Second); return nil }
		r := build(t, f)
		var group sync.WaitGroup
		for v := range uint64(50) {
			group.Go(func() {
				if err := r.Apply(t.Context(), producttest.Snapshot(v+1, "a.test")); err != nil {
					t.Error(err)
				}
				if got := r.InEffect().Version; got < v+1 {
					t.Errorf("version %d in effect after Apply of %d", got, v+1)
				}
			})
		}
		group.Wait()
		if f.prepared > 2 || f.effective.Version != 50 {
			t.Errorf("%d rounds, version %d in effect; want at most 2 and version 50", f.prepared, f.effective.Version)
		}
	})
}

func TestHeldZoneIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mended atomic.Bool
		f := &fake{bad: map[string]func(*spec.ZoneConfig) error{"a.test": func(z *spec.ZoneConfig) error {
			if mended.Load() {
				return nil
			}
			return named(z)
		}}}
		r := build(t, f)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		r.Apply(ctx, producttest.Snapshot(1, "a.test", "b.test"))
		mended.Store(true)
		time.Sleep(2 * time.Minute)
		if got := zones(r.InEffect()); got != "a.test@1 b.test@1" {
			t.Errorf("in effect after two minutes: %s", got)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkApplyOneOf1000Zones(b *testing.B) {
	f := &fake{}
	r, err := rollout.New(rollout.Options{Products: []product.Product{f}, Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprintf("z%d.test", i))
	}
	s := producttest.Snapshot(1, names...)
	b.ReportAllocs()
	for range b.N {
		s = s.With(s.Version+1, nil)
		if err := r.Apply(b.Context(), s); err != nil {
			b.Fatal(err)
		}
	}
}
