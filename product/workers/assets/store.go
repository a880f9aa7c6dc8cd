// Package assets is the static files of Workers: their upload as Cloudflare's API has it, and what
// answers for them, at the edge without waking a script and behind the binding of one.
//
// Behaviour follows Cloudflare's asset and router workers (packages/workers-shared of the
// workers-sdk): html_handling, not_found_handling, run_worker_first, _redirects and _headers.
package assets

import (
	"container/list"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/singleflight"

	"selvage/engine/blob"
	"selvage/foundation/clock"
	"selvage/foundation/observe"
	"selvage/spec"
)

// Options is what a Store is made of.
type Options struct {
	Dir   string      // holds the key of upload tokens and what accounts have uploaded
	Blobs *blob.Store // holds files and manifests

	// MaxFiles is the limit of files in one version. Default: 100,000.
	MaxFiles int
	// CacheBytes bounds the memory of loaded manifests and rules; one site is always kept. Default:
	// 128 MiB.
	CacheBytes int64

	Observe observe.Observer
	Clock   clock.Clock
}

// Store keeps the assets of all accounts. Safe for concurrent use, also by a second process that
// takes over.
type Store struct {
	o        Options
	log      *slog.Logger
	key      []byte // signs the tokens of uploads
	index    index
	sessions sessions

	loading singleflight.Group
	mu      sync.Mutex               // guards the fields below
	sites   map[string]*list.Element // by key
	order   list.List                // of *held, the last used first
	held    int64                    // sum of their costs
}

type held struct {
	key  string
	site *site
}

// Open opens the store in o.Dir, which is made if it does not exist.
func Open(o Options) (*Store, error) {
	if o.MaxFiles == 0 {
		o.MaxFiles = 100_000
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 128 << 20
	}
	accounts := filepath.Join(o.Dir, "accounts")
	if err := os.MkdirAll(accounts, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of assets: %w", err)
	}
	key, err := openKey(filepath.Join(o.Dir, "token.key"))
	if err != nil {
		return nil, fmt.Errorf("open the key of upload tokens: %w", err)
	}
	return &Store{o: o, log: o.Observe.Logger(), key: key, index: index{accounts}, sites: map[string]*list.Element{}}, nil
}

// References returns the digests of the files that a manifest names: together with the manifest's
// own they are what must not be deleted from the blob store while a version has it.
func (st *Store) References(manifest string) ([]string, error) {
	m, err := st.manifest(manifest)
	if err != nil {
		return nil, err
	}
	digests := make([]string, 0, len(m.Files))
	for _, f := range m.Files {
		digests = append(digests, f.Digest)
	}
	return digests, nil
}

func (st *Store) manifest(digest string) (*Manifest, error) {
	kept, err := st.o.Blobs.Read(digest, 0)
	if err != nil {
		return nil, fmt.Errorf("read manifest of assets: %w", err)
	}
	return readManifest(kept)
}

// siteKey names what a site is made of: versions that differ in code only share one.
func siteKey(a *spec.WorkerAssets) string {
	sum := sha256.New()
	for _, part := range []string{a.Manifest, string(a.Config), a.Redirects, a.Headers} {
		fmt.Fprintf(sum, "%d:%s", len(part), part)
	}
	return string(sum.Sum(nil))
}

// loaded returns the site ready to answer.
func (st *Store) loaded(s *Site) (*site, error) {
	if l := st.cached(s.key); l != nil {
		return l, nil
	}
	made, err, _ := st.loading.Do(s.key, func() (any, error) {
		if l := st.cached(s.key); l != nil {
			return l, nil
		}
		m := st.sharedManifest(s.assets.Manifest)
		if m == nil {
			var err error
			if m, err = st.manifest(s.assets.Manifest); err != nil {
				return nil, err
			}
		}
		l, err := load(&s.assets, m)
		if err != nil {
			return nil, err
		}
		st.keep(s.key, l)
		return l, nil
	})
	if err != nil {
		return nil, err
	}
	return made.(*site), nil
}

func (st *Store) cached(key string) *site {
	st.mu.Lock()
	defer st.mu.Unlock()
	e := st.sites[key]
	if e == nil {
		return nil
	}
	st.order.MoveToFront(e)
	return e.Value.(*held).site
}

// sharedManifest returns the manifest if a loaded site with other rules has it.
func (st *Store) sharedManifest(digest string) *Manifest {
	st.mu.Lock()
	defer st.mu.Unlock()
	for e := st.order.Front(); e != nil; e = e.Next() {
		if l := e.Value.(*held).site; l.manifest == digest {
			return &Manifest{Files: l.files}
		}
	}
	return nil
}

// keep holds a site and gives up those used the longest ago.
func (st *Store) keep(key string, l *site) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.sites[key] = st.order.PushFront(&held{key, l})
	st.held += l.cost
	for st.held > st.o.CacheBytes && st.order.Len() > 1 {
		last := st.order.Remove(st.order.Back()).(*held)
		delete(st.sites, last.key)
		st.held -= last.site.cost
	}
}
