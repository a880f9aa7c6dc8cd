package spec

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"selvage/foundation/fault"
)

// Bounds of a bucket's rules. Source: developers.cloudflare.com/r2 (limits, object lifecycles, bucket locks).
const (
	maxLifecycle  = 1000
	maxCORS       = 100
	maxCORSValues = 100
	maxCORSValue  = 1024
	maxLock       = 1000
	maxRulePrefix = 1024
	maxRuleID     = 255
)

// CORSRule lets web pages of other origins at a bucket's objects. JSON is as in the v4 API.
type CORSRule struct {
	ID            string      `json:"id,omitempty"`
	Allowed       CORSAllowed `json:"allowed"`
	ExposeHeaders []string    `json:"exposeHeaders,omitempty"`
	MaxAgeSeconds int         `json:"maxAgeSeconds,omitempty"`
}

// CORSAllowed says who may do what.
type CORSAllowed struct {
	Origins []string `json:"origins"` // "*", or scheme://host[:port] with at most one *
	Methods []string `json:"methods"` // GET, PUT, POST, DELETE, HEAD
	Headers []string `json:"headers,omitempty"`
}

// Matches tells whether the rule lets a page of origin send method with these headers, which are in
// lower case.
func (r *CORSRule) Matches(origin, method string, headers []string) bool {
	if !slices.Contains(r.Allowed.Methods, method) || !r.MatchesOrigin(origin) {
		return false
	}
	for _, h := range headers {
		if !slices.ContainsFunc(r.Allowed.Headers, func(p string) bool { return wildcard(strings.ToLower(p), h) }) {
			return false
		}
	}
	return true
}

// MatchesOrigin tells whether the rule speaks of origin.
func (r *CORSRule) MatchesOrigin(origin string) bool {
	return slices.ContainsFunc(r.Allowed.Origins, func(p string) bool { return wildcard(p, origin) })
}

// AnyOrigin tells whether the rule is for all origins alike.
func (r *CORSRule) AnyOrigin() bool { return slices.Contains(r.Allowed.Origins, "*") }

// wildcard matches s with a pattern that has at most one *.
func wildcard(pattern, s string) bool {
	before, after, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	return len(s) >= len(before)+len(after) && strings.HasPrefix(s, before) && strings.HasSuffix(s, after)
}

func checkCORS(rules []CORSRule) (faults []error) {
	bad := func(field, format string, args ...any) {
		faults = append(faults, fault.New(fault.Invalid, format, args...).WithCode(10040).At(field))
	}
	if len(rules) > maxCORS {
		bad("rules", "There are %d CORS rules; the limit is %d.", len(rules), maxCORS)
		return faults
	}
	methods := []string{"GET", "PUT", "POST", "DELETE", "HEAD"}
	for i, r := range rules {
		at := func(name string) string { return fmt.Sprintf("rules[%d].%s", i, name) }
		if len(r.Allowed.Origins) == 0 || len(r.Allowed.Methods) == 0 {
			bad(at("allowed"), "A CORS rule names at least one origin and one method.")
		}
		for _, m := range r.Allowed.Methods {
			if !slices.Contains(methods, m) {
				bad(at("allowed.methods"), "The method %.40q is not allowed in a CORS rule; allowed are %s.", m, strings.Join(methods, ", "))
			}
		}
		for _, o := range r.Allowed.Origins {
			if strings.Count(o, "*") > 1 || o != "*" && !strings.Contains(o, "://") || strings.HasSuffix(o, "/") {
				bad(at("allowed.origins"), "The origin %.80q is not valid: it is * or scheme://host[:port] without a path, with at most one *.", o)
			}
		}
		for _, h := range r.Allowed.Headers {
			if strings.Count(h, "*") > 1 {
				bad(at("allowed.headers"), "The header %.80q has more than one *.", h)
			}
		}
		for name, list := range map[string][]string{"allowed.origins": r.Allowed.Origins, "allowed.headers": r.Allowed.Headers, "exposeHeaders": r.ExposeHeaders} {
			if len(list) > maxCORSValues || slices.ContainsFunc(list, func(v string) bool { return v == "" || len(v) > maxCORSValue || strings.ContainsAny(v, "\r\n\x00") }) {
				bad(at(name), "A CORS rule has at most %d values of 1 to %d bytes here.", maxCORSValues, maxCORSValue)
			}
		}
		if r.MaxAgeSeconds < 0 || r.MaxAgeSeconds > 86400 {
			bad(at("maxAgeSeconds"), "maxAgeSeconds is %d; it is 0 to 86400.", r.MaxAgeSeconds)
		}
	}
	return faults
}

