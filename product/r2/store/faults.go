package store

import (
	"errors"

	"selvage/foundation/fault"
)

// Codes of Cloudflare's v4 API for what can go wrong. Compare with CodeOf.
const (
	CodeInternal           = 10001
	CodeNoSuchBucket       = 10006
	CodeNoSuchKey          = 10007
	CodeEntityTooSmall     = 10011
	CodeMetadataTooLarge   = 10012
	CodeIncompleteBody     = 10013
	CodeInvalidObjectName  = 10020
	CodeInvalidMaxKeys     = 10022
	CodeNoSuchUpload       = 10024
	CodeInvalidPart        = 10025
	CodeInvalidArgument    = 10029
	CodePreconditionFailed = 10031
	CodeBadDigest          = 10037
	CodeInvalidRange       = 10039
	CodeBadUpload          = 10048
	CodeEntityTooLarge     = 100100
	CodeInvalidPartOrder   = 10026 // ours: the parts of a completion do not ascend
	CodeSSEC               = 10050 // ours: the object's key of encryption is missing or not this one
)

// CodeOf returns the code of the first fault in err's chain, 0 if there is none.
func CodeOf(err error) int {
	var e *fault.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return 0
}

func errNoSuchBucket() error {
	return fault.New(fault.NotFound, "The specified bucket does not exist.").WithCode(CodeNoSuchBucket)
}

func errNoSuchKey() error {
	return fault.New(fault.NotFound, "The specified key does not exist.").WithCode(CodeNoSuchKey)
}

func errEntityTooLarge(limit int64) error {
	return fault.New(fault.TooMuch, "Your proposed upload exceeds the maximum allowed object size: the limit is %d bytes.", limit).WithCode(CodeEntityTooLarge)
}

func errEntityTooSmall(least int64) error {
	return fault.New(fault.Invalid, "Your proposed upload is smaller than the minimum allowed object size: all parts but the last have at least %d bytes.", least).WithCode(CodeEntityTooSmall)
}

func errMetadataTooLarge(size int) error {
	return fault.New(fault.TooMuch, "Your metadata headers exceed the maximum allowed metadata size: they have %d bytes, the limit is %d.", size, MaxMetadata).WithCode(CodeMetadataTooLarge)
}

func errObjectName(why string) error {
	return fault.New(fault.Invalid, "The specified object name is not valid: %s.", why).WithCode(CodeInvalidObjectName)
}

func errMaxKeys() error {
	return fault.New(fault.Invalid, "MaxKeys params must be positive integer <= %d.", MaxList).WithCode(CodeInvalidMaxKeys)
}

func errNoSuchUpload() error {
	return fault.New(fault.NotFound, "The specified multipart upload does not exist.").WithCode(CodeNoSuchUpload)
}

func errInvalidPart(number int) error {
	return fault.New(fault.Invalid, "One or more of the specified parts could not be found: part %d was not uploaded, or has another ETag or checksum.", number).WithCode(CodeInvalidPart)
}

func errArgument(format string, args ...any) error {
	return fault.New(fault.Invalid, format, args...).WithCode(CodeInvalidArgument)
}

func errPrecondition() error {
	return fault.New(fault.Conflict, "At least one of the pre-conditions you specified did not hold.").WithCode(CodePreconditionFailed)
}

func errBadDigest(kind string, want, got []byte) error {
	return fault.New(fault.Invalid, "The %s checksum you specified did not match what we received.\nYou provided a %s checksum with value: %x\nActual %s was: %x", kind, kind, want, kind, got).WithCode(CodeBadDigest)
}

func errInvalidRange() error {
	return fault.New(fault.Invalid, "The requested range is not satisfiable").WithCode(CodeInvalidRange)
}

func errBadUpload(why string) error {
	return fault.New(fault.Invalid, "There was a problem with the multipart upload: %s.", why).WithCode(CodeBadUpload)
}

func errPartOrder() error {
	return fault.New(fault.Invalid, "The list of parts was not in ascending order. Parts must be ordered by part number.").WithCode(CodeInvalidPartOrder)
}

func errIncompleteBody(want, got int64) error {
	return fault.New(fault.Invalid, "The body has %d bytes, %d were announced.", got, want).WithCode(CodeIncompleteBody)
}

func errSSEC(why string) error {
	return fault.New(fault.Invalid, "%s", why).WithCode(CodeSSEC)
}
