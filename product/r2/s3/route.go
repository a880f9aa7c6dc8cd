package s3

import (
	"net/http"
	"slices"
	"strings"
)

// operation is one of S3's.
type operation struct {
	name   string
	right  Right
	makes  bool     // it may make the bucket, which need not exist
	refuse []string // headers of features that R2 does not have, in lower case
	writes bool     // it has headers that say how an object is stored
	handle func(x *request) error
}

// Headers that R2 knows and refuses. Source: developers.cloudflare.com/r2/api/s3/api.
var (
	bucketOwner = []string{"x-amz-expected-bucket-owner"}
	sourceOwner = append([]string{"x-amz-source-expected-bucket-owner"}, bucketOwner...)
	lockBypass  = append([]string{"x-amz-mfa", "x-amz-bypass-governance-retention"}, bucketOwner...)
	onWrite     = append([]string{
		"x-amz-tagging", "x-amz-grant-full-control", "x-amz-grant-read", "x-amz-grant-read-acp", "x-amz-grant-write", "x-amz-grant-write-acp",
		"x-amz-website-redirect-location", "x-amz-object-lock-mode", "x-amz-object-lock-retain-until-date", "x-amz-object-lock-legal-hold",
		"x-amz-server-side-encryption-aws-kms-key-id", "x-amz-server-side-encryption-context", "x-amz-server-side-encryption-bucket-key-enabled",
	}, bucketOwner...)
	onCopy       = append([]string{"x-amz-source-expected-bucket-owner", "x-amz-tagging-directive"}, onWrite...)
	onCreate     = []string{"x-amz-grant-full-control", "x-amz-grant-read", "x-amz-grant-read-acp", "x-amz-grant-write", "x-amz-grant-write-acp", "x-amz-expected-bucket-owner"}
	onUploadPart = append([]string{"x-amz-server-side-encryption"}, bucketOwner...)
)

// operations are what is served, by name. It is a function, for the handlers refer to it.
func operationNamed(name string) *operation {
	switch name {
	case "ListBuckets":
		return &operation{name: name, right: ReadBuckets, handle: (*request).listBuckets}
	case "HeadBucket":
		return &operation{name: name, right: ReadObjects, refuse: bucketOwner, handle: (*request).headBucket}
	case "CreateBucket":
		return &operation{name: name, right: WriteBuckets, makes: true, refuse: onCreate, handle: (*request).createBucket}
	case "DeleteBucket":
		return &operation{name: name, right: WriteBuckets, refuse: bucketOwner, handle: (*request).deleteBucket}
	case "GetBucketLocation":
		return &operation{name: name, right: ReadObjects, refuse: bucketOwner, handle: (*request).bucketLocation}
	case "GetBucketCors":
		return &operation{name: name, right: ReadBuckets, refuse: bucketOwner, handle: (*request).showCORS}
	case "PutBucketCors":
		return &operation{name: name, right: WriteBuckets, refuse: bucketOwner, handle: (*request).putCORS}
	case "DeleteBucketCors":
		return &operation{name: name, right: WriteBuckets, refuse: bucketOwner, handle: (*request).deleteCORS}
	case "GetBucketLifecycleConfiguration":
		return &operation{name: name, right: ReadBuckets, refuse: bucketOwner, handle: (*request).showLifecycle}
	case "PutBucketLifecycleConfiguration":
		return &operation{name: name, right: WriteBuckets, refuse: bucketOwner, handle: (*request).putLifecycle}
	case "DeleteBucketLifecycle":
		return &operation{name: name, right: WriteBuckets, refuse: bucketOwner, handle: (*request).deleteLifecycle}
	case "GetBucketEncryption", "GetBucketVersioning", "GetBucketAcl", "GetBucketTagging", "GetObjectLockConfiguration", "GetBucketReplication":
		return &operation{name: name, right: ReadBuckets, refuse: bucketOwner, handle: (*request).fixedAnswer}
	case "ListObjectsV1", "ListObjectsV2":
		return &operation{name: name, right: ReadObjects, refuse: bucketOwner, handle: (*request).listObjects}
	case "ListMultipartUploads":
		return &operation{name: name, right: ReadObjects, refuse: bucketOwner, handle: (*request).listUploads}
	case "DeleteObjects":
		return &operation{name: name, right: WriteObjects, refuse: lockBypass, handle: (*request).deleteObjects}
	case "PostBucket":
		return &operation{name: name, right: ReadObjects, handle: func(x *request) error { x.w.empty(http.StatusOK); return nil }}
	}
	return objectOperation(name)
}

