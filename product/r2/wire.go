package r2

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"selvage/product/r2/store"
	"selvage/spec"
)

// The JSON that the runtime's R2 client and the node say to each other. Source: workerd
// src/workerd/api/r2-api.capnp: numbers of 64 bits are strings there, both forms are read.

// number is a 64-bit integer, as number or string.
type number int64

// UnmarshalJSON reads either form; what is beyond 63 bits is the largest.
func (n *number) UnmarshalJSON(data []byte) error {
	text := strings.Trim(string(data), `"`)
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return errors.New("not a whole number")
	}
	*n = number(min(v, 1<<63-1))
	return nil
}

// hexBytes is binary data in hex.
type hexBytes []byte

// UnmarshalJSON reads hex.
func (h *hexBytes) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	raw, err := hex.DecodeString(text)
	*h = raw
	return err
}

// call is one request of the runtime's client.
type call struct {
	Method string `json:"method"`

	Object  string   `json:"object"`
	Objects []string `json:"objects"`

	// get
	Range       *wireRange     `json:"range"`
	RangeHeader string         `json:"rangeHeader"`
	OnlyIf      *wireCondition `json:"onlyIf"`
	SSEC        *wireSSEC      `json:"ssec"`

	// put, createMultipartUpload
	Custom       []wireField `json:"customFields"`
	HTTP         *wireHTTP   `json:"httpFields"`
	StorageClass string      `json:"storageClass"`
	wireHashes

	// list
	Limit      *number `json:"limit"`
	Prefix     string  `json:"prefix"`
	Cursor     string  `json:"cursor"`
	Delimiter  string  `json:"delimiter"`
	StartAfter string  `json:"startAfter"`
	Include    []int   `json:"include"`

	wireUpload

	bodySize int64 // of what follows the call; -1 unknown
}

// wireHashes are what a put has to have.
type wireHashes struct {
	MD5    []byte   `json:"md5"` // base64
	SHA1   hexBytes `json:"sha1"`
	SHA256 hexBytes `json:"sha256"`
	SHA384 hexBytes `json:"sha384"`
	SHA512 hexBytes `json:"sha512"`
}

// wireUpload is what calls on uploads say.
type wireUpload struct {
	UploadID   string     `json:"uploadId"`
	PartNumber int        `json:"partNumber"`
	Parts      []wirePart `json:"parts"`
}

type wirePart struct {
	ETag string `json:"etag"`
	Part int    `json:"part"`
}

type wireField struct {
	K string `json:"k"`
	V string `json:"v"`
}

type wireRange struct {
	Offset *number `json:"offset"`
	Length *number `json:"length"`
	Suffix *number `json:"suffix"`
}

type wireETag struct {
	Value string `json:"value"`
	Type  string `json:"type"` // strong, weak, wildcard
}

type wireCondition struct {
	ETagMatches      []wireETag `json:"etagMatches"`
	ETagDoesNotMatch []wireETag `json:"etagDoesNotMatch"`
	UploadedBefore   *number    `json:"uploadedBefore"`
	UploadedAfter    *number    `json:"uploadedAfter"`
	WholeSeconds     bool       `json:"secondsGranularity"`
}

type wireSSEC struct {
	Key string `json:"key"` // hex
}

type wireHTTP struct {
	ContentType        string  `json:"contentType,omitempty"`
	ContentLanguage    string  `json:"contentLanguage,omitempty"`
	ContentDisposition string  `json:"contentDisposition,omitempty"`
	ContentEncoding    string  `json:"contentEncoding,omitempty"`
	CacheControl       string  `json:"cacheControl,omitempty"`
	CacheExpiry        *number `json:"cacheExpiry,omitempty"` // milliseconds
}

// MarshalJSON writes what workerd reads.
func (n number) MarshalJSON() ([]byte, error) {
	return []byte(`"` + strconv.FormatInt(int64(n), 10) + `"`), nil
}

// condition returns what has to hold. Only strong tags match in etagMatches (RFC 9110, 13.1.1).
func (c *wireCondition) condition() store.Condition {
	var out store.Condition
	if c == nil {
		return out
	}
	out.WholeSeconds = c.WholeSeconds
	for _, e := range c.ETagMatches {
		switch e.Type {
		case "wildcard":
			out.ETagMatches = append(out.ETagMatches, "*")
		case "weak":
			out.ETagMatches = append(out.ETagMatches, "W/"+e.Value) // matches nothing
		default:
			out.ETagMatches = append(out.ETagMatches, e.Value)
		}
	}
	for _, e := range c.ETagDoesNotMatch {
		if e.Type == "wildcard" {
			e.Value = "*"
		}
		out.ETagDoesNotMatch = append(out.ETagDoesNotMatch, e.Value)
	}
	if c.UploadedBefore != nil {
		out.UploadedBefore = time.UnixMilli(int64(*c.UploadedBefore))
	}
	if c.UploadedAfter != nil {
		out.UploadedAfter = time.UnixMilli(int64(*c.UploadedAfter))
	}
	return out
}

