package r2

import (
	"errors"
	"net/http"
	"strings"

	"selvage/foundation/fault"
	"selvage/product/r2/store"
)

// wireText is R2's own sentence for a code, which scripts may compare. "" keeps the fault's.
func wireText(code int) string {
	switch code {
	case store.CodeInternal:
		return "We encountered an internal error. Please try again."
	case store.CodeEntityTooSmall:
		return "Your proposed upload is smaller than the minimum allowed object size."
	case store.CodeEntityTooLarge:
		return "Your proposed upload exceeds the maximum allowed object size."
	case store.CodeMetadataTooLarge:
		return "Your metadata headers exceed the maximum allowed metadata size."
	case store.CodeInvalidObjectName:
		return "The specified object name is not valid."
	case store.CodeInvalidMaxKeys:
		return "MaxKeys params must be positive integer <= 1000."
	case store.CodeInvalidPart:
		return "One or more of the specified parts could not be found."
	case store.CodeBadUpload:
		return "There was a problem with the multipart upload."
	}
	return ""
}

// wireError returns how R2 calls an error.
func wireError(err error) (code, status int, message string) {
	var e *fault.Error
	if !errors.As(err, &e) || e.Kind == fault.Internal {
		return store.CodeInternal, http.StatusInternalServerError, wireText(store.CodeInternal)
	}
	code, status, message = e.Code, http.StatusBadRequest, e.Message
	if text := wireText(code); text != "" {
		message = text
	}
	switch {
	case code == store.CodeBadDigest:
		message = digestNames().Replace(message)
	case code == store.CodePreconditionFailed:
		status = http.StatusPreconditionFailed
	case code == store.CodeInvalidRange:
		status = http.StatusRequestedRangeNotSatisfiable
	case code == store.CodeNoSuchKey || code == store.CodeNoSuchBucket:
		status = http.StatusNotFound
	case e.Kind == fault.Unavailable:
		status = http.StatusServiceUnavailable
	case e.Kind == fault.Denied:
		status = http.StatusForbidden
	}
	if code == 0 {
		code = store.CodeInternal
	}
	return code, status, message
}

// digestNames writes the names of digests as R2 does.
func digestNames() *strings.Replacer {
	return strings.NewReplacer("md5 ", "MD5 ", "sha1 ", "SHA-1 ", "sha256 ", "SHA-256 ", "sha384 ", "SHA-384 ", "sha512 ", "SHA-512 ")
}
