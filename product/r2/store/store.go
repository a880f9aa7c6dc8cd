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

// Bucket names a bucket so that nothing of another account's can be meant.
type Bucket struct {
	Account string // ID
	ID      string // spec.Bucket.ID, not its name
}

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

	content content // where it lies
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
	// Composite tells that SHA1, SHA256, CRC32 and CRC32C are over the checksums of parts. MD5 is not known
	// of multipart objects.
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
	Size         int64     // that the client announced, refused if the body has another; -1 unknown

	// Trailer is asked once, after the body's end, for checksums that only came then; their kinds must be
	// in Compute. nil: none.
	Trailer func() (Checksums, error)
}

// CopyOptions say what a copy of an object is to be. Zero fields keep what the source has.
type CopyOptions struct {
	IfSource      Condition // of the source
	If            Condition // of what is there at the target
	Replace       bool      // HTTP and Custom replace the source's
	HTTP          HTTPMetadata
	Custom        map[string]string
	StorageClass  string
	Compute       []string // further checksums to have; the content is read if the source lacks one
	SourceSSECKey []byte
	SSECKey       []byte // for the copy; nil: it is not encrypted
}

// Target is where a copy goes.
type Target struct {
	Bucket Bucket
	Key    string
}

// PartOf names a part of an upload.
type PartOf struct {
	Bucket Bucket
	Key    string
	Upload string // ID
	Number int    // from 1; of ListParts: parts after it
}

// UploadOptions say what a multipart upload will make.
type UploadOptions struct {
	HTTP         HTTPMetadata
	Custom       map[string]string
	StorageClass string
	Checksum     string // of each part and the whole: sha1, sha256, crc32, crc32c, crc64nvme; empty: none
	Composite    bool   // Checksum of the whole is that of the parts' checksums, not of its bytes
	SSECKey      []byte // every part has to come with it again
}

// PartOptions say what comes with a part.
type PartOptions struct {
	Expect  Checksums
	Size    int64 // announced; -1 unknown
	SSECKey []byte
	Compute []string // further checksums to return
	Trailer func() (Checksums, error)
}

// CopyPartOptions say what of an object becomes a part.
type CopyPartOptions struct {
	IfSource      Condition
	Range         *Range // nil: all
	SourceSSECKey []byte
	SSECKey       []byte
}

// CompleteOptions say which parts make the object.
type CompleteOptions struct {
	Parts  []CompletedPart // in ascending order
	If     Condition       // of what is there
	Expect Checksums       // of the whole, composite or not as the upload was begun
	Size   int64           // expected of the whole; 0: not checked
}

// CompletedPart names a part that was put before.
type CompletedPart struct {
	Number    int
	ETag      string    // with or without quotes
	Checksums Checksums // compared where not nil
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
	Body   io.ReadCloser // nil if the condition does not hold; *filebody.Body-backed bodies can be sent with sendfile
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
	ID           string
	Key          string
	Initiated    time.Time
	StorageClass string
	Checksum     string
	Composite    bool
	SSECKeyMD5   string
}

// UploadListOptions say which uploads are listed.
type UploadListOptions struct {
	Prefix      string
	Delimiter   string
	AfterKey    string // uploads of keys after it, and of it
	AfterUpload string // those with an ID after this; empty: none of AfterKey
	Limit       int    // 0: MaxList
}

// UploadListing is one page of uploads, in the order of keys and then of time.
type UploadListing struct {
	Uploads    []*Upload
	Prefixes   []string
	Truncated  bool
	NextKey    string // to go on with as AfterKey
	NextUpload string // to go on with as AfterUpload; empty after a prefix
}

// PartListing is one page of an upload's parts.
type PartListing struct {
	Upload    *Upload
	Parts     []*Part
	Truncated bool
	Next      int // number to go on after
}

// Usage is what a bucket or an account uses.
type Usage struct {
	Objects       int64
	Bytes         int64 // of objects
	Uploads       int64 // under way
	UploadBytes   int64 // of parts of uploads under way
	MetadataBytes int64 // of keys and custom metadata of objects
	// InfrequentObjects and InfrequentBytes are those of Objects and Bytes in the class InfrequentAccess.
	InfrequentObjects, InfrequentBytes int64
}

// Event is something that was done to an object. It is told after it is durable, at least once.
type Event struct {
	Bucket Bucket
	Action string // PutObject, CopyObject, CompleteMultipartUpload, DeleteObject, LifecycleDeletion
	Key    string
	Size   int64  // 0 of deletions
	ETag   string // empty of deletions
	Time   time.Time
	// Source is what a CopyObject copied.
	SourceBucket Bucket
	SourceKey    string
}

// Actions of events.
const (
	ActionPut       = "PutObject"
	ActionCopy      = "CopyObject"
	ActionComplete  = "CompleteMultipartUpload"
	ActionDelete    = "DeleteObject"
	ActionLifecycle = "LifecycleDeletion"
)

// Storage classes.
const (
	Standard         = "Standard"
	InfrequentAccess = "InfrequentAccess"
)

// Rule is one rule of a bucket's lifecycle. Zero fields do nothing.
type Rule struct {
	ID              string
	Prefix          string        // of keys
	ExpireAfter     time.Duration // since the object was uploaded
	ExpireAt        time.Time
	AbortAfter      time.Duration // since the upload was initiated
	TransitionAfter time.Duration // to InfrequentAccess, since the object was uploaded
	TransitionAt    time.Time
}

// LifecycleReport says what the rules did.
type LifecycleReport struct {
	Looked, Expired, Aborted, Transitioned int64
}

// Damage is content that is not what was put.
type Damage struct {
	Bucket Bucket
	Key    string // of the object, or of the upload whose part it is
	Upload string // ID, if it belongs to an upload that was not completed when it was put
	Found  time.Time
	Reason string
}

// ScrubReport says what a scrubber's run found.
type ScrubReport struct {
	Started, Ended  time.Time // Ended is zero while it runs
	Contents, Bytes int64     // looked at
	Damaged         int64
}

// ExportReport says what an export wrote.
type ExportReport struct {
	Objects, Bytes int64 // written by this run
	Skipped        int64 // there already
	Damaged        int64 // could not be read; the manifest names them
}

// Part is one part of an upload.
type Part struct {
	Number    int // from 1
	ETag      string
	Size      int64
	Uploaded  time.Time
	Checksums Checksums
}
