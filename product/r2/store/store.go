// Package store keeps the objects of R2: an index in the node's store, small objects in it, and the
// content of larger ones in a volume. It knows no protocol: S3, bindings and the REST API are fronts of
// it. A put is wholly there or not at all, and what was acknowledged is on disk.
package store

import (
	"io"
	"time"
)

// Limits of R2. Source: developers.cloudflare.com/r2/platform/limits.
const (
	MaxKey       = 1024    // bytes of UTF-8
	MaxMetadata  = 8192    // bytes of custom metadata, keys and values
	MaxPut       = 5 << 30 // bytes of one put or part
	MaxObject    = 5 << 40 // bytes
	MaxParts     = 10_000  // of a multipart upload
	MinPart      = 5 << 20 // bytes of all parts but the last
	MaxDelete    = 1000    // keys of one delete
	MaxList      = 1000    // entries of one listing
	UploadExpiry = 7 * 24 * time.Hour
)

// Object is what is known of an object beside its content. Immutable.
type Object struct {
	Key          string
	Version      string // unique to this content, 32 hex digits
	Size         int64  // bytes
	ETag         string // without quotes: hex MD5, or of multipart uploads that of the parts' MD5s, -, and their number
	Uploaded     time.Time
	HTTP         HTTPMetadata
	Custom       map[string]string
	Checksums    Checksums
	StorageClass string  // Standard, InfrequentAccess
	SSECKeyMD5   string  // base64; empty unless encrypted with a key of the client's
	Parts        []int64 // sizes of the parts of a multipart upload; nil for others
}

// HTTPMetadata is what an object is served with.
type HTTPMetadata struct {
	ContentType        string
	ContentLanguage    string
	ContentDisposition string
	ContentEncoding    string
	CacheControl       string
	CacheExpiry        time.Time // zero: none
}

// Checksums are those that are known of an object; nil where not. MD5 is always known of what was put
// at once.
type Checksums struct {
	MD5, SHA1, SHA256, SHA384, SHA512, CRC32, CRC32C, CRC64NVME []byte
	// Composite tells that SHA1, SHA256, CRC32 and CRC32C are over the checksums of parts.
	Composite bool
}

// Condition is what has to hold of the object there for something to be done. Zero fields ask nothing.
type Condition struct {
	ETagMatches      []string // "*" is any object
	ETagDoesNotMatch []string // "*" is any object
	UploadedBefore   time.Time
	UploadedAfter    time.Time
	WholeSeconds     bool // compare times in seconds, as HTTP does
}

// Range is a part of an object's content.
type Range struct {
	Offset int64
	Length int64 // -1: to the end
	Suffix int64 // the last so many bytes instead; 0: not
}

// PutOptions say what comes with a new object.
type PutOptions struct {
	If           Condition
	HTTP         HTTPMetadata
	Custom       map[string]string
	StorageClass string    // empty: the bucket's
	Expect       Checksums // that the content has to have, or nothing is put
	Compute      []string  // further checksums to keep: sha1, sha256, sha384, sha512, crc32, crc32c, crc64nvme
	SSECKey      []byte    // 32 bytes; nil: not encrypted
	Size         int64     // that the client announced; -1 unknown
}

// GetOptions say what is wanted of an object.
type GetOptions struct {
	If      Condition
	Range   *Range // nil: all
	SSECKey []byte
}

// Reading is an object being read. Close Body if it is not nil.
type Reading struct {
	Object *Object
	Range  Range         // what Body has: Offset and Length in full
	Body   io.ReadCloser // nil if the condition does not hold; *volume.File-backed bodies can be sent with sendfile
	Failed Failed
}

// Failed says which half of a condition did not hold.
type Failed uint8

// What became of a condition.
const (
	Held         Failed = iota
	Precondition        // as HTTP's 412
	NotModified         // as HTTP's 304
)

// ListOptions say what part of a bucket is listed.
type ListOptions struct {
	Prefix    string
	Delimiter string
	After     string // keys after it
	Limit     int    // 0: MaxList
}

// Listing is one page of a bucket, in the order of UTF-8 keys. Objects and Prefixes together count
// against the limit.
type Listing struct {
	Objects   []*Object
	Prefixes  []string
	Truncated bool
	Next      string // to go on with as After; opaque, may be no key
}

// Upload is a multipart upload under way.
type Upload struct {
	ID        string
	Key       string
	Initiated time.Time
	Options   PutOptions
}

// Part is one part of an upload.
type Part struct {
	Number    int // from 1
	ETag      string
	Size      int64
	Uploaded  time.Time
	Checksums Checksums
}