// LifecycleRule says what becomes of objects and uploads by themselves. JSON is as in the v4 API.
type LifecycleRule struct {
	ID           string               `json:"id"`
	Enabled      bool                 `json:"enabled"`
	Conditions   LifecycleScope       `json:"conditions"`
	AbortUploads *LifecycleTransition `json:"abortMultipartUploadsTransition,omitempty"`
	Delete       *LifecycleTransition `json:"deleteObjectsTransition,omitempty"`
	Classes      []ClassTransition    `json:"storageClassTransitions,omitempty"`
}

// LifecycleScope says which objects a rule is about.
type LifecycleScope struct {
	Prefix string `json:"prefix"` // empty: all
}

// LifecycleTransition says when something is done.
type LifecycleTransition struct {
	Condition RuleCondition `json:"condition"`
}

// ClassTransition moves objects to another storage class.
type ClassTransition struct {
	Condition    RuleCondition `json:"condition"`
	StorageClass string        `json:"storageClass"` // InfrequentAccess
}

// RuleCondition is an age or a date.
type RuleCondition struct {
	Type   string    `json:"type"`             // Age, Date
	MaxAge *int64    `json:"maxAge,omitempty"` // seconds; of an Age
	Date   time.Time `json:"date,omitzero"`
}

// DefaultLifecycle returns the rules of a new bucket, as at Cloudflare: uploads that nobody completes
// are aborted after a week.
func DefaultLifecycle() []LifecycleRule {
	return []LifecycleRule{{
		ID: "Default Multipart Abort Rule", Enabled: true,
		AbortUploads: &LifecycleTransition{AfterAge(7 * 24 * 3600)},
	}}
}

// AfterAge is the condition of an age in seconds.
func AfterAge(seconds int64) RuleCondition { return RuleCondition{Type: "Age", MaxAge: &seconds} }

// Age is the age in seconds, of a condition that has one.
func (c *RuleCondition) Age() int64 {
	if c.MaxAge == nil {
		return maxAgeSeconds
	}
	return *c.MaxAge
}

// Due tells whether the condition holds at now for what was uploaded then.
func (c *RuleCondition) Due(uploaded, now time.Time) bool {
	if c.Type == "Date" {
		return !now.Before(c.Date)
	}
	return !now.Before(uploaded.Add(time.Duration(c.Age()) * time.Second))
}

func (c *RuleCondition) check() *fault.Error {
	switch c.Type {
	case "Age":
		if c.MaxAge == nil {
			return fault.New(fault.Invalid, "A condition of the type Age needs a maxAge, in seconds.")
		}
		if *c.MaxAge < 0 || *c.MaxAge > maxAgeSeconds {
			return fault.New(fault.Invalid, "maxAge is %d seconds; it is 0 to %d.", *c.MaxAge, maxAgeSeconds)
		}
	case "Date":
		if c.Date.IsZero() {
			return fault.New(fault.Invalid, "A condition of the type Date needs a date.")
		}
	default:
		return fault.New(fault.Invalid, "The type of a condition is Age or Date, not %.40q.", c.Type)
	}
	return nil
}

// maxAgeSeconds is a hundred years: more would overflow a duration.
const maxAgeSeconds = 100 * 366 * 24 * 3600

// codeLifecycle is R2's "Invalid Lifecycle Configuration".
const codeLifecycle = 10061