func objectOperation(name string) *operation {
	switch name {
	case "GetObject", "HeadObject":
		return &operation{name: name, right: ReadObjects, refuse: bucketOwner, handle: (*request).getObject}
	case "PutObject":
		return &operation{name: name, right: WriteObjects, makes: true, refuse: onWrite, writes: true, handle: (*request).putObject}
	case "CopyObject":
		return &operation{name: name, right: WriteObjects, refuse: onCopy, writes: true, handle: (*request).copyObject}
	case "DeleteObject":
		return &operation{name: name, right: WriteObjects, refuse: lockBypass, handle: (*request).deleteObject}
	case "CreateMultipartUpload":
		return &operation{name: name, right: WriteObjects, makes: true, refuse: onWrite, writes: true, handle: (*request).createUpload}
	case "UploadPart":
		return &operation{name: name, right: WriteObjects, refuse: onUploadPart, handle: (*request).uploadPart}
	case "UploadPartCopy":
		return &operation{name: name, right: WriteObjects, refuse: sourceOwner, handle: (*request).copyPart}
	case "CompleteMultipartUpload":
		return &operation{name: name, right: WriteObjects, refuse: bucketOwner, handle: (*request).completeUpload}
	case "AbortMultipartUpload":
		return &operation{name: name, right: WriteObjects, handle: (*request).abortUpload}
	case "ListParts":
		return &operation{name: name, right: ReadObjects, refuse: bucketOwner, handle: (*request).listParts}
	}
	return nil
}

// Parts of objects and buckets that AWS has: what R2 says when one is asked for.
var (
	objectParts = map[string]map[string]string{
		"tagging":    {"GET": "GetObjectTagging", "PUT": "PutObjectTagging"},
		"acl":        {"GET": "GetObjectAcl", "PUT": "PutObjectAcl"},
		"attributes": {"GET": "GetObjectAttributes"},
		"torrent":    {"GET": "GetObjectTorrent"},
		"retention":  {"GET": "GetObjectRetention", "PUT": "PutObjectRetention"},
		"legal-hold": {"GET": "GetObjectLegalHold", "PUT": "PutObjectLegalHold"},
	}
	bucketGets = map[string]string{
		"versions": "ListObjectVersions", "policy": "GetBucketPolicy", "website": "GetBucketWebsite", "notification": "GetBucketNotificationConfiguration",
		"requestPayment": "GetBucketRequestPayment", "logging": "GetBucketLogging", "accelerate": "GetBucketAccelerateConfiguration",
		"publicAccessBlock": "GetPublicAccessBlock", "ownershipControls": "GetBucketOwnershipControls",
		"intelligent-tiering": "GetBucketIntelligentTieringConfiguration", "inventory": "GetBucketInventoryConfiguration",
		"metrics": "GetBucketMetricsConfiguration", "analytics": "GetBucketAnalyticsConfiguration",
		"policyStatus": "GetGetBucketPolicyStatus", // R2 says it so
		"acl":          "GetBucketAcl", "cors": "GetBucketCors", "lifecycle": "GetBucketLifecycleConfiguration", "encryption": "GetBucketEncryption",
		"versioning": "GetBucketVersioning", "tagging": "GetBucketTagging", "object-lock": "GetObjectLockConfiguration", "replication": "GetBucketReplication",
	}
	bucketPuts = map[string]string{
		"accelerate": "PutBucketAccelerateConfiguration", "acl": "PutBucketAcl", "analytics": "PutBucketAnalyticsConfiguration",
		"intelligent-tiering": "PutBucketIntelligentTieringConfiguration", "inventory": "PutBucketInventoryConfiguration", "logging": "PutBucketLogging",
		"metrics": "PutBucketMetricsConfiguration", "notification": "PutBucketNotificationConfiguration", "object-lock": "PutObjectLockConfiguration",
		"ownershipControls": "PutBucketOwnershipControls", "policy": "PutBucketPolicy", "publicAccessBlock": "PutPublicAccessBlock",
		"replication": "PutBucketReplication", "requestPayment": "PutBucketRequestPayment", "tagging": "PutBucketTagging", "website": "PutBucketWebsite",
		"cors": "PutBucketCors", "encryption": "PutBucketEncryption", "lifecycle": "PutBucketLifecycleConfiguration", "versioning": "PutBucketVersioning",
	}
	bucketDeletes = map[string]string{
		"analytics": "DeleteBucketAnalyticsConfiguration", "intelligent-tiering": "DeleteBucketIntelligentTieringConfiguration",
		"inventory": "DeleteBucketInventoryConfiguration", "metrics": "DeleteBucketMetricsConfiguration", "ownershipControls": "DeleteBucketOwnershipControls",
		"policy": "DeleteBucketPolicy", "replication": "DeleteBucketReplication", "tagging": "DeleteBucketTagging", "website": "DeleteBucketWebsite",
		"cors": "DeleteBucketCors", "encryption": "DeleteBucketEncryption", "lifecycle": "DeleteBucketLifecycle",
	}
)

