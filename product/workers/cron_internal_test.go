package workers

import (
	"testing"
	"time"
)

// The cases with words are the examples of Cloudflare's "Cron Triggers" page.
func TestCronTriggersFire(t *testing.T) {
	for _, c := range []struct {
		cron string
		at   string
		want bool
	}{
		{"* * * * *", "2026-11-26T12:34:00Z", true},
		{"*/30 * * * *", "2026-11-26T12:30:00Z", true},
		{"*/30 * * * *", "2026-11-26T12:31:00Z", false},
		{"45 * * * *", "2026-11-26T12:45:00Z", true},
		{"0 17 * * sun", "2026-11-29T17:00:00Z", true},
		{"0 17 * * sun", "2026-11-30T17:00:00Z", false},
		{"0 17 * * 1", "2026-11-29T17:00:00Z", true},
		{"10 7 * * mon-fri", "2026-11-27T07:10:00Z", true},
		{"10 7 * * mon-fri", "2026-11-28T07:10:00Z", false},
		{"0 15 1 * *", "2026-12-01T15:00:00Z", true},
		{"0 18 * * 6L", "2026-11-27T18:00:00Z", true}, // the last Friday
		{"0 18 * * 6L", "2026-11-20T18:00:00Z", false},
		{"0 18 * * friL", "2026-11-27T18:00:00Z", true},
		{"59 23 LW * *", "2026-11-30T23:59:00Z", true}, // a Monday
		{"59 23 LW * *", "2026-10-30T23:59:00Z", true}, // 31 is a Saturday
		{"59 23 LW * *", "2026-10-31T23:59:00Z", false},
		{"0 0 L * *", "2028-02-29T00:00:00Z", true},
		{"0 0 15W * *", "2026-11-16T00:00:00Z", true}, // 15 is a Sunday
		{"0 0 1W * *", "2026-08-03T00:00:00Z", true},  // 1 is a Saturday: not into July
		{"0 9 * * 2#1", "2026-11-02T09:00:00Z", true}, // the first Monday
		{"0 9 * * 2#1", "2026-11-09T09:00:00Z", false},
		{"0 0 13 * 6", "2026-11-27T00:00:00Z", true}, // both days given: either will do
		{"0 0 13 * 6", "2026-11-13T00:00:00Z", true},
		{"0 0 13 * 6", "2026-11-14T00:00:00Z", false},
		{"0-10/5,59 8 * jan,NOV *", "2026-11-14T08:59:00Z", true},
		{"5/20 * * * *", "2026-11-14T08:45:00Z", true},
	} {
		p, err := parseCron(c.cron)
		if err != nil {
			t.Errorf("parseCron(%q): %v", c.cron, err)
			continue
		}
		at, _ := time.Parse(time.RFC3339, c.at)
		if got := p.at(at); got != c.want {
			t.Errorf("%q fires at %s: got %v, want %v", c.cron, c.at, got, c.want)
		}
	}
}

func TestBadCronTriggersAreRefused(t *testing.T) {
	for _, s := range []string{"", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *", "* * * * 0", "* * * * 8",
		"*/0 * * * *", "5-1 * * * *", "a * * * *", "1,, * * * *", "* * 40W * *", "* * * * 2#6", "* * * * 9L", "99999999999999999999 * * * *", "*/9999 * * * *"} {
		if _, err := parseCron(s); err == nil {
			t.Errorf("parseCron(%q) has no error", s)
		}
	}
}

func FuzzCron(f *testing.F) {
	f.Add("*/5 1-3 LW jan-mar 2#1,6L")
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := parseCron(s); err == nil {
			for i := range 400 {
				c.at(time.Date(2026, 1, i, i%24, i%60, 0, 0, time.UTC))
			}
		}
	})
}
