package fault_test

import (
	"errors"
	"fmt"
	"testing"

	"selvage/foundation/fault"
)

func TestKindOf(t *testing.T) {
	missing := fault.New(fault.NotFound, "No such zone: %s.", "a.test")
	for _, c := range []struct {
		err  error
		want fault.Kind
	}{
		{missing, fault.NotFound},
		{fmt.Errorf("load zone: %w", missing), fault.NotFound},
		{errors.Join(errors.New("other"), missing), fault.NotFound},
		{errors.New("anything"), fault.Internal},
		{nil, fault.Internal},
	} {
		if got := fault.KindOf(c.err); got != c.want {
			t.Errorf("KindOf(%v) = %v, want %v", c.err, got, c.want)
		}
	}
}

func TestAllTakesJoinedFaultsApart(t *testing.T) {
	one, two := fault.New(fault.Invalid, "One.").At("a"), fault.New(fault.TooMuch, "Two.").At("b")
	err := fmt.Errorf("check: %w", errors.Join(one, errors.New("no fault"), fmt.Errorf("inner: %w", two)))
	all := fault.All(err)
	if len(all) != 2 || all[0] != one || all[1] != two {
		t.Errorf("All() = %v", all)
	}
	if all := fault.All(nil); all != nil {
		t.Errorf("All(nil) = %v", all)
	}
}

func TestCopiesLeaveTheOriginalAlone(t *testing.T) {
	cause := errors.New("disk on fire")
	e := fault.Wrap(cause, fault.Unavailable, "Try again.")
	named := e.At("name").WithCode(1004)
	if e.Field != "" || e.Code != 0 || named.Field != "name" || named.Code != 1004 {
		t.Errorf("e = %+v, named = %+v", e, named)
	}
	if !errors.Is(named, cause) || named.Error() != "name: Try again. (disk on fire)" {
		t.Errorf("named = %q", named)
	}
}