func checkLifecycle(rules []LifecycleRule) (faults []error) {
	bad := func(field, format string, args ...any) {
		faults = append(faults, fault.New(fault.Invalid, format, args...).WithCode(codeLifecycle).At(field))
	}
	if len(rules) > maxLifecycle {
		bad("rules", "There are %d lifecycle rules; the limit is %d.", len(rules), maxLifecycle)
		return faults
	}
	seen := map[string]bool{}
	for i, r := range rules {
		at := func(name string) string { return fmt.Sprintf("rules[%d].%s", i, name) }
		if r.ID == "" || len(r.ID) > maxRuleID {
			bad(at("id"), "The id of a lifecycle rule has 1 to %d bytes.", maxRuleID)
		}
		if seen[r.ID] {
			bad(at("id"), "There are two lifecycle rules with the id %.80q.", r.ID)
		}
		seen[r.ID] = true
		if len(r.Conditions.Prefix) > maxRulePrefix {
			bad(at("conditions.prefix"), "The prefix has %d bytes; the limit is %d.", len(r.Conditions.Prefix), maxRulePrefix)
		}
		if r.AbortUploads == nil && r.Delete == nil && len(r.Classes) == 0 {
			bad(at("id"), "The lifecycle rule %.80q does nothing: give it abortMultipartUploadsTransition, deleteObjectsTransition or storageClassTransitions.", r.ID)
		}
		for name, t := range map[string]*LifecycleTransition{"abortMultipartUploadsTransition": r.AbortUploads, "deleteObjectsTransition": r.Delete} {
			if t != nil {
				if err := t.Condition.check(); err != nil {
					faults = append(faults, err.WithCode(codeLifecycle).At(at(name+".condition")))
				}
			}
		}
		if r.AbortUploads != nil && r.AbortUploads.Condition.Type == "Date" {
			bad(at("abortMultipartUploadsTransition.condition.type"), "Uploads are aborted by age, not by date.")
		}
		for j, c := range r.Classes {
			if err := c.Condition.check(); err != nil {
				faults = append(faults, err.WithCode(codeLifecycle).At(at(fmt.Sprintf("storageClassTransitions[%d].condition", j))))
			}
			if c.StorageClass != ClassInfrequentAccess {
				bad(at(fmt.Sprintf("storageClassTransitions[%d].storageClass", j)), "Objects can be moved to InfrequentAccess, not to %.40q.", c.StorageClass)
			}
		}
	}
	return faults
}

// LockRule keeps objects from being deleted or overwritten. JSON is as in the v4 API.
type LockRule struct {
	ID        string        `json:"id"`
	Enabled   bool          `json:"enabled"`
	Prefix    string        `json:"prefix,omitempty"` // empty: all
	Condition LockCondition `json:"condition"`
}

// LockCondition says how long.
type LockCondition struct {
	Type          string    `json:"type"` // Age, Date, Indefinite
	MaxAgeSeconds int64     `json:"maxAgeSeconds,omitempty"`
	Date          time.Time `json:"date,omitzero"`
}

// Locked returns the rule that keeps an object from being changed at now, or nil.
func (b *Bucket) Locked(key string, uploaded, now time.Time) *LockRule {
	for i := range b.Lock {
		r := &b.Lock[i]
		if !r.Enabled || !strings.HasPrefix(key, r.Prefix) {
			continue
		}
		switch c := &r.Condition; c.Type {
		case "Indefinite":
			return r
		case "Date":
			if now.Before(c.Date) {
				return r
			}
		case "Age":
			if now.Before(uploaded.Add(time.Duration(c.MaxAgeSeconds) * time.Second)) {
				return r
			}
		}
	}
	return nil
}

func checkLock(rules []LockRule) (faults []error) {
	bad := func(field, format string, args ...any) {
		faults = append(faults, fault.New(fault.Invalid, format, args...).WithCode(10040).At(field))
	}
	if len(rules) > maxLock {
		bad("rules", "There are %d lock rules; the limit is %d.", len(rules), maxLock)
		return faults
	}
	seen := map[string]bool{}
	for i, r := range rules {
		at := func(name string) string { return fmt.Sprintf("rules[%d].%s", i, name) }
		if r.ID == "" || len(r.ID) > maxRuleID || seen[r.ID] {
			bad(at("id"), "The id of a lock rule has 1 to %d bytes and is the only one of its kind in the bucket.", maxRuleID)
		}
		seen[r.ID] = true
		if len(r.Prefix) > maxRulePrefix {
			bad(at("prefix"), "The prefix has %d bytes; the limit is %d.", len(r.Prefix), maxRulePrefix)
		}
		switch c := r.Condition; c.Type {
		case "Indefinite":
		case "Date":
			if c.Date.IsZero() {
				bad(at("condition.date"), "A condition of the type Date needs a date.")
			}
		case "Age":
			if c.MaxAgeSeconds < 1 || c.MaxAgeSeconds > maxAgeSeconds {
				bad(at("condition.maxAgeSeconds"), "maxAgeSeconds is %d; it is 1 to %d.", c.MaxAgeSeconds, maxAgeSeconds)
			}
		default:
			bad(at("condition.type"), "The type of a lock's condition is Age, Date or Indefinite, not %.40q.", c.Type)
		}
	}
	return faults
}
