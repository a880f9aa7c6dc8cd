package spec

import (
	"maps"
	"slices"
	"strings"
)

// AccountWorkers is everything about the Workers of one account. Immutable: compare pointers to find
// out what has to be prepared again.
type AccountWorkers struct {
	Scripts    map[string]*Worker          // by name
	Versions   map[string]*WorkerVersion   // by ID
	Domains    map[string]*WorkerDomain    // by host name
	Namespaces map[string]*ObjectNamespace // by ID
	Subdomain  *WorkerSubdomain            // nil until the account has one
}

// noWorkers stands for an account without any. Never changed.
var noWorkers = &AccountWorkers{}

// WorkersOf returns the Workers of an account, never nil.
func (s *Snapshot) WorkersOf(accountID string) *AccountWorkers {
	if w := s.Workers[accountID]; w != nil {
		return w
	}
	return noWorkers
}

// VersionsOf returns the versions of a script, newest first.
func (a *AccountWorkers) VersionsOf(script string) []*WorkerVersion {
	var list []*WorkerVersion
	for _, v := range a.Versions {
		if v.Script == script {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(x, y *WorkerVersion) int { return y.Number - x.Number })
	return list
}

// Namespace returns the namespace of a class of a script, or nil.
func (a *AccountWorkers) Namespace(script, class string) *ObjectNamespace {
	for _, n := range a.Namespaces {
		if n.Script == script && n.Class == class {
			return n
		}
	}
	return nil
}

// nouns returns everything as it would be stored.
func (a *AccountWorkers) nouns() []Noun {
	var all []Noun
	if a.Subdomain != nil {
		all = append(all, a.Subdomain)
	}
	for _, n := range a.Namespaces {
		all = append(all, n)
	}
	for _, v := range a.Versions {
		all = append(all, v)
	}
	for _, w := range a.Scripts {
		all = append(all, w)
	}
	for _, d := range a.Domains {
		all = append(all, d)
	}
	return all
}

// workers returns this edit's own copy of an account's Workers, whose maps may be changed.
func (e *edit) workers(accountID string) *AccountWorkers {
	if a := e.workersTouched[accountID]; a != nil {
		return a
	}
	old := e.next.WorkersOf(accountID)
	own := &AccountWorkers{
		Scripts: cloneOf(old.Scripts), Versions: cloneOf(old.Versions), Domains: cloneOf(old.Domains), Namespaces: cloneOf(old.Namespaces),
		Subdomain: old.Subdomain,
	}
	if e.workersTouched == nil {
		e.workersTouched = map[string]*AccountWorkers{}
		e.next.Workers = cloneOf(e.next.Workers)
	}
	e.workersTouched[accountID] = own
	e.next.Workers[accountID] = own
	return own
}

func cloneOf[T any](m map[string]T) map[string]T {
	if m == nil {
		return map[string]T{}
	}
	return maps.Clone(m)
}

// put sets or, if next is nil, deletes an entry.
func put[T any](m map[string]*T, key string, next Noun) {
	if next == nil {
		delete(m, key)
		return
	}
	m[key] = any(next).(*T)
}

func applyWorker(e *edit, c Change) { put(e.workers(c.Key.Scope).Scripts, c.Key.ID, c.Noun) }

func applyWorkerVersion(e *edit, c Change) { put(e.workers(c.Key.Scope).Versions, c.Key.ID, c.Noun) }

func applyObjectNamespace(e *edit, c Change) {
	put(e.workers(c.Key.Scope).Namespaces, c.Key.ID, c.Noun)
}

func applyWorkerDomain(e *edit, c Change) {
	domains := e.workers(c.Key.Scope).Domains
	for host, d := range domains {
		if d.ID == c.Key.ID {
			delete(domains, host)
		}
	}
	if c.Noun != nil {
		d := c.Noun.(*WorkerDomain)
		domains[d.Hostname] = d
	}
}

func applyWorkerSubdomain(e *edit, c Change) {
	a := e.workers(c.Key.Scope)
	a.Subdomain, _ = c.Noun.(*WorkerSubdomain)
}

func applyWorkerRoute(e *edit, c Change) {
	z := e.zone(c.Key.Scope)
	if z == nil {
		return
	}
	z.WorkerRoutes = replace(z.WorkerRoutes, c.Key.ID, c.Noun, func(r *WorkerRoute) string { return r.ID })
	slices.SortFunc(z.WorkerRoutes, func(a, b *WorkerRoute) int { return strings.Compare(a.ID, b.ID) })
}
