package s3

import (
	"cmp"
	"encoding/xml"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"selvage/product/r2/store"
)

func (x *request) createUpload() error {
	n, refusal := x.readNewObject()
	if refusal != nil {
		return refusal
	}
	o := store.UploadOptions{HTTP: n.http, Custom: n.custom, SSECKey: n.key}
	kind, refusal := uploadSums(x.r.Header, &o)
	if refusal != nil {
		return refusal
	}
	if err := x.ensureBucket(); err != nil {
		return err
	}
	o.StorageClass = cmp.Or(n.class, x.found.StorageClass)
	u, err := x.s.o.Objects.CreateUpload(x.r.Context(), x.stored(), x.key, o)
	if err != nil {
		return err
	}
	if kind != nil {
		x.w.Header().Set("X-Amz-Checksum-Algorithm", kind.s3)
		x.w.Header().Set("X-Amz-Checksum-Type", checksumType(o.Composite))
	}
	if n.key != nil {
		x.answerKey()
	}
	d := newDocument("InitiateMultipartUploadResult")
	d.text("Bucket", x.bucket)
	d.text("Key", x.key)
	d.text("UploadId", u.ID)
	x.w.xml(http.StatusOK, d.finish())
	return nil
}

// uploadSums reads which checksum the parts of an upload will have. CRC64NVME is of the whole object, the
// CRC32s can be either, the others are of the parts' checksums.
func uploadSums(h http.Header, o *store.UploadOptions) (*checksumKind, *Error) {
	name, kind := h.Get("X-Amz-Checksum-Algorithm"), strings.ToUpper(h.Get("X-Amz-Checksum-Type"))
	if name == "" {
		if kind != "" {
			return nil, invalidRequest("The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.")
		}
		return nil, nil
	}
	k := kindNamed(name)
	if k == nil {
		return nil, invalidRequest("Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]")
	}
	o.Checksum, o.Composite = k.name, k.name != "crc64nvme"
	switch {
	case kind == "FULL_OBJECT" && strings.HasPrefix(k.name, "crc"):
		o.Composite = false
	case kind == "COMPOSITE" && o.Composite, kind == "":
	default:
		return nil, invalidRequest("The %s checksum type cannot be used with the %s checksum algorithm.", kind, k.s3)
	}
	return k, nil
}

func (x *request) uploadPart() error {
	number, refusal := x.partNumber()
	if refusal != nil {
		return refusal
	}
	key, refusal := customerKey(x.r.Header, "X-Amz-")
	if refusal != nil {
		return refusal
	}
	sums, refusal := readSums(x.r.Header)
	if refusal != nil {
		return refusal
	}
	body, err := x.openBody()
	if err != nil {
		return err
	}
	part, err := x.s.o.Objects.PutPart(x.r.Context(), x.part(number), body, store.PartOptions{
		Expect: sums.expect, Size: body.size, SSECKey: key, Compute: sums.compute(), Trailer: sums.late(body),
	})
	if err != nil {
		return body.fault(err)
	}
	h := x.w.Header()
	h["Etag"] = []string{`"` + part.ETag + `"`}
	writeSums(h, &part.Checksums, 0)
	h.Del("X-Amz-Checksum-Type")
	if key != nil {
		x.answerKey()
	}
	x.w.empty(http.StatusOK)
	return nil
}

// part names a part of the upload that the request is about.
func (x *request) part(number int) store.PartOf {
	return store.PartOf{Bucket: x.stored(), Key: x.key, Upload: x.query.Get("uploadId"), Number: number}
}

// completion is the body of CompleteMultipartUpload.
type completion struct {
	XMLName xml.Name `xml:"CompleteMultipartUpload"`
	Parts   []struct {
		Number    *string `xml:"PartNumber"`
		ETag      *string `xml:"ETag"`
		CRC32     string  `xml:"ChecksumCRC32"`
		CRC32C    string  `xml:"ChecksumCRC32C"`
		CRC64NVME string  `xml:"ChecksumCRC64NVME"`
		SHA1      string  `xml:"ChecksumSHA1"`
		SHA256    string  `xml:"ChecksumSHA256"`
	} `xml:"Part"`
}

