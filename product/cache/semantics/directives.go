// Package semantics says what HTTP caching means, and nothing else: pure functions over header
// fields and times, no storage, no clock, no I/O. RFC 9111 (caching), RFC 5861 (stale content),
// RFC 9213 (targeted cache control), RFC 9211 (Cache-Status), RFC 9110 (conditionals, ranges).
package semantics

import (
	"strings"
	"time"

	"selvage/edge"
)

// maxDelta is the most seconds a delta-seconds value counts for (RFC 9111, 1.2.2).
const maxDelta = 1 << 31

// Directives is a parsed Cache-Control, or a field of the same directives. The zero value is what
// an absent field means.
type Directives struct {
	Present bool // whether there was such a field with anything in it

	NoStore         bool
	NoCache         bool     // without field names
	NoCacheFields   []string // of no-cache="..."
	Private         bool     // without field names
	PrivateFields   []string // of private="..."
	Public          bool
	MustRevalidate  bool
	ProxyRevalidate bool
	MustUnderstand  bool
	OnlyIfCached    bool // requests

	MaxAge               Delta
	SMaxAge              Delta
	StaleWhileRevalidate Delta
	StaleIfError         Delta
}

// Delta is a number of seconds that may be absent.
type Delta struct {
	Seconds int64
	Set     bool
}

// Duration returns the time it stands for, 0 if it is absent.
func (d Delta) Duration() time.Duration { return time.Duration(d.Seconds) * time.Second }

// ParseCacheControl reads every field line called name as Cache-Control (RFC 9111, 5.2). It never
// fails: unknown directives are ignored, and a freshness directive whose value is invalid counts
// as 0 seconds, as RFC 9111, 4.2.1 encourages. Of a directive given twice the first counts.
func ParseCacheControl(h *edge.Header, name string) Directives {
	var d Directives
	for _, f := range h.Fields() {
		if strings.EqualFold(f.Name, name) {
			d.parse(f.Value)
		}
	}
	return d
}

func (d *Directives) parse(s string) {
	for s != "" {
		var item string
		item, s = nextItem(s)
		if item == "" {
			continue
		}
		d.Present = true
		name, value, hasValue := strings.Cut(item, "=")
		d.set(strings.ToLower(name), unquote(value), hasValue)
	}
}

func (d *Directives) set(name, value string, hasValue bool) {
	switch name {
	case "no-store":
		d.NoStore = true
	case "no-cache":
		setFields(&d.NoCache, &d.NoCacheFields, value, hasValue)
	case "private":
		setFields(&d.Private, &d.PrivateFields, value, hasValue)
	case "public":
		d.Public = true
	case "must-revalidate":
		d.MustRevalidate = true
	case "proxy-revalidate":
		d.ProxyRevalidate = true
	case "must-understand":
		d.MustUnderstand = true
	case "only-if-cached":
		d.OnlyIfCached = true
	case "max-age":
		d.MaxAge.parse(value)
	case "s-maxage":
		d.SMaxAge.parse(value)
	case "stale-while-revalidate":
		d.StaleWhileRevalidate.parse(value)
	case "stale-if-error":
		d.StaleIfError.parse(value)
	}
}

// setFields reads the optional list of field names of no-cache and private.
func setFields(bare *bool, fields *[]string, value string, hasValue bool) {
	names := ListOf(value)
	if !hasValue || len(names) == 0 {
		*bare = true
		return
	}
	*fields = append(*fields, names...)
}

// parse keeps the first value; an invalid one is 0 seconds, one too large is maxDelta.
func (d *Delta) parse(s string) {
	if d.Set {
		return
	}
	d.Set = true
	n, ok := digits(s)
	if ok {
		d.Seconds = n
	}
}

// digits reads a non-negative decimal number, capped at maxDelta.
func digits(s string) (int64, bool) {
	if s == "" {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = min(n*10+int64(s[i]-'0'), maxDelta)
	}
	return n, true
}

// nextItem takes the first member off a comma-separated list that may hold quoted strings.
func nextItem(s string) (item, rest string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case quoted && s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			return strings.Trim(s[:i], " \t"), s[i+1:]
		}
	}
	return strings.Trim(s, " \t"), ""
}

// unquote removes the quotes and escapes of a quoted-string; anything else it returns as it is.
func unquote(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	s = s[1 : len(s)-1]
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// ListOf returns the members of a comma-separated list, without empty ones.
func ListOf(s string) []string {
	var out []string
	for s != "" {
		var item string
		if item, s = nextItem(s); item != "" {
			out = append(out, item)
		}
	}
	return out
}
