package assets

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"selvage/foundation/fault"
	"selvage/spec"
)

// HTMLHandling says at which paths HTML files answer.
type HTMLHandling string

// The ways to handle HTML. The zero value is HTMLAuto.
const (
	HTMLAuto  HTMLHandling = "auto-trailing-slash"  // /foo.html at /foo, /foo/index.html at /foo/
	HTMLForce HTMLHandling = "force-trailing-slash" // both at /foo/
	HTMLDrop  HTMLHandling = "drop-trailing-slash"  // both at /foo
	HTMLNone  HTMLHandling = "none"                 // files answer at their own paths only
)

// NotFoundHandling says what answers where no file is.
type NotFoundHandling string

// The ways to handle paths without a file. The zero value is NotFoundNone.
const (
	NotFoundNone NotFoundHandling = "none"
	NotFoundSPA  NotFoundHandling = "single-page-application" // /index.html, with status 200
	NotFoundPage NotFoundHandling = "404-page"                // the nearest 404.html
)

// Limits of run_worker_first, as Cloudflare's.
const (
	maxRoutes      = 100
	maxRouteLength = 100
)

// Codes of the v4 API for a configuration that is not right.
const (
	codeInvalid   = 10021
	codeRedirects = 100324
)

// config is how a site answers, as the upload of a script has it in metadata.assets.config.
type config struct {
	HTML        HTMLHandling     `json:"html_handling,omitempty"`
	NotFound    NotFoundHandling `json:"not_found_handling,omitempty"`
	WorkerFirst json.RawMessage  `json:"run_worker_first,omitempty"` // a boolean or a list of patterns
	// ServeDirectly is the older name of the opposite of WorkerFirst.
	ServeDirectly *bool `json:"serve_directly,omitempty"`

	Redirects string `json:"_redirects,omitempty"`
	Headers   string `json:"_headers,omitempty"`
}

// routing is what run_worker_first asks for.
type routing struct {
	first   bool     // the Worker answers everything
	rules   bool     // there is a list
	workers []string // patterns of paths that the Worker answers
	assets  []string // exceptions, which count more
}

// Configure checks metadata.assets.config of an upload and returns it as a version keeps it,
// without manifest. hasWorker tells whether the version has a script. Every fault is reported, at
// paths below "assets.config". Fields that are not known are left out.
func Configure(raw json.RawMessage, hasWorker bool) (*spec.WorkerAssets, error) {
	var c config
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &c); err != nil {
			return nil, invalid("", "The configuration of the assets is not right: %s.", plain(err))
		}
	}
	var errs []error
	if !slices.Contains([]HTMLHandling{"", HTMLAuto, HTMLForce, HTMLDrop, HTMLNone}, c.HTML) {
		errs = append(errs, invalid("html_handling", "%q is not a way to handle HTML; it is auto-trailing-slash, force-trailing-slash, drop-trailing-slash or none.", c.HTML))
	}
	if !slices.Contains([]NotFoundHandling{"", NotFoundNone, NotFoundSPA, NotFoundPage}, c.NotFound) {
		errs = append(errs, invalid("not_found_handling", "%q is not a way to handle what is not found; it is single-page-application, 404-page or none.", c.NotFound))
	}
	r, why := c.routing()
	if why != "" {
		errs = append(errs, invalid("run_worker_first", "%s", why))
	}
	if (r.first || r.rules) && !hasWorker {
		errs = append(errs, invalid("run_worker_first", "There is no Worker script that could run first. Add one, or leave run_worker_first out."))
	}
	if _, findings := parseRedirects(c.Redirects, c.HTML); len(findings) > 0 {
		errs = append(errs, invalid("_redirects", "Invalid _redirects configuration:\n%s", lines(findings)).WithCode(codeRedirects))
	}
	if _, findings := parseHeaders(c.Headers); len(findings) > 0 {
		errs = append(errs, invalid("_headers", "Invalid _headers configuration:\n%s", lines(findings)))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	kept := &spec.WorkerAssets{Redirects: c.Redirects, Headers: c.Headers}
	c.Redirects, c.Headers = "", ""
	var err error
	kept.Config, err = json.Marshal(c)
	return kept, err
}

func invalid(field, format string, args ...any) *fault.Error {
	at := "assets.config"
	if field != "" {
		at += "." + field
	}
	return fault.New(fault.Invalid, format, args...).WithCode(codeInvalid).At(at)
}

