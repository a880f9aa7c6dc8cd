package workers

import (
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"

	"selvage/edge"
	"selvage/product/workers/assets"
	"selvage/spec"
)

// Header fields by which clients choose among the versions of a gradual deployment. Source:
// Cloudflare's "Gradual deployments" page.
const (
	versionKey      = "Cloudflare-Workers-Version-Key"       // the same key, the same version
	versionOverride = "Cloudflare-Workers-Version-Overrides" // script="version ID", a structured dictionary
)

// accountScripts are the scripts of an account, ready for requests.
type accountScripts struct {
	from    *spec.AccountWorkers
	scripts map[string]*script
}

// script is one script with the versions in force.
type script struct {
	worker *spec.Worker
	shares []share
	before *version // answers where a version in force does not start; nil if there is none
}

// share is a version and the end of its part of [0, 100).
type share struct {
	version *version
	to      float64
}

// version is one version, ready to be asked.
type version struct {
	spec   *spec.WorkerVersion
	unit   string // key of the unit that runs it
	name   string // of its program in that unit
	traced bool   // its unit always makes traces
	site   *assets.Site
}

func (w *Workers) newAccountScripts(accountID string, a *spec.AccountWorkers) *accountScripts {
	made := &accountScripts{from: a, scripts: map[string]*script{}}
	for name, worker := range a.Scripts {
		s := &script{worker: worker, before: w.before(a, worker)}
		to := 0.0
		for _, v := range worker.Deployment.Versions {
			if found := a.Versions[v.VersionID]; found != nil {
				to += v.Percentage
				s.shares = append(s.shares, share{w.newVersion(a, found), to})
			}
		}
		made.scripts[name] = s
	}
	return made
}

// before returns the version with the largest share of the deployment before, unless it lives with
// objects, whose unit falls back by itself, or is in force still.
func (w *Workers) before(a *spec.AccountWorkers, worker *spec.Worker) *version {
	most := -1.0
	var best *spec.WorkerVersion
	for _, share := range worker.Before {
		if v := a.Versions[share.VersionID]; v != nil && share.Percentage > most {
			best, most = v, share.Percentage
		}
	}
	inForce := func(s spec.VersionShare) bool { return s.VersionID == best.ID }
	if best == nil || best.Main == "" || hasObjects(a, best) || slices.ContainsFunc(worker.Deployment.Versions, inForce) {
		return nil
	}
	return w.newVersion(a, best)
}

// newVersion makes a version ready. Its site is nil if it has no assets.
func (w *Workers) newVersion(a *spec.AccountWorkers, v *spec.WorkerVersion) *version {
	made := &version{spec: v, unit: unitKey(a, v), name: v.Script}
	if hasObjects(a, v) {
		made.name, made.traced = programName(a, v), true
	}
	if v.Assets != nil {
		made.site = w.o.Assets.Site(v.AccountID, v)
	}
	return made
}

// versionFor returns the version that answers a request, or nil if there is none.
func (w *Workers) versionFor(c choice, q *edge.Request) *version {
	if c.version != "" {
		return w.preview(c.script, c.version)
	}
	if len(c.script.shares) == 0 {
		return nil
	}
	return c.script.pick(q).version
}

// pick chooses among the versions in force, of which there has to be one. q is nil for what is not a
// request.
func (s *script) pick(q *edge.Request) share {
	if len(s.shares) == 1 {
		return s.shares[0]
	}
	at := rand.Float64() * 100
	if q != nil {
		if id := overrideOf(q.Header.Joined(versionOverride), s.worker.Name); id != "" {
			for _, sh := range s.shares {
				if sh.version.spec.ID == id {
					return sh
				}
			}
		}
		if key := q.Header.Get(versionKey); key != "" {
			h := fnv.New64a()
			h.Write([]byte(s.worker.ID))
			h.Write([]byte(key))
			at = float64(mix(h.Sum64())>>11) / (1 << 53) * 100
		}
	}
	for _, sh := range s.shares {
		if at < sh.to {
			return sh
		}
	}
	return s.shares[len(s.shares)-1]
}

// mix spreads what FNV leaves in the low bits over all (the finalizer of MurmurHash3).
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// overrideOf reads what a dictionary such as `a="1", b="2"` (RFC 8941) says of a script.
func overrideOf(field, script string) string {
	for member := range strings.SplitSeq(field, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(member), "=")
		if ok && name == script {
			value, _, _ = strings.Cut(value, ";")
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return ""
}

// preview returns the version whose ID begins with prefix, deployed or not. One that has or uses
// Durable Objects has to be deployed, for its program lives with the objects.
func (w *Workers) preview(s *script, prefix string) *version {
	for _, sh := range s.shares {
		if strings.HasPrefix(sh.version.spec.ID, prefix) {
			return sh.version
		}
	}
	a := w.current.Load().from.WorkersOf(s.worker.AccountID)
	for id, v := range a.Versions {
		if v.Script == s.worker.Name && strings.HasPrefix(id, prefix) && !hasObjects(a, v) {
			return w.previews.get(id, func() *version { return w.prepare(a, v) })
		}
	}
	return nil
}
