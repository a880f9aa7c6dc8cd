package queues

import (
	"cmp"
	"errors"

	"selvage/foundation/fault"
	"selvage/product"
)

// Codes of Cloudflare's "Queues: Error codes".
const (
	codeNotFound     = 10104
	codeBatchDelay   = 10202
	codeMetadata     = 10203
	codeMessageSize  = 10204
	codeBatchSize    = 10205
	codeBatchCount   = 10206
	codeBody         = 10207
	codeMalformed    = 10208
	codeStorageLimit = 10251
	codePaused       = 10252
	codeInternal     = 15000
)

// Codes of the API of queues and consumers, as real clients met them.
const (
	codeNoQueue        = 11000
	codeNoHandler      = 11001
	codeName           = 11003
	codeConsumerExists = 11004
	codeInUse          = 11005
	codeNameTaken      = 11009
	codeNoScript       = 10007
	codeUnread         = 10026 // a body that cannot be parsed
	codeNoJSON         = 6007  // what the API as a whole says of one
	codeSettings       = 100128
)

// recode gives a fault.TooMuch a code.
func recode(err error, code int) error {
	if all := fault.All(err); len(all) == 1 && all[0].Kind == fault.TooMuch && all[0].Code == 0 {
		return all[0].WithCode(code)
	}
	return err
}

// decode reads the body of a call.
func decode(c *product.Call, v any, ignored ...string) error {
	return unread(c.Decode(v, ignored...), codeUnread, codeUnread)
}

// decodeMessages is decode for messages.
func decodeMessages(c *product.Call, v any, ignored ...string) error {
	return unread(c.Decode(v, ignored...), codeMalformed, codeBody)
}

// unread gives the faults of a body the code that it has for what is no JSON, or not of the form that
// it has to be.
func unread(err error, malformed, form int) error {
	var all []error
	for _, f := range fault.All(err) {
		switch {
		case f.Code == codeNoJSON:
			f = f.WithCode(malformed)
		case f.Kind == fault.Invalid:
			f = f.WithCode(form)
		}
		all = append(all, f)
	}
	return cmp.Or(errors.Join(all...), err)
}
