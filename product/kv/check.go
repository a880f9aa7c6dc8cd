package kv

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"selvage/foundation/fault"
	"selvage/product/kv/store"
)

// Cloudflare's limits.
const (
	maxKey        = 512 // bytes
	maxMetadata   = 1024
	maxListed     = 1000
	maxGets       = 100
	maxGetBytes   = 25 << 20 // of a bulk get
	minTTL        = 60       // seconds
	minCacheTTL   = 30
	maxExpiration = math.MaxInt64 / int64(time.Second)
)

// Cloudflare's error codes.
const (
	codeNoKey         = 10009
	codeNamespaceID   = 10011 // not one
	codeBody          = 10012 // the body, or a pair in it, is not of the form that it has to be
	codeNoNamespace   = 10013
	codeTitleTaken    = 10014
	codeManySpaces    = 10018
	codeNoTitle       = 10019
	codeTooLarge      = 10024
	codeLimit         = 10028
	codeInvalid       = 10029
	codeKeyTooLong    = 10030
	codeExpiration    = 10033
	codeExpirationTTL = 10034
	codeCursor        = 10041
	codeKeyName       = 10042 // "." and ".."
	codeOrder         = 10043
	codeDirection     = 10044
	codeMetadata      = 10047
)

func invalid(code int, format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, format, args...).WithCode(code)
}

// checkKey refuses what is no key.
func checkKey(key string) error {
	switch {
	case key == "":
		return invalid(codeInvalid, "Key names must not be empty")
	case key == "." || key == "..":
		return invalid(codeKeyName, "Illegal key name %q. Please use a different name.", key)
	case !utf8.ValidString(key):
		return invalid(codeInvalid, "Key names must be UTF-8.")
	}
	return checkKeyLength(key)
}

func checkKeyLength(key string) error {
	if len(key) > maxKey {
		return fault.New(fault.TooMuch, "UTF-8 encoded length of %d exceeds key length limit of %d.", len(key), maxKey).WithCode(codeKeyTooLong)
	}
	return nil
}

func valueTooLarge(size int64) error {
	return fault.New(fault.TooMuch, "Value length of %d exceeds limit of %d.", size, store.MaxValue).WithCode(codeTooLarge)
}

// seconds reads a number of seconds as clients write it: a whole number, or one with a fraction of
// nothing.
func seconds(s string) (int64, bool) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, n <= maxExpiration
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || math.Abs(f) > float64(maxExpiration) {
		return 0, false
	}
	return int64(f), true
}

// expiry returns when a key expires by the options of a put, of which "" is absent; 0 is never.
func expiry(now int64, expiration, ttl string) (int64, error) {
	if ttl != "" {
		n, ok := seconds(ttl)
		if !ok || n <= 0 {
			return 0, invalid(codeExpirationTTL, "Invalid expiration_ttl of %.40s. Please specify integer greater than 0.", ttl)
		}
		if n < minTTL {
			return 0, invalid(codeExpirationTTL, "Invalid expiration_ttl of %s. Expiration TTL must be at least %d.", ttl, minTTL)
		}
		return min(now+n, maxExpiration), nil
	}
	if expiration == "" {
		return 0, nil
	}
	n, ok := seconds(expiration)
	if !ok || n <= now {
		return 0, invalid(codeExpiration, "Invalid expiration of %.40s. Please specify integer greater than the current number of seconds since the UNIX epoch.", expiration)
	}
	if n < now+minTTL {
		return 0, invalid(codeExpiration, "Invalid expiration of %s. Expiration times must be at least %d seconds in the future.", expiration, minTTL)
	}
	return n, nil
}

// metadataOf returns metadata as it is stored: JSON without blanks, or nil for none.
func metadataOf(text []byte) ([]byte, error) {
	if len(text) == 0 {
		return nil, nil
	}
	if len(text) > maxMetadata {
		var small bytes.Buffer // blanks do not count
		if len(text) < 64*maxMetadata && json.Compact(&small, text) == nil && small.Len() <= maxMetadata {
			return small.Bytes(), nil
		}
		return nil, fault.New(fault.TooMuch, "Metadata length of %d exceeds limit of %d.", len(text), maxMetadata).WithCode(codeTooLarge)
	}
	var small bytes.Buffer
	if !utf8.Valid(text) || json.Compact(&small, text) != nil {
		return nil, invalid(codeMetadata, "The metadata is not valid JSON.")
	}
	if small.String() == "null" {
		return nil, nil
	}
	return small.Bytes(), nil
}

// checkCacheTTL refuses a cacheTtl that is too short. It has no other effect: a node always answers
// with what was put last.
func checkCacheTTL(s string) error {
	if s == "" {
		return nil
	}
	if n, err := strconv.ParseFloat(s, 64); err != nil || !(n >= minCacheTTL) {
		return invalid(codeInvalid, "Invalid cache_ttl of %.40s. Cache TTL must be at least %d.", s, minCacheTTL)
	}
	return nil
}

// listing reads the options of a list.
func listing(name, limit, prefix, cursor string) (q store.Query, err error) {
	q = store.Query{Prefix: prefix, Limit: maxListed}
	if limit != "" {
		n, err := strconv.Atoi(limit)
		if err != nil || n < 1 {
			return q, invalid(codeLimit, "Invalid %s of %.40s. Please specify an integer greater than 0.", name, limit)
		}
		if n > maxListed {
			return q, invalid(codeLimit, "Invalid %s of %d. Please specify an integer less than %d.", name, n, maxListed)
		}
		q.Limit = n
	}
	if err := checkKeyLength(prefix); err != nil {
		return q, err
	}
	if cursor != "" {
		// Cursors came in both alphabets and with or without padding, in Cloudflare's time and ours.
		after, err := base64.RawStdEncoding.DecodeString(strings.NewReplacer("-", "+", "_", "/", "=", "").Replace(cursor))
		if err != nil || len(after) > maxKey {
			return q, invalid(codeCursor, "Invalid cursor. Use the cursor of the page before, as it is.")
		}
		q.After = string(after)
	}
	return q, nil
}

// cursorOf says where the next page begins; "" if there is none.
func cursorOf(page *store.Page) string {
	if !page.More {
		return ""
	}
	return base64.StdEncoding.EncodeToString([]byte(page.Next))
}
