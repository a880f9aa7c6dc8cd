package s3

import (
	"cmp"
	"encoding/xml"
	"net/http"

	"selvage/product/r2/store"
)

// newObject is what a request says of how an object is to be kept.
type newObject struct {
	http   store.HTTPMetadata
	custom map[string]string
	class  string
	key    []byte // of the client's encryption
}

func (x *request) readNewObject() (n newObject, refusal *Error) {
	if n.class, refusal = storageClass(x.r.Header); refusal != nil {
		return n, refusal
	}
	if n.key, refusal = customerKey(x.r.Header, "X-Amz-"); refusal != nil {
		return n, refusal
	}
	n.http = httpMetadata(x.r.Header)
	n.custom, refusal = customMetadata(x.r.Header)
	return n, refusal
}

func (x *request) putObject() error {
	n, refusal := x.readNewObject()
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
	if err := x.ensureBucket(); err != nil {
		return err
	}
	obj, err := x.s.o.Objects.Put(x.r.Context(), x.stored(), x.key, body, store.PutOptions{
		If: conditions(x.r.Header, ""), HTTP: n.http, Custom: n.custom, StorageClass: cmp.Or(n.class, x.found.StorageClass),
		Expect: sums.expect, Compute: sums.compute(), Trailer: sums.late(body), SSECKey: n.key, Size: body.size,
	})
	if err != nil {
		return body.fault(err)
	}
	h := x.w.Header()
	h["Etag"] = []string{`"` + obj.ETag + `"`}
	writeSums(h, &obj.Checksums, 0)
	if n.key != nil {
		x.answerKey()
	}
	x.w.empty(http.StatusOK)
	return nil
}

func (x *request) deleteObject() error {
	if err := x.s.o.Objects.Delete(x.r.Context(), x.stored(), x.key); err != nil {
		return err
	}
	x.w.empty(http.StatusNoContent)
	return nil
}

// deleteObjects deletes many. Like R2 it tells of all that are gone even if the client wants to be told
// only of failures. Those that may not go, or are no keys, do not keep the others back.
func (x *request) deleteObjects() error {
	var in struct {
		XMLName xml.Name `xml:"Delete"`
		Quiet   *string  `xml:"Quiet"`
		Objects []struct {
			Key     *string `xml:"Key"`
			Version string  `xml:"VersionId"`
		} `xml:"Object"`
	}
	data, err := x.readAll(maxDeleteXML)
	if err != nil {
		return err
	}
	if refusal := parseXML(data, "Delete", &in); refusal != nil {
		return refusal
	}
	if len(in.Objects) == 0 || len(in.Objects) > store.MaxDelete || in.Quiet != nil && *in.Quiet != "true" && *in.Quiet != "false" {
		return malformedXML()
	}
	var keys []string
	d := newDocument("DeleteResult")
	refused := func(key string, err error) {
		e := asError(err)
		if e == nil {
			x.s.o.Observe.Logger().Error("s3 delete failed", "id", x.id, "error", err)
			e = refuse(http.StatusInternalServerError, "InternalError", "We encountered an internal error. Please try again.")
		}
		d.start("Error")
		d.text("Key", key)
		d.text("Code", e.Code)
		d.text("Message", e.Message)
		d.end()
	}
	for _, o := range in.Objects {
		switch {
		case o.Key == nil:
			return malformedXML()
		case o.Version != "" && o.Version != "null":
			return notImplemented("Deleting a version of an object")
		case !x.cred.Only.holds(*o.Key):
			refused(*o.Key, accessDenied("the temporary credential is not for this key."))
		case store.CheckKey(*o.Key) != nil:
			refused(*o.Key, store.CheckKey(*o.Key))
		default:
			keys = append(keys, *o.Key)
		}
	}
	gone := keys
	if err := x.s.o.Objects.Delete(x.r.Context(), x.stored(), keys...); err != nil {
		gone = nil
		for _, key := range keys { // one after the other, so that those go that can
			if err := x.s.o.Objects.Delete(x.r.Context(), x.stored(), key); err != nil {
				refused(key, err)
				continue
			}
			gone = append(gone, key)
		}
	}
	for _, key := range gone {
		d.start("Deleted")
		d.text("Key", key)
		d.end()
	}
	x.w.xml(http.StatusOK, d.finish())
	return nil
}
