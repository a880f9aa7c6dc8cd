package s3

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"selvage/product/r2/store"
)

// getObject answers GET and HEAD of an object.
func (x *request) getObject() error {
	key, refusal := customerKey(x.r.Header, "X-Amz-")
	if refusal != nil {
		return refusal
	}
	o := store.GetOptions{If: conditions(x.r.Header, ""), SSECKey: key}
	if o.Range, refusal = readRange(x.r.Header.Get("Range")); refusal != nil {
		return refusal
	}
	part := 0
	if x.query.Has("partNumber") {
		if o.Range != nil {
			return invalidRequest("Cannot specify both Range header and partNumber query parameter")
		}
		if part, refusal = x.partNumber(); refusal != nil {
			return refusal
		}
	}
	if x.r.Method == http.MethodHead || part > 0 {
		return x.headFirst(&o, part)
	}
	reading, err := x.s.o.Objects.Get(x.r.Context(), x.stored(), x.key, o)
	if err != nil {
		return x.explainKey(err, key)
	}
	return x.serve(reading, o.Range != nil, 0)
}

// explainKey says why a client's key of encryption does not fit an object, in S3's words.
func (x *request) explainKey(err error, key []byte) error {
	if store.CodeOf(err) != store.CodeSSEC || key == nil {
		return err
	}
	obj, headErr := x.s.o.Objects.Head(x.r.Context(), x.stored(), x.key)
	switch {
	case headErr != nil:
		return headErr
	case obj.SSECKeyMD5 == "":
		return invalidRequest("The encryption parameters are not applicable to this object.")
	}
	return accessDenied("the key of encryption is not the one that the object was stored with.")
}

// headFirst answers what has to know the object before it is opened, or does not open it.
func (x *request) headFirst(o *store.GetOptions, part int) error {
	obj, err := x.s.o.Objects.Head(x.r.Context(), x.stored(), x.key)
	if err != nil {
		return err
	}
	if failed := o.If.Test(obj); failed != store.Held {
		return x.serve(&store.Reading{Object: obj, Failed: failed}, false, 0)
	}
	if err := obj.CheckSSEC(o.SSECKey); err != nil {
		return x.explainKey(err, o.SSECKey)
	}
	parts := 0
	if part > 0 {
		if parts = len(obj.Parts); part > max(parts, 1) {
			return refuse(http.StatusRequestedRangeNotSatisfiable, "InvalidPartNumber", "The requested partnumber is not satisfiable")
		}
		if parts > 0 {
			o.Range = partRange(obj.Parts, part)
		}
	}
	if x.r.Method == http.MethodGet {
		o.If.ETagMatches = []string{obj.ETag} // another object has other parts
		reading, err := x.s.o.Objects.Get(x.r.Context(), x.stored(), x.key, *o)
		if err != nil {
			return err
		}
		return x.serve(reading, o.Range != nil, parts)
	}
	r, err := o.Range.Resolve(obj.Size)
	if err != nil {
		return err
	}
	return x.serve(&store.Reading{Object: obj, Range: r}, o.Range != nil, parts)
}

// partRange is where a part lies in an object.
func partRange(sizes []int64, part int) *store.Range {
	r := &store.Range{Length: sizes[part-1]}
	for _, size := range sizes[:part-1] {
		r.Offset += size
	}
	return r
}

