package s3

import (
	"crypto/md5"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"selvage/product/r2/store"
)

// cannedACLs are taken and mean nothing: R2 has no ACLs of objects.
var cannedACLs = []string{"private", "public-read", "public-read-write", "authenticated-read", "aws-exec-read", "bucket-owner-read", "bucket-owner-full-control"}

// screen refuses headers that ask for what R2 does not have: silence would promise it.
func (x *request) screen() *Error {
	h := x.r.Header
	for _, name := range x.op.refuse {
		if v := h.Get(name); v != "" {
			return badHeader(name, v)
		}
	}
	if x.op.writes {
		// Everything is encrypted at rest in R2's promise; here it is as safe as the disk it is on.
		if v := h.Get("X-Amz-Server-Side-Encryption"); v != "" && v != "AES256" {
			return badHeader("x-amz-server-side-encryption", v)
		} else if v != "" && h.Get("X-Amz-Server-Side-Encryption-Customer-Algorithm") != "" {
			return invalidArgument("Server Side Encryption with Customer provided key is incompatible with the encryption method specified")
		}
		if v := h.Get("X-Amz-Acl"); v != "" && !slices.Contains(cannedACLs, v) {
			return badHeader("x-amz-acl", v)
		}
	}
	return nil
}

func badHeader(name, value string) *Error {
	return notImplemented("Header '%s' with value '%s'", name, value)
}

// customerKey returns the key that the client encrypts with, nil if it brings none. prefix is X-Amz- or
// X-Amz-Copy-Source-.
func customerKey(h http.Header, prefix string) ([]byte, *Error) {
	prefix += "Server-Side-Encryption-Customer-"
	kind, key, sum := h.Get(prefix+"Algorithm"), h.Get(prefix+"Key"), h.Get(prefix+"Key-Md5")
	const must = "Requests specifying Server Side Encryption with Customer provided keys must provide "
	switch {
	case kind == "" && key == "" && sum == "":
		return nil, nil
	case key == "":
		return nil, invalidArgument(must + "an appropriate secret key.")
	case sum == "":
		return nil, invalidArgument(must + "the client calculated MD5 of the secret key.")
	case kind == "":
		return nil, invalidArgument(must + "a valid encryption algorithm.")
	case kind != "AES256":
		return nil, refuse(http.StatusBadRequest, "InvalidEncryptionAlgorithmError", "The encryption request that you specified is not valid. The valid value is AES256.")
	}
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(raw) != 32 {
		return nil, invalidArgument("The secret key was invalid for the specified algorithm.")
	}
	if got := md5.Sum(raw); base64.StdEncoding.EncodeToString(got[:]) != sum {
		return nil, invalidArgument("The calculated MD5 hash of the key did not match the hash that was provided.")
	}
	return raw, nil
}

// answerKey repeats of the client's key what may be said.
func (x *request) answerKey() {
	h := x.w.Header()
	for _, name := range []string{"X-Amz-Server-Side-Encryption-Customer-Algorithm", "X-Amz-Server-Side-Encryption-Customer-Key-Md5"} {
		if v := x.r.Header.Get(name); v != "" {
			h.Set(name, v)
		}
	}
}

// storageClass returns the class that the client asks for, empty for the bucket's.
func storageClass(h http.Header) (string, *Error) {
	switch v := h.Get("X-Amz-Storage-Class"); strings.ToUpper(v) {
	case "":
		return "", nil
	case "STANDARD":
		return store.Standard, nil
	case "STANDARD_IA":
		return store.InfrequentAccess, nil
	}
	return "", refuse(http.StatusBadRequest, "InvalidStorageClass", "The storage class specified is not valid.")
}

// className is a storage class in S3's words.
func className(class string) string {
	if class == store.InfrequentAccess {
		return "STANDARD_IA"
	}
	return "STANDARD"
}