func (h *wireHTTP) metadata() store.HTTPMetadata {
	if h == nil {
		return store.HTTPMetadata{}
	}
	m := store.HTTPMetadata{
		ContentType: h.ContentType, ContentLanguage: h.ContentLanguage, ContentDisposition: h.ContentDisposition,
		ContentEncoding: h.ContentEncoding, CacheControl: h.CacheControl,
	}
	if h.CacheExpiry != nil {
		m.CacheExpiry = time.UnixMilli(int64(*h.CacheExpiry))
	}
	return m
}

// key returns a client's key of 32 bytes, nil if there is none.
func (s *wireSSEC) key() ([]byte, error) {
	if s == nil || s.Key == "" {
		return nil, nil
	}
	raw, err := hex.DecodeString(s.Key)
	if err != nil || len(raw) != 32 {
		return nil, errBadArgument
	}
	return raw, nil
}

// putOptions returns what comes with an object.
func (c *call) putOptions() (store.PutOptions, error) {
	key, err := c.SSEC.key()
	if err != nil {
		return store.PutOptions{}, err
	}
	o := store.PutOptions{If: c.OnlyIf.condition(), HTTP: c.HTTP.metadata(), StorageClass: c.StorageClass, SSECKey: key, Size: -1}
	if len(c.Custom) > 0 {
		o.Custom = make(map[string]string, len(c.Custom))
		for _, f := range c.Custom {
			o.Custom[f.K] = f.V
		}
	}
	if o.StorageClass != "" && spec.CheckStorageClass(o.StorageClass) != nil {
		return o, errBadArgument
	}
	o.Expect = store.Checksums{MD5: c.MD5, SHA1: c.SHA1, SHA256: c.SHA256, SHA384: c.SHA384, SHA512: c.SHA512}
	return o, nil
}

// wireObject is what is said of an object.
type wireObject struct {
	Name         string            `json:"name"`
	Version      string            `json:"version"`
	Size         number            `json:"size"`
	ETag         string            `json:"etag"`
	Uploaded     number            `json:"uploaded"`   // milliseconds
	HTTP         *wireHTTP         `json:"httpFields"` // {} is none, as miniflare says it
	Custom       []wireField       `json:"customFields"`
	Range        *wireSpan         `json:"range,omitempty"`
	Checksums    map[string]string `json:"checksums"`
	StorageClass string            `json:"storageClass"`
	SSEC         *wireSSECAnswer   `json:"ssec,omitempty"`
}

type wireSpan struct {
	Offset number `json:"offset"`
	Length number `json:"length"`
}

type wireSSECAnswer struct {
	Algorithm string `json:"algorithm"`
	KeyMD5    string `json:"keyMd5"`
}

// asWire tells of an object; http and custom say which of its metadata to tell.
func asWire(o *store.Object, http, custom bool) wireObject {
	w := wireObject{
		Name: o.Key, Version: o.Version, Size: number(o.Size), ETag: o.ETag, Uploaded: number(o.Uploaded.UnixMilli()), StorageClass: o.StorageClass,
		Checksums: map[string]string{}, HTTP: &wireHTTP{}, Custom: []wireField{},
	}
	if http {
		*w.HTTP = wireHTTP{
			ContentType: o.HTTP.ContentType, ContentLanguage: o.HTTP.ContentLanguage, ContentDisposition: o.HTTP.ContentDisposition,
			ContentEncoding: o.HTTP.ContentEncoding, CacheControl: o.HTTP.CacheControl,
		}
		if !o.HTTP.CacheExpiry.IsZero() {
			at := number(o.HTTP.CacheExpiry.UnixMilli())
			w.HTTP.CacheExpiry = &at
		}
	}
	if custom {
		for _, k := range sortedKeys(o.Custom) {
			w.Custom = append(w.Custom, wireField{k, o.Custom[k]})
		}
	}
	if o.Checksums.Composite {
		o = &store.Object{SSECKeyMD5: o.SSECKeyMD5}
	}
	for name, sum := range map[string][]byte{"0": o.Checksums.MD5, "1": o.Checksums.SHA1, "2": o.Checksums.SHA256, "3": o.Checksums.SHA384, "4": o.Checksums.SHA512} {
		if sum != nil {
			w.Checksums[name] = hex.EncodeToString(sum)
		}
	}
	if o.SSECKeyMD5 != "" {
		w.SSEC = &wireSSECAnswer{"AES256", hexOfBase64(o.SSECKeyMD5)}
	}
	return w
}

// hexOfBase64 is how the binding shows the MD5 of a key that S3 shows in base64.
func hexOfBase64(s string) string {
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return s
	}
	return hex.EncodeToString(raw)
}
