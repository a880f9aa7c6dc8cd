package budget_test

import (
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"selvage/foundation/budget"
	"selvage/foundation/fault"
)

func TestReader(t *testing.T) {
	for _, c := range []struct {
		size  int
		limit int64
		kind  fault.Kind
		ok    bool
	}{{0, 0, 0, true}, {10, 10, 0, true}, {10, 11, 0, true}, {11, 10, fault.TooMuch, false}, {5000, 1, fault.TooMuch, false}} {
		for name, source := range map[string]io.Reader{
			"whole":     strings.NewReader(strings.Repeat("x", c.size)),
			"byte-wise": iotest.OneByteReader(strings.NewReader(strings.Repeat("x", c.size))),
		} {
			got, err := io.ReadAll(budget.Reader("The body", source, c.limit))
			if (err == nil) != c.ok || (err != nil && fault.KindOf(err) != c.kind) {
				t.Errorf("%s: %d bytes with limit %d: %v", name, c.size, c.limit, err)
			}
			if int64(len(got)) != min(int64(c.size), c.limit) {
				t.Errorf("%s: %d bytes with limit %d: read %d", name, c.size, c.limit, len(got))
			}
		}
	}
}

func TestCheck(t *testing.T) {
	if err := budget.Check("The list", 5, 5); err != nil {
		t.Error(err)
	}
	err := budget.Check("The list", 6, 5)
	if fault.KindOf(err) != fault.TooMuch || err.Error() != "The list is 6, the limit is 5." {
		t.Errorf("Check() = %v", err)
	}
}

func TestSlots(t *testing.T) {
	s := budget.Slots{Limit: 3}
	var taken, most atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				if !s.Take() {
					continue
				}
				n := taken.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				taken.Add(-1)
				s.Free()
			}
		})
	}
	wg.Wait()
	if most.Load() > 3 || s.Used() != 0 {
		t.Errorf("%d at once with 3 slots; %d used in the end", most.Load(), s.Used())
	}
}