func (x *request) completeUpload() error {
	o, err := x.readCompletion()
	if err != nil {
		return err
	}
	obj, err := x.s.o.Objects.Complete(x.r.Context(), x.stored(), x.key, x.query.Get("uploadId"), *o)
	if err != nil {
		return err
	}
	d := newDocument("CompleteMultipartUploadResult")
	d.text("Location", "http://"+x.r.Host+"/"+x.bucket+"/"+url.QueryEscape(x.key))
	d.text("Bucket", x.bucket)
	d.text("Key", x.key)
	d.tag("ETag", obj.ETag)
	documentSums(d, &obj.Checksums, len(obj.Parts))
	if obj.Checksums.Composite || obj.Checksums.CRC64NVME != nil || obj.Checksums.CRC32 != nil || obj.Checksums.CRC32C != nil {
		d.text("ChecksumType", checksumType(obj.Checksums.Composite))
	}
	x.w.xml(http.StatusOK, d.finish())
	return nil
}

func (x *request) readCompletion() (*store.CompleteOptions, error) {
	data, err := x.readPlain(maxCompleteXML) // the header's checksum is of the object
	if err != nil {
		return nil, err
	}
	var in completion
	if refusal := parseXML(data, "CompleteMultipartUpload", &in); refusal != nil {
		return nil, refusal
	}
	if len(in.Parts) == 0 || len(in.Parts) > store.MaxParts {
		return nil, malformedXML()
	}
	o := &store.CompleteOptions{If: conditions(x.r.Header, ""), Parts: make([]store.CompletedPart, 0, len(in.Parts))}
	seen := make(map[int]bool, len(in.Parts))
	for i := range in.Parts {
		p := &in.Parts[i]
		if p.Number == nil || p.ETag == nil {
			return nil, malformedXML()
		}
		n, err := strconv.Atoi(strings.TrimSpace(*p.Number))
		switch {
		case err != nil:
			return nil, malformedXML()
		case n < 1 || n > store.MaxParts:
			return nil, badPart()
		case seen[n]:
			return nil, refuse(http.StatusBadRequest, "InvalidPart", "There was a problem with the multipart upload.")
		}
		seen[n] = true
		part := store.CompletedPart{Number: n, ETag: strings.Trim(strings.TrimSpace(*p.ETag), `"`)}
		for i, v := range []string{p.CRC32, p.CRC32C, p.SHA1, p.SHA256, p.CRC64NVME} {
			if v == "" {
				continue
			}
			k := &checksumKinds[i]
			sum, refusal := decodeSum(v, k.size)
			if refusal != nil {
				return nil, badPart()
			}
			*k.of(&part.Checksums) = sum
		}
		o.Parts = append(o.Parts, part)
	}
	if v := x.r.Header.Get("X-Amz-Mp-Object-Size"); v != "" {
		if o.Size, err = strconv.ParseInt(v, 10, 64); err != nil || o.Size < 0 {
			return nil, invalidRequest("Value for x-amz-mp-object-size header is invalid.")
		}
	}
	return o, x.readWholeSum(o)
}

// readWholeSum reads the checksum that the whole object is to have; a composite one may end in -parts.
func (x *request) readWholeSum(o *store.CompleteOptions) error {
	for i := range checksumKinds {
		k := &checksumKinds[i]
		v := x.r.Header.Get(k.header)
		if v == "" {
			continue
		}
		text, count, composite := strings.Cut(v, "-")
		sum, refusal := decodeSum(text, k.size)
		if refusal != nil || composite && count != strconv.Itoa(len(o.Parts)) {
			return malformedSum(k)
		}
		*k.of(&o.Expect) = sum
		o.Expect.Composite = composite
	}
	return nil
}

func (x *request) abortUpload() error {
	if err := x.s.o.Objects.Abort(x.r.Context(), x.stored(), x.key, x.query.Get("uploadId")); err != nil {
		return err
	}
	x.w.empty(http.StatusNoContent)
	return nil
}

