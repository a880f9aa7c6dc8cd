package s3

import (
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"selvage/product/r2/store"
	"selvage/spec"
)

// listBuckets lists the account's buckets, as R2 does in pages: the parameters of a listing of objects
// may come in the query or in headers of their own.
func (x *request) listBuckets() error {
	p := map[string]string{}
	for _, name := range x.parameters() {
		if !slices.Contains([]string{"prefix", "start-after", "continuation-token", "max-keys", "max-buckets", "bucket-region"}, name) {
			return notImplemented("ListBuckets search parameter %s", name)
		}
		p[name] = x.query.Get(name)
	}
	for _, name := range []string{"prefix", "start-after", "continuation-token", "max-keys"} {
		if v := x.r.Header.Get("Cf-" + name); v != "" {
			p[name] = v
		}
	}
	if p["max-keys"] == "" {
		p["max-keys"] = p["max-buckets"]
	}
	limit := store.MaxList
	if p["max-keys"] != "" {
		n, refusal := maxKeys(p["max-keys"])
		if refusal != nil {
			return refusal
		}
		limit = min(n, limit)
	}
	after := p["start-after"]
	if token := p["continuation-token"]; token != "" {
		raw, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil {
			return invalidArgument("The continuation token provided is incorrect")
		}
		after = string(raw)
	}
	var all []*spec.Bucket
	for _, b := range x.s.o.Buckets.Snapshot().StorageOf(x.account).Buckets {
		if strings.HasPrefix(b.Name, p["prefix"]) && b.Name > after && (x.cred.Only == nil || b.Name == x.cred.Only.Bucket) {
			all = append(all, b)
		}
	}
	slices.SortFunc(all, func(a, b *spec.Bucket) int { return strings.Compare(a.Name, b.Name) })
	next := ""
	if len(all) > limit && limit > 0 {
		all = all[:limit]
		next = base64.RawURLEncoding.EncodeToString([]byte(all[limit-1].Name))
		x.w.Header().Set("Cf-Is-Truncated", "true")
		x.w.Header().Set("Cf-Next-Continuation-Token", next)
	}
	d := newDocument("ListAllMyBucketsResult")
	x.owner(d)
	d.start("Buckets")
	for _, b := range all {
		d.start("Bucket")
		d.text("Name", b.Name)
		d.time("CreationDate", b.CreatedOn)
		d.end()
	}
	d.end()
	if next != "" {
		d.truth("IsTruncated", true)
		d.text("NextContinuationToken", next)
		d.text("ContinuationToken", next) // what AWS calls it here
	}
	d.optional("Prefix", p["prefix"])
	x.w.xml(http.StatusOK, d.finish())
	return nil
}

// owner writes whose things these are.
func (x *request) owner(d *document) {
	d.start("Owner")
	d.text("ID", x.account)
	d.text("DisplayName", x.account)
	d.end()
}

func (x *request) headBucket() error {
	x.w.Header().Set("X-Amz-Bucket-Region", region(x.found))
	x.w.empty(http.StatusOK)
	return nil
}

// region is where a bucket is, in the words of a location hint.
func region(b *spec.Bucket) string {
	if b.Location == "" {
		return "auto"
	}
	return b.Location
}

// Bounds of XML that clients send, in bytes.
const (
	maxCreateXML    = 16 << 10
	maxCORSXML      = 256 << 10
	maxLifecycleXML = 1 << 20
	maxDeleteXML    = 8 << 20
	maxCompleteXML  = 8 << 20
)

func (x *request) createBucket() error {
	var in struct {
		XMLName  xml.Name `xml:"CreateBucketConfiguration"`
		Location string   `xml:"LocationConstraint"`
	}
	data, err := x.readAll(maxCreateXML)
	if err != nil {
		return err
	}
	if len(data) > 0 {
		if refusal := parseXML(data, "CreateBucketConfiguration", &in); refusal != nil {
			return refusal
		}
	}
	if v := x.r.Header.Get("X-Amz-Bucket-Object-Lock-Enabled"); v != "" && !strings.EqualFold(v, "false") {
		return badHeader("x-amz-bucket-object-lock-enabled", v)
	}
	if v := x.r.Header.Get("X-Amz-Acl"); v != "" && !slices.Contains(cannedACLs, v) {
		return badHeader("x-amz-acl", v)
	}
	location := strings.ToLower(in.Location)
	if !slices.Contains(regions, location) {
		return invalidRegion(in.Location)
	}
	if location == "auto" || location == "us-east-1" {
		location = ""
	}
	class, refusal := storageClass(x.r.Header)
	if refusal != nil {
		return refusal
	}
	if _, err := x.makeBucket(location, class); err != nil {
		return err
	}
	x.w.Header().Set("Location", "/"+x.bucket)
	x.w.empty(http.StatusOK)
	return nil
}

