package state

import (
	"log/slog"
	"os"
	"testing"

	"selvage/foundation/fault"
)

// The disk's space is played here, for filling a real one needs rights; see full_test.go.
func TestRoomOnAPlayedDisk(t *testing.T) {
	const ballast = 1 << 20
	free := int64(100 << 20)
	var trouble error
	r := newRoom(&DB{dir: t.TempDir(), log: slog.New(slog.DiscardHandler), trouble: func(why error) { trouble = why }}, ballast)
	r.space = func(string) (int64, int64, error) { return free, 200 << 20, nil }
	r.restore()
	step := func(what string, space int64, wantFull, wantBallast bool) {
		t.Helper()
		free = space
		err := r.check(1000)
		if full := fault.KindOf(err) == fault.Unavailable; full != wantFull || r.isFull() != wantFull {
			t.Errorf("%s: check = %v, isFull = %v; want full: %v", what, err, r.isFull(), wantFull)
		}
		if (trouble != nil) != wantFull {
			t.Errorf("%s: told of trouble: %v", what, trouble)
		}
		if _, err := os.Stat(r.path); (err == nil) != wantBallast {
			t.Errorf("%s: ballast: %v; want it there: %v", what, err, wantBallast)
		}
	}
	step("plenty", 100<<20, false, true)
	step("scarce", ballast/2, true, true)
	step("a little more, too little to go on", ballast-1, true, true)
	step("room again", 2*ballast, false, true)
	r.release()
	step("ballast given up", ballast, true, false)
	step("room for writes but not for the ballast", 2*ballast-1, true, false)
	step("all well", 2*ballast, false, true)
}
