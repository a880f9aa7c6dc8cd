package analytics_test

import (
	"testing"

	"selvage/foundation/fault"
	"selvage/product/analytics"
)

// Whatever comes in is an answer or a fault that the caller can act on.
func FuzzQuery(f *testing.F) {
	for _, q := range []string{
		"SELECT blob1, SUM(_sample_interval) FROM d WHERE timestamp > NOW() - INTERVAL '1' DAY GROUP BY blob1 FORMAT JSON",
		"SELECT quantileExactWeighted(0.5)(double1, _sample_interval), a / b FROM d", "SHOW TABLES", "SELECT 'x\\'', \"y\", `z`, 1e-5, .5 -- c",
		"SELECT format('{}{', 1), substring('x', -5, 9), toStartOfInterval(now(), INTERVAL '0' WEEK)", "SELECT (((", "SELECT now() - INTERVAL '99999999999' YEAR",
	} {
		f.Add(q)
	}
	l := newLab(f, analytics.Options{})
	f.Fuzz(func(t *testing.T, query string) {
		own := &lab{t: t, a: l.a}
		if _, err := own.ask(account, query); err != nil && fault.KindOf(err) == fault.Internal {
			t.Errorf("%q: %v has no kind", query, err)
		}
	})
}