func (x *request) makeBucket(location, class string) (*spec.Bucket, error) {
	b := &spec.Bucket{
		ID: spec.NewID(), AccountID: x.account, Name: x.bucket, Location: location, StorageClass: class, CreatedOn: spec.Timestamp(x.start),
		Lifecycle: spec.DefaultLifecycle(),
	}
	if class == "" {
		b.StorageClass = spec.ClassStandard
	}
	return b, x.s.o.Buckets.Create(x.r.Context(), x.cred.Actor, b)
}

// ensureBucket makes the bucket of an upload if it is not there and the client wants that.
func (x *request) ensureBucket() error {
	if x.found != nil {
		return nil
	}
	if x.r.Header.Get("Cf-Create-Bucket-If-Missing") != "true" {
		return noBucket()
	}
	if !x.cred.Allows(WriteBuckets, x.account, x.bucket) {
		return accessDenied("the credential lacks the right to create the bucket.")
	}
	b, err := x.makeBucket("", "")
	if e := asError(err); e != nil && e.Code == "BucketAlreadyOwnedByYou" {
		// Another upload made it meanwhile.
		if b, err = x.s.o.Buckets.Snapshot().StorageOf(x.account).Buckets[x.bucket], nil; b == nil {
			err = noBucket()
		}
	}
	x.found = b
	return err
}

func (x *request) deleteBucket() error {
	if err := x.s.o.Buckets.Delete(x.r.Context(), x.cred.Actor, x.found); err != nil {
		return err
	}
	x.w.empty(http.StatusNoContent)
	return nil
}

func (x *request) bucketLocation() error {
	d := newDocument("LocationConstraint")
	d.b = appendEscaped(d.b, region(x.found))
	x.w.xml(http.StatusOK, d.finish())
	return nil
}

// fixedAnswer answers what is the same for all buckets of R2.
func (x *request) fixedAnswer() error {
	var d *document
	switch x.op.name {
	case "GetBucketEncryption":
		d = newDocument("ServerSideEncryptionConfiguration")
		d.start("Rule")
		d.start("ApplyServerSideEncryptionByDefault")
		d.text("SSEAlgorithm", "AES256")
		d.end()
		d.truth("BucketKeyEnabled", true)
	case "GetBucketVersioning":
		d = newDocument("VersioningConfiguration")
	case "GetBucketAcl":
		d = newDocument("AccessControlPolicy")
		x.owner(d)
		d.start("AccessControlList")
		d.start("Grant")
		d.b = append(d.b, `<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">`...)
		d.text("ID", x.account)
		d.text("DisplayName", x.account)
		d.b = append(d.b, `</Grantee>`...)
		d.text("Permission", "FULL_CONTROL")
	case "GetBucketTagging":
		return refuse(http.StatusNotFound, "NoSuchTagSet", "The TagSet does not exist.")
	case "GetObjectLockConfiguration":
		return refuse(http.StatusNotFound, "ObjectLockConfigurationNotFoundError", "Object Lock configuration does not exist for this bucket.")
	default:
		return refuse(http.StatusNotFound, "ReplicationConfigurationNotFoundError", "The replication configuration was not found.")
	}
	x.w.xml(http.StatusOK, d.finish())
	return nil
}

// maxKeys reads a page's size as R2 does: fractions are cut off, more than there can be is taken.
func maxKeys(s string) (int, *Error) {
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || !(f >= 0 && f < 1<<31) {
		return 0, refuse(http.StatusBadRequest, "InvalidMaxKeys", "MaxKeys params must be positive integer <= 1000.")
	}
	return int(f), nil
}
