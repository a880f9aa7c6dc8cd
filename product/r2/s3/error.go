package s3

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"selvage/foundation/fault"
)

// Error is a refusal in S3's words.
type Error struct {
	Status  int
	Code    string // such as NoSuchKey
	Message string
	Details [][2]string // further elements of the answer: name, text
}

// Error returns code and message.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

func refuse(status int, code, format string, args ...any) *Error {
	return &Error{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

func invalidArgument(format string, args ...any) *Error {
	return refuse(http.StatusBadRequest, "InvalidArgument", format, args...)
}

func invalidRequest(format string, args ...any) *Error {
	return refuse(http.StatusBadRequest, "InvalidRequest", format, args...)
}

// notImplemented is R2's answer to what it knows of and does not do.
func notImplemented(format string, args ...any) *Error {
	return refuse(http.StatusNotImplemented, "NotImplemented", format+" not implemented", args...)
}

func unauthorized() *Error {
	return refuse(http.StatusUnauthorized, "Unauthorized", "Unauthorized")
}

func accessDenied(why string) *Error {
	return refuse(http.StatusForbidden, "AccessDenied", "Access Denied: %s", why)
}

func noRoute() *Error {
	return refuse(http.StatusNotFound, "RouteNotFound", "No route matches this url.")
}

func noBucket() *Error {
	return refuse(http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist.")
}

func noKey() *Error {
	return refuse(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
}

func noUpload() *Error {
	return refuse(http.StatusNotFound, "NoSuchUpload", "The specified multipart upload does not exist.")
}

func badPart() *Error {
	return refuse(http.StatusBadRequest, "InvalidPart", "One or more of the specified parts could not be found.")
}

func preconditionFailed() *Error {
	return refuse(http.StatusPreconditionFailed, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold.")
}

func invalidRange() *Error {
	return refuse(http.StatusRequestedRangeNotSatisfiable, "InvalidRange", "The requested range is not satisfiable")
}

func malformedXML() *Error {
	return refuse(http.StatusBadRequest, "MalformedXML", "The XML you provided was not well formed or did not validate against our published schema.")
}

func tooLarge() *Error {
	return refuse(http.StatusBadRequest, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size.")
}

func incompleteBody() *Error {
	return refuse(http.StatusBadRequest, "IncompleteBody", "The request body terminated unexpectedly")
}

// byCode are R2's answers to faults that carry a code of Cloudflare's. The store and the API speak in
// those. Source: developers.cloudflare.com/r2/api/error-codes.
func byCode(code int) *Error {
	switch code {
	case 10005:
		return refuse(http.StatusBadRequest, "InvalidBucketName", "The specified bucket name is not valid.")
	case 10006:
		return noBucket()
	case 10007:
		return noKey()
	case 10008:
		return refuse(http.StatusConflict, "BucketNotEmpty", "The bucket you tried to delete is not empty.")
	case 10009:
		return refuse(http.StatusBadRequest, "TooManyBuckets", "You have attempted to create more buckets than allowed.")
	case 10011:
		return refuse(http.StatusBadRequest, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed object size.")
	case 10012:
		return refuse(http.StatusBadRequest, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size.")
	case 10013:
		return incompleteBody()
	case 10020:
		return refuse(http.StatusBadRequest, "InvalidObjectName", "The specified object name is not valid.")
	case 10024:
		return noUpload()
	case 10025:
		return badPart()
	case 10031:
		return preconditionFailed()
	case 10039:
		return invalidRange()
	case 100100:
		return tooLarge()
	}
	return nil
}

// keptMessage are codes of Cloudflare's for which the fault's own sentence says more than R2's.
func keptMessage(code int) (int, string) {
	switch code {
	case 10004:
		return http.StatusConflict, "BucketAlreadyOwnedByYou"
	case 10029:
		return http.StatusBadRequest, "InvalidArgument"
	case 10037:
		return http.StatusBadRequest, "BadDigest"
	case 10048:
		return http.StatusBadRequest, "InvalidPart"
	case 10026:
		return http.StatusBadRequest, "InvalidPartOrder"
	case 10050:
		return http.StatusBadRequest, "InvalidRequest"
	case 10062:
		return http.StatusBadRequest, "InvalidStorageClass"
	case 10069:
		return http.StatusForbidden, "ObjectLockedByBucketPolicy"
	}
	return 0, ""
}

// asError says in S3's words what went wrong; nil means that it is ours and goes to the log.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var f *fault.Error
	if errors.As(err, &f) {
		return ofFault(f)
	}
	var timeout net.Error
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return incompleteBody()
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return refuse(http.StatusBadRequest, "RequestTimeout", "Your socket connection to the server was not read from or written to within the timeout period.")
	}
	return nil
}

func ofFault(f *fault.Error) *Error {
	if e := byCode(f.Code); e != nil {
		return e
	}
	if status, code := keptMessage(f.Code); status != 0 {
		return refuse(status, code, "%s", f.Message)
	}
	switch f.Kind {
	case fault.Invalid:
		return invalidArgument("%s", f.Message)
	case fault.NotFound:
		return noKey()
	case fault.Conflict:
		return refuse(http.StatusConflict, "OperationAborted", "%s", f.Message)
	case fault.Unauthenticated:
		return unauthorized()
	case fault.Denied:
		return refuse(http.StatusForbidden, "AccessDenied", "%s", f.Message)
	case fault.TooMuch:
		return refuse(http.StatusForbidden, "QuotaExceeded", "%s", f.Message)
	case fault.Unavailable:
		return refuse(http.StatusServiceUnavailable, "ServiceUnavailable", "%s", f.Message)
	case fault.Unsupported:
		return refuse(http.StatusNotImplemented, "NotImplemented", "%s", f.Message)
	}
	return nil
}