// detect finds the operation that method and query ask for.
func (x *request) detect() (*operation, *Error) {
	switch {
	case x.bucket == "" && x.r.Method == http.MethodGet:
		return operationNamed("ListBuckets"), nil
	case x.bucket == "":
		return nil, noRoute()
	case x.key == "":
		return x.detectBucket()
	}
	return x.detectObject()
}

func (x *request) detectBucket() (*operation, *Error) {
	switch x.r.Method {
	case http.MethodHead:
		return operationNamed("HeadBucket"), nil
	case http.MethodPut:
		return x.detectChange(bucketPuts, "CreateBucket")
	case http.MethodDelete:
		return x.detectChange(bucketDeletes, "DeleteBucket")
	case http.MethodPost:
		if x.query.Has("delete") {
			return operationNamed("DeleteObjects"), nil
		}
		return operationNamed("PostBucket"), nil
	case http.MethodGet:
		return x.detectBucketGet()
	}
	return nil, noRoute()
}

func (x *request) detectBucketGet() (*operation, *Error) {
	if x.query.Has("uploads") {
		return operationNamed("ListMultipartUploads"), nil
	}
	if x.query.Has("location") {
		for _, name := range x.parameters() {
			if name != "location" {
				return nil, invalidArgument("Search param %s is unsupported for bucket location", name)
			}
		}
		return operationNamed("GetBucketLocation"), nil
	}
	for _, name := range x.parameters() {
		if op := bucketGets[name]; op != "" {
			return offered(op)
		}
	}
	version := "1"
	if x.query.Has("list-type") {
		if version = x.query.Get("list-type"); version != "2" {
			return nil, notImplemented("ListObjectsV%s", version)
		}
	}
	known := []string{"prefix", "delimiter", "marker", "max-keys", "encoding-type"}
	if version == "2" {
		known = []string{"list-type", "prefix", "delimiter", "continuation-token", "start-after", "max-keys", "encoding-type", "fetch-owner"}
	} else if x.query.Has("continuation-token") {
		return nil, invalidArgument("continuation-token not supported in ListObjects")
	}
	for _, name := range x.parameters() {
		if !slices.Contains(known, name) {
			return nil, notImplemented("ListObjectsV%s search parameter %s", version, name)
		}
	}
	return operationNamed("ListObjectsV" + version), nil
}