// plain says what json.Unmarshal found without naming Go's types.
func plain(err error) string {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) && wrong.Field != "" {
		return fmt.Sprintf("%s cannot be a %s", wrong.Field, wrong.Value)
	}
	return "it is not a JSON object of the fields html_handling, not_found_handling, run_worker_first, _redirects and _headers"
}

func lines(findings []Finding) string {
	var all []string
	for _, f := range findings {
		all = append(all, f.String())
	}
	if len(all) > 20 {
		all = append(all[:20], fmt.Sprintf("... and %d more.", len(all)-20))
	}
	return strings.Join(all, "\n")
}

// routing reads run_worker_first, or says why it is not right.
func (c *config) routing() (r routing, why string) {
	if len(c.WorkerFirst) == 0 || string(c.WorkerFirst) == "null" {
		r.first = c.ServeDirectly != nil && !*c.ServeDirectly
		return r, ""
	}
	if json.Unmarshal(c.WorkerFirst, &r.first) == nil {
		return r, ""
	}
	var patterns []string
	if json.Unmarshal(c.WorkerFirst, &patterns) != nil {
		return r, "It is a boolean or a list of patterns."
	}
	r.rules = true
	why = r.add(patterns)
	return r, why
}

// add sorts patterns into those of the Worker and the exceptions, and says what is wrong with them.
func (r *routing) add(patterns []string) (why string) {
	var wrong []string
	for _, p := range patterns {
		switch {
		case strings.HasPrefix(p, "!/"):
			r.assets = append(r.assets, p[1:])
		case strings.HasPrefix(p, "/"):
			r.workers = append(r.workers, p)
		case strings.HasPrefix(p, "!"):
			wrong = append(wrong, fmt.Sprintf("'%s': negative rules must start with '!/'", p))
		default:
			wrong = append(wrong, fmt.Sprintf("'%s': rules must start with '/' or '!/'", p))
		}
	}
	switch {
	case len(patterns) == 0:
		return "No `run_worker_first` rules were provided; must provide at least 1 rule."
	case len(patterns) > maxRoutes:
		return fmt.Sprintf("Too many `run_worker_first` rules were provided; %d rules provided exceeds max of %d.", len(patterns), maxRoutes)
	case len(r.assets) > 0 && len(r.workers) == 0:
		return "Only negative `run_worker_first` rules were provided; must provide at least 1 non-negative rule"
	}
	wrong = append(wrong, checkRoutes(r.workers, "")...)
	wrong = append(wrong, checkRoutes(r.assets, "!")...)
	if len(wrong) > 0 {
		return "Invalid routes in `run_worker_first`:\n" + strings.Join(wrong, "\n")
	}
	return ""
}

// checkRoutes finds rules that are too long, repeated, or covered by another one.
func checkRoutes(rules []string, sign string) []string {
	var wrong []string
	for i, rule := range rules {
		name := sign + rule
		if utf8.RuneCountInString(name) > maxRouteLength {
			wrong = append(wrong, fmt.Sprintf("'%s': all rules must be less than %d characters in length", name, maxRouteLength))
		}
		if slices.Contains(rules[:i], rule) {
			wrong = append(wrong, fmt.Sprintf("'%s': rule is a duplicate; rules must be unique", name))
		}
		start, star := strings.CutSuffix(rule, "*")
		if !star {
			continue
		}
		for _, other := range rules {
			if other != rule && strings.HasPrefix(other, start) {
				wrong = append(wrong, fmt.Sprintf("'%s': rule '%s' makes it redundant", sign+other, name))
			}
		}
	}
	return wrong
}

// workerFirst tells what the list says of a path; ok is false if it says nothing.
func (r *routing) workerFirst(path string) (worker, ok bool) {
	matches := func(rule string) bool { return glob(rule, path) }
	if slices.ContainsFunc(r.assets, matches) {
		return false, true
	}
	if slices.ContainsFunc(r.workers, matches) {
		return true, true
	}
	return false, false
}

// Flags of compatibility that say whether a browser's navigation is answered from assets first.
const (
	navigationFlag   = "assets_navigation_prefers_asset_serving"
	navigationOff    = "assets_navigation_has_no_effect"
	navigationOnFrom = "2025-04-01"
)

// prefersAssets tells whether the flag is in force.
func prefersAssets(date string, flags []string) bool {
	if slices.Contains(flags, navigationFlag) {
		return true
	}
	return date >= navigationOnFrom && !slices.Contains(flags, navigationOff)
}
