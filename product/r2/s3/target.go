package s3

import (
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"selvage/product/r2/store"
)

// target is what a request is about, from its address alone.
type target struct {
	rawPath  string // as sent
	rawQuery string
	query    url.Values
	account  string // that the host names; empty if none
	bucket   string // empty: the account
	key      string // empty: the bucket
	inHost   bool   // the host names the bucket
}

// readTarget reads the address of a request. known tells whether an account exists.
//
// The host of ACCOUNT.r2.example.com names an account, that of BUCKET.r2.example.com a bucket, that of
// BUCKET.ACCOUNT.r2.example.com both; "s3" or "localhost" may stand for "r2". With any other host, and
// with an IP address, the path begins with the bucket.
func readTarget(r *http.Request, known func(accountID string) bool) (*target, *Error) {
	t := &target{}
	t.rawPath, t.rawQuery, _ = strings.Cut(r.RequestURI, "?")
	if !strings.HasPrefix(t.rawPath, "/") { // a client that thinks this is a proxy
		t.rawPath = r.URL.EscapedPath()
	}
	var err error
	if t.query, err = url.ParseQuery(t.rawQuery); err != nil {
		return nil, refuse(http.StatusBadRequest, "InvalidURI", "Couldn't parse the specified URI.")
	}
	path, err := url.PathUnescape(strings.TrimPrefix(t.rawPath, "/"))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "InvalidURI", "Couldn't parse the specified URI.")
	}
	t.readHost(r.Host, known)
	if t.inHost {
		t.key = path
	} else {
		// The bucket is cut off before decoding: a slash in it that was escaped is a part of its name.
		bucket, _, _ := strings.Cut(strings.TrimPrefix(t.rawPath, "/"), "/")
		if bucket, err = url.PathUnescape(bucket); err != nil {
			return nil, refuse(http.StatusBadRequest, "InvalidURI", "Couldn't parse the specified URI.")
		}
		t.bucket, t.key = bucket, strings.TrimPrefix(strings.TrimPrefix(path, bucket), "/")
	}
	if len(t.key) > store.MaxKey || !utf8.ValidString(t.key) {
		return nil, byCode(10020)
	}
	return t, nil
}

func (t *target) readHost(host string, known func(accountID string) bool) {
	host = strings.ToLower(host)
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		host = host[:i]
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	end := -1 // of the labels before the service's
	for i, l := range labels {
		if l == "r2" || l == "s3" || l == "localhost" && i == len(labels)-1 {
			end = i
			break
		}
	}
	// Jurisdictions have hosts of their own at Cloudflare: ACCOUNT.eu.r2.cloudflarestorage.com.
	if end >= 2 && (labels[end-1] == "eu" || labels[end-1] == "fedramp") {
		end--
	}
	if end < 1 || end > 2 {
		return
	}
	if isID(labels[end-1]) && known(labels[end-1]) {
		t.account = labels[end-1]
		end--
	}
	if end == 1 {
		t.bucket, t.inHost = labels[0], true
	}
}

func isID(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == ""
}

// canonicalPaths returns the forms of the path that clients sign: as it was sent, and, where that
// differs, encoded as SigV4 asks for. Both name the same thing.
func (t *target) canonicalPaths() []string {
	path := t.rawPath
	if path == "" {
		path = "/"
	}
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return []string{path}
	}
	encoded := string(appendEncoded(nil, decoded, true))
	if encoded == path {
		return []string{path}
	}
	return []string{path, encoded}
}