// detectChange finds a change of a bucket: a part of it that is named anywhere in the query goes first.
func (x *request) detectChange(parts map[string]string, bare string) (*operation, *Error) {
	names := x.parameters()
	for _, name := range names {
		if op := parts[name]; op != "" {
			return offered(op)
		}
	}
	if len(names) == 0 {
		return operationNamed(bare), nil
	}
	for i, name := range names {
		names[i] = `"` + name + `"`
	}
	return nil, invalidArgument("Unsupported search param(s) %s on a %s bucket route", strings.Join(names, ", "), x.r.Method)
}

// offered returns an operation, or R2's refusal of one that it does not have.
func offered(name string) (*operation, *Error) {
	if op := operationNamed(name); op != nil {
		return op, nil
	}
	return nil, notImplemented("%s", name)
}

func (x *request) detectObject() (*operation, *Error) {
	if x.query.Has("uploadId") {
		if op, refusal := x.detectUpload(); op != nil || refusal != nil {
			return op, refusal
		}
	}
	if x.query.Has("uploads") {
		switch x.r.Method {
		case http.MethodPost:
			return operationNamed("CreateMultipartUpload"), nil
		case http.MethodGet:
			return operationNamed("ListMultipartUploads"), nil
		}
	}
	switch x.r.Method {
	case http.MethodHead:
		return operationNamed("HeadObject"), nil
	case http.MethodPost: // R2 takes it for a PUT
		return operationNamed("PutObject"), nil
	case http.MethodDelete:
		return operationNamed("DeleteObject"), nil
	case http.MethodGet, http.MethodPut:
	default:
		return nil, noRoute()
	}
	for _, name := range x.parameters() {
		if op := objectParts[name][x.r.Method]; op != "" {
			return nil, notImplemented("%s", op)
		}
	}
	switch {
	case x.r.Method == http.MethodGet:
		return operationNamed("GetObject"), nil
	case x.r.Header.Get("X-Amz-Copy-Source") != "":
		return operationNamed("CopyObject"), nil
	}
	return operationNamed("PutObject"), nil
}

// detectUpload finds an operation on an upload. A PUT without a part's number is none.
func (x *request) detectUpload() (*operation, *Error) {
	number, numbered := x.query.Get("partNumber"), x.query.Has("partNumber")
	if numbered && !integerLike(number) {
		return nil, noRoute()
	}
	switch x.r.Method {
	case http.MethodGet:
		return operationNamed("ListParts"), nil
	case http.MethodHead:
		return operationNamed("HeadObject"), nil
	case http.MethodPost:
		return operationNamed("CompleteMultipartUpload"), nil
	case http.MethodDelete:
		return operationNamed("AbortMultipartUpload"), nil
	case http.MethodPut:
		if !numbered {
			return nil, nil
		}
		if x.r.Header.Get("X-Amz-Copy-Source") != "" {
			return operationNamed("UploadPartCopy"), nil
		}
		return operationNamed("UploadPart"), nil
	}
	return nil, noRoute()
}

// integerLike tells whether R2's routes take s for a whole number: with spaces before it and a sign.
func integerLike(s string) bool {
	s = strings.TrimPrefix(strings.TrimLeft(s, " "), "-")
	return strings.Trim(s, "0123456789") == ""
}

// parameters returns the names in the query in their order, but for those of signatures and SDKs.
func (x *request) parameters() []string {
	var names []string
	for raw := x.rawQuery; raw != ""; {
		var part string
		part, raw, _ = strings.Cut(raw, "&")
		name, _, _ := strings.Cut(part, "=")
		name = unescapeQuery(name)
		if name == "" || name == "x-id" || strings.HasPrefix(strings.ToLower(name), "x-amz-") || slices.Contains(names, name) {
			continue
		}
		names = append(names, name)
	}
	return names
}
