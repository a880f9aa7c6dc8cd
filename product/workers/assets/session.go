package assets

import (
	"container/list"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"

	"selvage/foundation/fault"
	"selvage/product"
	"selvage/spec"
)

// Limits of what a client is asked to send in one request.
const (
	bucketBytes = 30 << 20 // of the files, before base64
	bucketFiles = 500
)

// maxUploadBody leaves room for a bucket, or for one of the largest files, in base64.
const maxUploadBody = 100 << 20

// Routes are the operations of an upload of assets.
func (st *Store) Routes() []product.Route {
	return []product.Route{
		{
			Method: "POST", Path: "/accounts/{account_id}/workers/scripts/{script_name}/assets-upload-session",
			Permission: product.Permission{Group: "Workers Scripts", Write: true}, MaxBody: maxManifestBytes,
			Summary: "Start an upload of the assets of a Worker's next version.", Handle: st.startSession,
		},
		{
			Method: "POST", Path: "/accounts/{account_id}/workers/assets/upload", Public: true, MaxBody: maxUploadBody,
			Summary: "Upload a bucket of assets, with the token of the upload session.", Handle: st.uploadBucket,
		},
		{
			Method: "POST", Path: "/accounts/{account_id}/workers/assets/upload/{hash}", Public: true, MaxBody: maxFileBytes,
			Summary: "Upload one asset, with the token of the upload session.", Handle: st.uploadOne,
		},
	}
}

// session is an upload under way, made again from its token when it is not in memory.
type session struct {
	claims
	files  map[string]announced // by hash
	weight int64                // bytes of the announced manifest

	mu sync.Mutex // guards missing
	// missing are hashes of which it is not known that they are there. It is looked at from the end,
	// so that all uploads of a session together look at each but once, whichever process took them.
	missing []string
}

// announced is a file that a session is about to get.
type announced struct {
	size int64
	path string // one of those with this hash
}

// sessions keeps sessions in memory, the last used first. The zero value is ready to use.
type sessions struct {
	mu    sync.Mutex // guards the fields below
	order list.List  // of *session
	total int64      // of their weights
}

// sessionBytes bounds the sessions in memory; one is always kept.
const sessionBytes = 64 << 20

func (ss *sessions) get(id string) *session {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for e := ss.order.Front(); e != nil; e = e.Next() {
		if s := e.Value.(*session); s.ID == id {
			ss.order.MoveToFront(e)
			return s
		}
	}
	return nil
}

func (ss *sessions) put(s *session) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.order.PushFront(s)
	ss.total += s.weight
	for ss.total > sessionBytes && ss.order.Len() > 1 || ss.order.Len() > 1000 {
		ss.total -= ss.order.Remove(ss.order.Back()).(*session).weight
	}
}

// startSession answers which files are missing, and a token for sending them; or, if none is, the
// token that completes the upload.
func (st *Store) startSession(ctx context.Context, c *product.Call) (product.Reply, error) {
	script := c.Params["script_name"]
	if err := (&spec.Worker{Name: script}).Validate(); err != nil {
		return product.Reply{}, err
	}
	files, err := parseWanted(c.Body, st.o.MaxFiles)
	if err != nil {
		return product.Reply{}, err
	}
	kept, err := json.Marshal(files)
	if err != nil {
		return product.Reply{}, err
	}
	digest, err := st.o.Blobs.PutBytes(ctx, kept)
	if err != nil {
		return product.Reply{}, err
	}
	s := newSession(claims{Purpose: forUpload, Account: c.Account.ID, Script: script, Manifest: digest, ID: rand.Text()}, files, len(kept))
	missing, err := st.findMissing(s)
	if err != nil {
		return product.Reply{}, err
	}
	s.missing = missing
	cl := s.claims
	if len(missing) == 0 {
		cl.Purpose = forComplete
	} else {
		st.sessions.put(s)
	}
	token, err := st.sign(cl)
	if err != nil {
		return product.Reply{}, err
	}
	return product.Reply{Status: http.StatusOK, Result: map[string]any{"jwt": token, "buckets": s.buckets(missing)}}, nil
}

func newSession(c claims, files map[string]wanted, weight int) *session {
	s := &session{claims: c, files: make(map[string]announced, len(files)), weight: int64(weight)}
	for p, w := range files {
		// Of several paths the first counts, so that every process takes the same one.
		if a, ok := s.files[w.Hash]; !ok || p < a.path {
			s.files[w.Hash] = announced{w.Size, p}
		}
	}
	return s
}

// findMissing returns the hashes of what is not there, in the order of paths. It makes what is there
// young: it is still wanted.
func (st *Store) findMissing(s *session) ([]string, error) {
	var missing []string
	for hash, a := range s.files {
		e, ok := st.index.get(s.Account, hash, s.ID)
		if ok && e.size == a.size {
			there, err := st.o.Blobs.Touch(e.digest)
			if err != nil {
				return nil, err
			}
			if there {
				continue
			}
		}
		missing = append(missing, hash)
	}
	slices.SortFunc(missing, func(a, b string) int { return strings.Compare(s.files[a].path, s.files[b].path) })
	return missing, nil
}

