package cache

import (
	"slices"
	"strings"

	"selvage/edge"
	"selvage/product/cache/semantics"
)

// grant changes a plan by what the program that made the request asks for. It goes over the zone's
// rules: who may upload programs for a zone may do more than that.
func (p *plan) grant(w *edge.CacheWish) {
	if w == nil {
		return
	}
	if w.Never {
		p.eligible, p.decided = false, true
		return
	}
	if w.Everything {
		p.eligible, p.decided, p.everything = true, true, true
	}
	if w.Forced {
		p.policy.Mode, p.policy.TTL, p.policy.StatusTTL = semantics.OverrideOrigin, w.TTL, nil
	}
	if len(w.ByStatus) > 0 {
		p.policy.StatusTTL = make([]semantics.StatusTTL, len(w.ByStatus))
		for i, s := range w.ByStatus {
			p.policy.StatusTTL[i] = semantics.StatusTTL(s)
		}
	}
	p.key.custom = w.Key
	for _, t := range w.Tags {
		if tag, err := checkTag(nil, t); err == nil && len(p.tags) < maxTags {
			p.tags = append(p.tags, tag)
		}
	}
}

// withTags returns the tags of a response and those of the plan.
func (p *plan) withTags(tags []string) []string {
	for _, t := range p.tags {
		if t = strings.ToLower(t); !slices.Contains(tags, t) {
			tags = append(tags, t)
		}
	}
	return tags
}
