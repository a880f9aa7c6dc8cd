package semantics

import (
	"strings"
	"time"

	"selvage/edge"
)

// ParseDate reads an HTTP date in any of the three forms of RFC 9110, 5.6.7, ignoring case as
// many senders do, and nothing laxer: a date that is not one has to count as invalid.
func ParseDate(s string) (time.Time, bool) {
	layout := ""
	switch {
	case len(s) == len(time.ANSIC) && s[3] == ' ':
		layout = time.ANSIC
	case len(s) == len("Mon, 02 Jan 2006 15:04:05 GMT") && s[3] == ',':
		layout = "Mon, 02 Jan 2006 15:04:05 GMT"
	default:
		if _, rest, ok := strings.Cut(s, ", "); !ok || len(rest) != len("02-Jan-06 15:04:05 GMT") {
			return time.Time{}, false
		}
		layout = "Monday, 02-Jan-06 15:04:05 GMT"
	}
	if layout != time.ANSIC {
		if !strings.EqualFold(s[len(s)-4:], " GMT") {
			return time.Time{}, false
		}
		s = s[:len(s)-3] + "GMT"
	}
	t, err := time.Parse(layout, s)
	return t, err == nil
}

// FormatDate writes t as an HTTP date.
func FormatDate(t time.Time) string { return t.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT") }

// parseAge reads the first Age value (RFC 9111, 5.1); one that is no number counts as absent.
func parseAge(h *edge.Header) time.Duration {
	v, _, _ := strings.Cut(h.Get("Age"), ",")
	n, ok := digits(strings.Trim(v, " \t"))
	if !ok {
		return 0
	}
	return time.Duration(n) * time.Second
}

// Birth returns when a response was generated, by the most cautious reading of its Date and Age
// (RFC 9111, 4.2.3): its age at any later moment is the time since then. asked is when the request
// went out, got when the response came.
func Birth(h *edge.Header, asked, got time.Time) time.Time {
	age := parseAge(h) + max(got.Sub(asked), 0)
	if date, ok := ParseDate(h.Get("Date")); ok {
		age = max(age, got.Sub(date))
	}
	return got.Add(-age)
}