// buckets groups hashes into requests of a fair size.
func (s *session) buckets(hashes []string) [][]string {
	buckets := [][]string{}
	var bytes int64
	for _, hash := range hashes {
		size := s.files[hash].size
		last := len(buckets) - 1
		if last < 0 || bytes+size > bucketBytes || len(buckets[last]) == bucketFiles {
			buckets = append(buckets, nil)
			last, bytes = last+1, 0
		}
		buckets[last] = append(buckets[last], hash)
		bytes += size
	}
	return buckets
}

// resume returns the session of a request's token.
func (st *Store) resume(c *product.Call) (*session, error) {
	scheme, token, _ := strings.Cut(c.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil, fault.New(fault.Unauthenticated, "An asset upload needs the header Authorization: Bearer with the jwt of its upload session.")
	}
	cl, err := st.verify(strings.TrimSpace(token), forUpload)
	if err != nil {
		return nil, err
	}
	if c.Account == nil || cl.Account != c.Account.ID || cl.Account != c.Params["account_id"] {
		return nil, fault.New(fault.Denied, "The token of the asset upload is for another account.")
	}
	if s := st.sessions.get(cl.ID); s != nil {
		return s, nil
	}
	files, weight, err := st.announced(cl.Manifest)
	if err != nil {
		return nil, err
	}
	s := newSession(cl, files, weight)
	if s.missing, err = st.findMissing(s); err != nil {
		return nil, err
	}
	st.sessions.put(s)
	return s, nil
}

// announced reads what a session has announced.
func (st *Store) announced(digest string) (files map[string]wanted, weight int, err error) {
	kept, err := st.o.Blobs.Read(digest, 0)
	if fault.KindOf(err) == fault.NotFound {
		return nil, 0, fault.New(fault.Conflict, "This upload session is gone. Start another; files already uploaded are not asked for again.")
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read what an upload session announced: %w", err)
	}
	if err := json.Unmarshal(kept, &files); err != nil {
		return nil, 0, fmt.Errorf("decode what an upload session announced: %w", err)
	}
	return files, len(kept), nil
}

// progress answers an upload: with the token that completes if nothing is missing any more.
func (st *Store) progress(s *session) (product.Reply, error) {
	if err := st.index.sync(s.Account); err != nil {
		return product.Reply{}, err
	}
	result := map[string]any{}
	if st.whole(s) {
		cl := s.claims
		cl.Purpose = forComplete
		token, err := st.sign(cl)
		if err != nil {
			return product.Reply{}, err
		}
		result["jwt"] = token
	}
	return product.Reply{Status: http.StatusCreated, Result: result}, nil
}

// whole tells whether all files of a session are there. Other uploads of the session wait: the last
// of them must not miss what the others have brought.
func (st *Store) whole(s *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.missing) > 0 {
		last := len(s.missing) - 1
		e, ok := st.index.get(s.Account, s.missing[last], s.ID)
		if !ok || e.size != s.files[s.missing[last]].size || !st.o.Blobs.Has(e.digest) {
			return false
		}
		s.missing = s.missing[:last]
	}
	return true
}

// Complete takes the token that an upload of a script names in metadata.assets.jwt and returns the
// digest of the manifest for the version. The manifest is durable in the blob store.
func (st *Store) Complete(ctx context.Context, accountID, script, token string) (manifest string, err error) {
	cl, err := st.verify(token, forComplete)
	if err != nil {
		if fault.KindOf(err) == fault.Unauthenticated { // of the assets, not of the caller
			err = fault.New(fault.Invalid, "%s", fault.All(err)[0].Message).WithCode(codeInvalid).At("assets.jwt")
		}
		return "", err
	}
	if cl.Account != accountID || cl.Script != script {
		return "", fault.New(fault.Invalid, "The token of the assets is for another script, %q. Start an upload session for %q.", cl.Script, script).WithCode(codeInvalid).At("assets.jwt")
	}
	files, _, err := st.announced(cl.Manifest)
	if err != nil {
		return "", err
	}
	m := Manifest{Files: make(map[string]*File, len(files))}
	for p, w := range files {
		e, ok := st.index.get(accountID, w.Hash, cl.ID)
		if ok && e.size == w.Size {
			if ok, err = st.o.Blobs.Touch(e.digest); err != nil {
				return "", err
			}
		}
		if !ok || e.size != w.Size {
			return "", fault.New(fault.Conflict, "The asset %s is no longer there. Start another upload session.", p).At("assets.jwt")
		}
		m.Files[p] = &File{Hash: w.Hash, Size: e.size, Digest: e.digest, Type: e.kind}
	}
	kept, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	return st.o.Blobs.PutBytes(ctx, kept)
}

// extension returns what follows the last dot of a path's last segment, as Node's path.extname has
// it: nothing for a name that only begins with a dot.
func extension(p string) string {
	name := path.Base(p)
	at := strings.LastIndexByte(name, '.')
	if at <= 0 {
		return ""
	}
	return name[at+1:]
}
