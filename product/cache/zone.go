package cache

import (
	"slices"
	"strings"
	"time"

	"selvage/edge"
	"selvage/foundation/hamt"
	"selvage/product/cache/semantics"
	"selvage/spec"
)

// table is every zone. Immutable; its next version shares what did not change.
type table struct {
	byID hamt.Map[*zone]
	from *spec.Snapshot // that it was compiled from
}

// zone is what a zone's settings and rules come to. Immutable.
type zone struct {
	config     *spec.ZoneConfig
	rules      []rule
	bypass     bool // development mode
	level      string
	browserTTL time.Duration // of the zone; 0 respects the origin
	sortQuery  bool
}

// compileZone compiles a zone. What old, which may be nil, has of the same rules is taken over.
func compileZone(z *spec.ZoneConfig, old *zone) (*zone, error) {
	ruleset := z.Ruleset(rulePhase)
	var rules []rule
	if old != nil && old.config.Ruleset(rulePhase) == ruleset {
		rules = old.rules
	} else {
		var err error
		if rules, err = compileRules(ruleset); err != nil {
			return nil, err
		}
	}
	return &zone{
		config:     z,
		rules:      rules,
		bypass:     z.Settings.On("development_mode"),
		level:      z.Settings.Text("cache_level"),
		browserTTL: seconds(z.Settings.Number("browser_cache_ttl")),
		sortQuery:  z.Settings.On("sort_query_string_for_cache"),
	}, nil
}

// plan is what is to be done with one request.
type plan struct {
	eligible   bool
	decided    bool // by a rule
	everything bool // a rule made it eligible, not its extension
	policy     semantics.Policy
	browser    browserTTL
	key        keyPlan
	tags       []string // beside those of the response
}

// browserTTL says what clients are told about how long to keep a response.
type browserTTL struct {
	mode browserMode
	ttl  time.Duration
}

type browserMode uint8

const (
	browserDefault  browserMode = iota // as the zone's browser_cache_ttl says
	browserRespect                     // as the origin says
	browserOverride                    // as the rule says
	browserBypass                      // not at all
)

// plan decides about a request: its extension and the zone's settings first, then every rule that
// matches, a later one over an earlier one.
func (z *zone) plan(ex *edge.Exchange) plan {
	r := &ex.Request
	p := plan{eligible: static(r.Path)}
	p.key.sortQuery = z.sortQuery
	switch z.level {
	case "basic":
		p.eligible = p.eligible && r.Query == ""
	case "simplified":
		p.key.queryExclude = &selection{all: true}
	}
	if len(z.rules) > 0 {
		v := values(ex)
		for i := range z.rules {
			if z.rules[i].when.Match(v) {
				z.rules[i].set.apply(&p)
			}
		}
	}
	p.grant(ex.Wish)
	if z.bypass {
		p.eligible, p.decided = false, true
	}
	return p
}

// extensions are those that are eligible without a rule: Cloudflare's list.
var extensions = []string{
	"7z", "apk", "avi", "avif", "bin", "bmp", "bz2", "class", "css", "csv", "dmg", "doc", "docx",
	"ejs", "eot", "eps", "exe", "flac", "gif", "gz", "ico", "iso", "jar", "jpeg", "jpg", "js", "mid",
	"midi", "mkv", "mp3", "mp4", "ogg", "otf", "pdf", "pict", "pls", "png", "ppt", "pptx", "ps", "rar",
	"svg", "svgz", "swf", "tar", "tif", "tiff", "ttf", "webm", "webp", "woff", "woff2", "xls", "xlsx",
	"zip", "zst",
}

// static tells whether a path has one of extensions, or is /robots.txt.
func static(p string) bool {
	if p == "/robots.txt" {
		return true
	}
	ext := extensionOf(p)
	if ext == "" || len(ext) > 5 {
		return false
	}
	_, found := slices.BinarySearch(extensions, ext)
	return found
}

// extensionOf returns what follows the last dot of the last segment, in lower case, or "".
func extensionOf(p string) string {
	base := p[strings.LastIndexByte(p, '/')+1:]
	dot := strings.LastIndexByte(base, '.')
	if dot < 0 {
		return ""
	}
	return strings.ToLower(base[dot+1:])
}

// deceives tells whether a response's type contradicts the extension it was asked for by, as when
// /account/x.css gives an HTML page: the sign of a cache deception attack.
func deceives(p string, h *edge.Header) bool {
	ext := extensionOf(p)
	if _, known := slices.BinarySearch(extensions, ext); !known {
		return false
	}
	got, _, _ := strings.Cut(strings.ToLower(h.Get("Content-Type")), ";")
	got = strings.TrimSpace(got)
	if got == "" || got == "application/octet-stream" {
		return false
	}
	if want, known := families[ext]; known {
		return !strings.HasPrefix(got, want)
	}
	return got == "text/html" || got == "application/xhtml+xml" || got == "application/json"
}

// families holds the family of types that an extension promises, where it promises one.
var families = map[string]string{
	"css": "text/css", "csv": "text/",
	"avif": "image/", "bmp": "image/", "gif": "image/", "ico": "image/", "jpeg": "image/", "jpg": "image/",
	"png": "image/", "svg": "image/", "svgz": "image/", "tif": "image/", "tiff": "image/", "webp": "image/",
	"avi": "video/", "mkv": "video/", "mp4": "video/", "webm": "video/", "flac": "audio/", "mp3": "audio/",
}
