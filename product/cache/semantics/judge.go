package semantics

import (
	"slices"
	"strings"
	"time"

	"selvage/edge"
)

// TTLMode says where the lifetime of a response comes from.
type TTLMode uint8

const (
	// RespectOrigin takes the origin's word, and a default by status where it says nothing.
	RespectOrigin TTLMode = iota
	// BypassByDefault takes the origin's word, and stores nothing where it says nothing.
	BypassByDefault
	// OverrideOrigin takes Policy.TTL whatever the origin says.
	OverrideOrigin
)

// OriginControl says how strictly the origin's Cache-Control is read.
type OriginControl uint8

const (
	// ControlDefault reads all directives; responses without freshness get a default by status.
	ControlDefault OriginControl = iota
	// ControlStrict is RFC 9111 and nothing else: no defaults by status, but heuristic freshness.
	ControlStrict
	// ControlLax ignores must-revalidate and proxy-revalidate, and does not store no-cache.
	ControlLax
)

// Policy is what a zone's settings and rules ask of responses. The zero value respects the origin.
type Policy struct {
	Mode      TTLMode
	TTL       time.Duration // with OverrideOrigin
	StatusTTL []StatusTTL   // the first that fits a status wins over Mode
	Control   OriginControl

	// NoStaleWhileUpdating turns stale-while-revalidate off.
	NoStaleWhileUpdating bool
}

// StatusTTL is a lifetime for a range of status codes: NoCache (0) stores but validates before each
// use, NoStore (below 0) does not store.
type StatusTTL struct {
	From, To int
	TTL      time.Duration
}

// Verdict is what may be done with a response.
type Verdict struct {
	Store    bool
	Why      string        // when Store is false: a word for Cache-Status, logs and tests
	Lifetime time.Duration // fresh until this age
	Validate bool          // ask the origin before each use (no-cache)
	Strict   bool          // never to be used stale without asking: must-revalidate and its like

	WhileRevalidate time.Duration // usable stale for this long while being validated (RFC 5861, 3)
	IfError         time.Duration // usable stale for this long when the origin fails (RFC 5861, 4)

	// Strip names the fields that must not be stored.
	Strip []string
}

// Exchange is the request and response to judge.
type Exchange struct {
	Authorized bool // whether the request had an Authorization field
	Status     int
	Header     *edge.Header
	Got        time.Time // when the response came, for dates that are missing
}

// heuristic lists the status codes that may be stored without explicit freshness (RFC 9110, 15.1).
var heuristic = []int{200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501}

// defaultTTL is how long a response without freshness stays fresh, by status: Cloudflare's table.
func defaultTTL(status int) time.Duration {
	switch status {
	case 200, 206, 301:
		return 120 * time.Minute
	case 302, 303:
		return 20 * time.Minute
	case 404, 410:
		return 3 * time.Minute
	}
	return 0
}

// neverStored are fields that belong to one connection or one client (RFC 9111, 3.1).
var neverStored = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authentication-Info",
	"Proxy-Authorization", "TE", "Transfer-Encoding", "Trailer", "Upgrade", "Content-Length", "Age",
}

// Judge says whether the response to a GET may be stored by a shared cache, and how it may be used
// (RFC 9111, 3 and 4.2.1).
func Judge(x Exchange, p Policy) Verdict {
	d, targeted := ParseResponse(x.Header)
	v := Verdict{Strip: neverStored}
	if why := forbidden(x, d); why != "" {
		v.Why = why
		return v
	}
	if ttl, ok := p.override(x.Status); ok {
		return overridden(x, v, ttl)
	}
	if why := refused(x, d, p); why != "" {
		v.Why = why
		return v
	}
	v.Strip = slices.Concat(neverStored, d.NoCacheFields, d.PrivateFields)
	v.Validate = d.NoCache
	v.Strict = d.strict(p.Control)
	var explicit bool
	v.Lifetime, explicit = lifetime(x, d, targeted)
	if !explicit {
		v.Lifetime = p.implied(x, d)
	}
	if !v.Strict {
		v.IfError = d.StaleIfError.Duration()
		if !p.NoStaleWhileUpdating {
			v.WhileRevalidate = d.StaleWhileRevalidate.Duration()
		}
	}
	return useful(x, v)
}

// strict tells whether the response must never be used stale without asking. s-maxage says so too
// (RFC 9111, 5.2.2.10), unless the origin also says how long a stale one may be used.
func (d *Directives) strict(c OriginControl) bool {
	if d.NoCache || c != ControlLax && (d.MustRevalidate || d.ProxyRevalidate) {
		return true
	}
	return d.SMaxAge.Set && !d.StaleWhileRevalidate.Set && !d.StaleIfError.Set
}

// forbidden returns why no rule of a zone's owner can make the response shareable.
func forbidden(x Exchange, d Directives) string {
	switch {
	case x.Status < 200 || x.Status == 206 || x.Status == 304 || x.Status == 416:
		return "status"
	case slices.Contains(ParseVary(x.Header), "*"):
		return "vary"
	case x.Authorized && !d.Public && !d.MustRevalidate && !d.SMaxAge.Set:
		return "authorization"
	}
	return ""
}