// serve sends what was read. parts is how many the object has if one of them was asked for.
func (x *request) serve(r *store.Reading, partial bool, parts int) error {
	if r.Body != nil {
		defer r.Body.Close()
	}
	o, h := r.Object, x.w.Header()
	h["Etag"] = []string{`"` + o.ETag + `"`}
	h["Last-Modified"] = []string{httpTime(o.Uploaded)}
	switch r.Failed {
	case store.Precondition:
		return preconditionFailed()
	case store.NotModified:
		if o.HTTP.CacheControl != "" {
			h["Cache-Control"] = []string{o.HTTP.CacheControl}
		}
		x.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	writeMetadata(h, o)
	h["Accept-Ranges"] = []string{"bytes"}
	h["Content-Length"] = []string{strconv.FormatInt(r.Range.Length, 10)}
	if o.StorageClass == store.InfrequentAccess {
		h["X-Amz-Storage-Class"] = []string{className(o.StorageClass)}
	}
	if o.SSECKeyMD5 != "" {
		x.answerKey()
	}
	if parts > 0 {
		h["X-Amz-Mp-Parts-Count"] = []string{strconv.Itoa(parts)}
	}
	if !partial && strings.EqualFold(x.r.Header.Get("X-Amz-Checksum-Mode"), "ENABLED") {
		writeSums(h, &o.Checksums, len(o.Parts))
	}
	x.override(h)
	status := http.StatusOK
	if partial {
		status = http.StatusPartialContent
		h["Content-Range"] = []string{contentRange(r.Range, o.Size)}
	}
	x.w.WriteHeader(status)
	if r.Body != nil {
		x.s.o.Objects.Leave(x.r.Context())
		x.w.send(r.Body, r.Range.Length)
	}
	return nil
}

func contentRange(r store.Range, size int64) string {
	b := append(make([]byte, 0, 64), "bytes "...)
	b = strconv.AppendInt(b, r.Offset, 10)
	b = strconv.AppendInt(append(b, '-'), r.Offset+r.Length-1, 10)
	return string(strconv.AppendInt(append(b, '/'), size, 10))
}

// override puts what the client wants to be told in place of the object's own metadata. All requests
// are signed, and only signed ones may ask.
func (x *request) override(h http.Header) {
	if !strings.Contains(x.rawQuery, "response-") {
		return
	}
	for _, name := range []string{"Content-Type", "Content-Language", "Expires", "Cache-Control", "Content-Disposition", "Content-Encoding"} {
		if v := x.query.Get("response-" + strings.ToLower(name)); v != "" {
			h[name] = []string{v}
		}
	}
}

// readRange reads one range of bytes; nil is all. Several are not offered, as at S3: the first counts
// for nothing and all is sent.
func readRange(s string) (*store.Range, *Error) {
	if s == "" {
		return nil, nil
	}
	set, ok := strings.CutPrefix(s, "bytes=")
	if !ok || strings.Contains(set, ",") {
		if strings.Contains(set, ",") {
			return nil, nil
		}
		return nil, malformedRange()
	}
	from, to, ok := strings.Cut(strings.TrimSpace(set), "-")
	if !ok || !digits(from) || !digits(to) || from == "" && to == "" {
		return nil, malformedRange()
	}
	if from == "" {
		n, err := strconv.ParseInt(to, 10, 64)
		if err != nil || n == 0 {
			return nil, invalidRange()
		}
		return &store.Range{Suffix: n}, nil
	}
	offset, err := strconv.ParseInt(from, 10, 64)
	if err != nil {
		return nil, invalidRange()
	}
	if to == "" {
		return &store.Range{Offset: offset, Length: -1}, nil
	}
	last, err := strconv.ParseInt(to, 10, 64)
	if err != nil {
		return &store.Range{Offset: offset, Length: -1}, nil // beyond all ends
	}
	if last < offset {
		return nil, invalidArgument("range must be positive.")
	}
	if last-offset == 1<<63-1 {
		last--
	}
	return &store.Range{Offset: offset, Length: last - offset + 1}, nil
}

func malformedRange() *Error {
	return invalidArgument("range must be in format 'bytes=start-end', 'bytes=start-' or 'bytes=-suffix'.'")
}

func digits(s string) bool {
	return !slices.ContainsFunc([]byte(s), func(c byte) bool { return c < '0' || c > '9' })
}

// partNumber reads the number of a part.
func (x *request) partNumber() (int, *Error) {
	n, err := strconv.Atoi(strings.TrimSpace(x.query.Get("partNumber")))
	if err != nil || n < 1 || n > store.MaxParts {
		return 0, invalidArgument("Part number must be an integer between 1 and %d, inclusive.", store.MaxParts)
	}
	return n, nil
}
