package assets

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"selvage/edge"
	"selvage/spec"
)

// Site is what answers for the assets of one version. It is a light handle: manifest and rules are
// loaded when a request needs them, and given up when others need the room. Safe for concurrent
// use.
type Site struct {
	store     *Store
	assets    spec.WorkerAssets
	key       string // of what is loaded
	hasWorker bool
	prefers   bool // a browser's navigation is answered from assets first
}

// Decision is who answers a request.
type Decision uint8

// The decisions. Without a Worker all requests are ToAssets.
const (
	ToWorker Decision = iota
	ToAssets
)

// Site returns what answers for the assets of a version, or nil if it has none. A version without
// a main module has no Worker: nothing falls through to it.
func (st *Store) Site(accountID string, v *spec.WorkerVersion) *Site {
	if v.Assets == nil {
		return nil
	}
	return &Site{
		store:     st,
		assets:    *v.Assets,
		key:       siteKey(v.Assets),
		hasWorker: v.Main != "",
		prefers:   prefersAssets(v.CompatibilityDate, v.CompatibilityFlags),
	}
}

// site is a loaded one. It never changes.
type site struct {
	files     map[string]*File
	html      HTMLHandling
	notFound  NotFoundHandling
	routing   routing
	redirects redirects
	headers   headerRules
	manifest  string // digest
	cost      int64  // bytes in memory, estimated
}

// load makes the site ready; m is its manifest.
func load(a *spec.WorkerAssets, m *Manifest) (*site, error) {
	var c config
	if len(a.Config) > 0 {
		if err := json.Unmarshal(a.Config, &c); err != nil {
			return nil, fmt.Errorf("decode configuration of assets: %w", err)
		}
	}
	s := &site{files: m.Files, html: c.HTML, notFound: c.NotFound, manifest: a.Manifest}
	// What is wrong was refused at upload; a rule that later versions of this program see another way
	// is left out rather than taking the site down.
	s.routing, _ = c.routing()
	rules, _ := parseRedirects(a.Redirects, c.HTML)
	s.redirects = newRedirects(rules)
	headers, _ := parseHeaders(a.Headers)
	s.headers = newHeaderRules(headers)
	s.cost = int64(1024 + 4*len(a.Redirects) + 4*len(a.Headers) + 2048*len(s.redirects.dynamic))
	for path, f := range m.Files {
		s.cost += int64(200 + len(path) + len(f.Type))
	}
	return s, nil
}

// Decide tells who answers a request, as Cloudflare's router does: run_worker_first, then whether
// there is an asset or a redirect at the path, then the Worker.
func (s *Site) Decide(q *edge.Request) (Decision, error) {
	loaded, err := s.store.loaded(s)
	if err != nil {
		return ToAssets, err
	}
	v := newView(q)
	d, _ := s.decide(loaded, &v)
	return d, nil
}

// decide also returns what the assets would answer, if that was looked up.
func (s *Site) decide(l *site, v *view) (Decision, *outcome) {
	if !s.hasWorker {
		return ToAssets, nil
	}
	if worker, ok := l.routing.workerFirst(v.path); ok {
		if worker {
			return ToWorker, nil
		}
		return ToAssets, nil
	}
	if l.routing.first {
		return ToWorker, nil
	}
	// Where a Worker can answer, what is not found is its matter, unless a list says which paths are
	// the Worker's, or a browser navigates.
	miss := NotFoundNone
	if l.routing.rules || s.prefers && v.header.Joined("Sec-Fetch-Mode") == "navigate" {
		miss = l.notFound
	}
	o := l.look(v, miss)
	switch {
	case o.kind == nothing:
		return ToWorker, nil
	case o.status == http.StatusNotFound && miss != l.notFound:
		return ToAssets, nil // rewritten to where nothing is: that is not the Worker's matter
	}
	return ToAssets, &o
}

// Serve answers a request from the assets, or returns false if the Worker has to. The body of the
// response is a file. An error means that the content could not be read.
func (s *Site) Serve(_ context.Context, ex *edge.Exchange) (served bool, err error) {
	loaded, err := s.store.loaded(s)
	if err != nil {
		return false, err
	}
	v := newView(&ex.Request)
	d, o := s.decide(loaded, &v)
	if d == ToWorker {
		return false, nil
	}
	if o == nil {
		full := loaded.look(&v, loaded.notFound)
		o = &full
	}
	return true, s.answer(ex, loaded, &v, o)
}

// Fetch answers a request from the assets in any case, as the binding of a Worker does: where
// nothing is found it is 404. It is an edge.Handler.
func (s *Site) Fetch(_ context.Context, ex *edge.Exchange) error {
	loaded, err := s.store.loaded(s)
	if err != nil {
		return err
	}
	v := newView(&ex.Request)
	o := loaded.look(&v, loaded.notFound)
	return s.answer(ex, loaded, &v, &o)
}

var _ edge.Handler = (*Site)(nil).Fetch