// refused returns why the origin does not want the response stored.
func refused(x Exchange, d Directives, p Policy) string {
	understood := d.MustUnderstand && slices.Contains(heuristic, x.Status)
	switch {
	case d.NoStore && !understood:
		return "no-store"
	case d.MustUnderstand && !understood:
		return "must-understand"
	case d.Private:
		return "private"
	case d.NoCache && p.Control == ControlLax:
		return "no-cache"
	case x.Header.Has("Set-Cookie") && !listed("Set-Cookie", d.NoCacheFields) && !listed("Set-Cookie", d.PrivateFields):
		return "set-cookie"
	}
	return ""
}

func listed(name string, fields []string) bool {
	return slices.ContainsFunc(fields, func(f string) bool { return strings.EqualFold(f, name) })
}

// override returns the lifetime that a rule puts in the place of the origin's.
func (p *Policy) override(status int) (time.Duration, bool) {
	for _, s := range p.StatusTTL {
		if status >= s.From && status <= s.To {
			return s.TTL, true
		}
	}
	// An outage must not be pinned for the length of a page's TTL: errors need a status of their own.
	fits := status < 400 || slices.Contains(heuristic, status) && status < 500
	return p.TTL, p.Mode == OverrideOrigin && fits
}

func overridden(x Exchange, v Verdict, ttl time.Duration) Verdict {
	if ttl < 0 {
		v.Why = "rule"
		return v
	}
	v.Strip = append([]string{"Set-Cookie"}, neverStored...)
	v.Lifetime, v.Validate, v.Strict = ttl, ttl == 0, ttl == 0
	// The rule counts from now, not from when the origin or a cache before us made the response.
	v.Lifetime += x.Got.Sub(Birth(x.Header, x.Got, x.Got))
	return useful(x, v)
}

// lifetime returns the origin's explicit freshness lifetime (RFC 9111, 4.2.1).
func lifetime(x Exchange, d Directives, targeted bool) (time.Duration, bool) {
	switch {
	case d.SMaxAge.Set:
		return d.SMaxAge.Duration(), true
	case d.MaxAge.Set:
		return d.MaxAge.Duration(), true
	case targeted || !x.Header.Has("Expires"):
		return 0, false
	}
	lines := x.Header.Values("Expires")
	expires, ok := ParseDate(lines[0])
	if !ok || len(lines) > 1 {
		return 0, true
	}
	date, ok := ParseDate(x.Header.Get("Date"))
	if !ok {
		date = x.Got
	}
	return max(expires.Sub(date), 0), true
}

// implied returns the lifetime of a response whose origin says nothing about it.
func (p *Policy) implied(x Exchange, d Directives) time.Duration {
	switch {
	case d.NoCache || p.Mode == BypassByDefault:
		return 0
	case p.Control != ControlStrict:
		// As with explicit overrides, defaults count from the response's arrival.
		if ttl := defaultTTL(x.Status); ttl > 0 {
			return ttl + x.Got.Sub(Birth(x.Header, x.Got, x.Got))
		}
		return 0
	case !slices.Contains(heuristic, x.Status) && !d.Public:
		return 0
	}
	modified, ok := ParseDate(x.Header.Get("Last-Modified"))
	if !ok {
		return 0
	}
	date, ok := ParseDate(x.Header.Get("Date"))
	if !ok {
		date = x.Got
	}
	return min(max(date.Sub(modified)/10, 0), 24*time.Hour)
}

// useful stores only what can be used again: fresh, usable stale, or with something to validate by.
func useful(x Exchange, v Verdict) Verdict {
	validator := x.Header.Has("ETag") || x.Header.Has("Last-Modified")
	v.Store = v.Lifetime > 0 && !v.Validate || v.WhileRevalidate > 0 || v.IfError > 0 || validator && (v.Validate || v.Lifetime > 0)
	if !v.Store {
		v.Why = "no-freshness"
	}
	return v
}

// State is what a stored response may be used for now.
type State uint8

const (
	// Fresh may be used as it is.
	Fresh State = iota
	// Revalidating may be used now if somebody validates it in the background.
	Revalidating
	// Stale has to be validated before use.
	Stale
)

// StateAt returns the state of a response of this age.
func (v *Verdict) StateAt(age time.Duration) State {
	switch {
	case v.Validate:
		return Stale
	case age < v.Lifetime:
		return Fresh
	case age < v.Lifetime+v.WhileRevalidate:
		return Revalidating
	}
	return Stale
}

// disconnectedFor is how long past its lifetime a response may be used while the origin cannot be
// reached at all (RFC 9111, 4.2.4 lets a disconnected cache), whether or not stale-if-error says so.
const disconnectedFor = 24 * time.Hour

// UsableOnError tells whether a response of this age may be used because the origin answers with
// an error.
func (v *Verdict) UsableOnError(age time.Duration) bool {
	return !v.Strict && age < v.Lifetime+v.IfError
}

// UsableDisconnected tells whether a response of this age may be used because the origin does not
// answer.
func (v *Verdict) UsableDisconnected(age time.Duration) bool {
	return !v.Strict && age < v.Lifetime+max(v.IfError, disconnectedFor)
}

// IsError tells whether a status of the origin counts as an error for stale-if-error (RFC 5861, 4).
func IsError(status int) bool {
	return status == 500 || status == 502 || status == 503 || status == 504 || status >= 520 && status <= 530
}