func (x *request) listParts() error {
	limit, after := store.MaxList, 0
	for name, to := range map[string]*int{"max-parts": &limit, "part-number-marker": &after} {
		if v := x.query.Get(name); v != "" {
			n, err := strconv.Atoi(v)
			if err != nil || n < 0 {
				return invalidArgument("Argument %s must be an integer between 0 and 2147483647", name)
			}
			*to = n
		}
	}
	page, err := x.s.o.Objects.ListParts(x.r.Context(), x.part(after), max(1, min(limit, store.MaxList)))
	if err != nil {
		return err
	}
	if limit == 0 {
		page.Truncated, page.Parts = len(page.Parts) > 0, nil
	}
	d := newDocument("ListPartsResult")
	d.text("Bucket", x.bucket)
	d.text("Key", x.key)
	d.text("UploadId", x.query.Get("uploadId"))
	for _, role := range []string{"Initiator", "Owner"} {
		d.start(role)
		d.text("ID", x.account)
		d.text("DisplayName", x.account)
		d.end()
	}
	d.text("StorageClass", className(page.Upload.StorageClass))
	d.number("PartNumberMarker", int64(after))
	if page.Truncated {
		d.number("NextPartNumberMarker", int64(page.Next))
	}
	d.number("MaxParts", int64(limit))
	d.truth("IsTruncated", page.Truncated)
	if k := kindNamed(page.Upload.Checksum); k != nil {
		d.text("ChecksumAlgorithm", k.s3)
		d.text("ChecksumType", checksumType(page.Upload.Composite))
	}
	for _, p := range page.Parts {
		d.start("Part")
		d.number("PartNumber", int64(p.Number))
		d.time("LastModified", p.Uploaded)
		d.tag("ETag", p.ETag)
		d.number("Size", p.Size)
		documentSums(d, &p.Checksums, 0)
		d.end()
	}
	x.w.xml(http.StatusOK, d.finish())
	return nil
}

func (x *request) listUploads() error {
	q := x.query
	encode, refusal := x.encoding()
	if refusal != nil {
		return refusal
	}
	limit := store.MaxList
	if v := q.Get("max-uploads"); v != "" {
		if limit, refusal = maxKeys(v); refusal != nil {
			return refusal
		}
	}
	o := store.UploadListOptions{Prefix: q.Get("prefix"), Delimiter: q.Get("delimiter"), AfterKey: q.Get("key-marker"), AfterUpload: q.Get("upload-id-marker"), Limit: max(1, min(limit, store.MaxList))}
	if !x.cred.Only.under(o.Prefix) {
		return accessDenied("the temporary credential is not for this prefix.")
	}
	if o.AfterKey == "" {
		o.AfterUpload = ""
	}
	page, err := x.s.o.Objects.ListUploads(x.r.Context(), x.stored(), o)
	if err != nil {
		return err
	}
	if limit == 0 {
		page = &store.UploadListing{}
	}
	d := newDocument("ListMultipartUploadsResult")
	d.text("Bucket", x.bucket)
	d.text("KeyMarker", encode(q.Get("key-marker")))
	d.text("UploadIdMarker", q.Get("upload-id-marker"))
	if page.Truncated {
		d.text("NextKeyMarker", encode(page.NextKey))
		d.text("NextUploadIdMarker", page.NextUpload)
	}
	d.optional("Prefix", encode(o.Prefix))
	d.optional("Delimiter", encode(o.Delimiter))
	d.optional("EncodingType", q.Get("encoding-type"))
	d.number("MaxUploads", int64(limit))
	d.truth("IsTruncated", page.Truncated)
	for _, u := range page.Uploads {
		d.start("Upload")
		d.text("Key", encode(u.Key))
		d.text("UploadId", u.ID)
		for _, role := range []string{"Initiator", "Owner"} {
			d.start(role)
			d.text("ID", x.account)
			d.text("DisplayName", x.account)
			d.end()
		}
		d.text("StorageClass", className(u.StorageClass))
		d.time("Initiated", u.Initiated)
		d.end()
	}
	for _, p := range page.Prefixes {
		d.start("CommonPrefixes")
		d.text("Prefix", encode(p))
		d.end()
	}
	x.w.xml(http.StatusOK, d.finish())
	return nil
}
