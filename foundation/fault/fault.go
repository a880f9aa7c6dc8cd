// Package fault holds errors that are meant for users: a kind that callers decide on,
// a plain sentence that says what to do next, and a cause that only the log sees.
package fault

import (
	"errors"
	"fmt"
)

// Kind says what sort of fault an error is. Only control/api turns a kind into an HTTP status.
type Kind uint8

// The kinds of fault. Anything without a kind is Internal.
const (
	Internal        Kind = iota // ours: the user gets an id, the log gets the cause
	Invalid                     // the input is wrong; Error.Field names where
	NotFound                    // no such thing, or not visible to the caller
	Conflict                    // it exists already, or changed under the caller
	Unauthenticated             // no credentials, or not valid ones
	Denied                      // valid credentials without the right
	TooMuch                     // over a counted limit; the message names limit and size
	Unavailable                 // cannot be done now; trying again may help
	Unsupported                 // the method or feature does not exist here
)

var kindNames = [...]string{"internal", "invalid", "not found", "conflict", "unauthenticated", "denied", "too much", "unavailable", "unsupported"}

// String returns the kind in words.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Error is a fault with a sentence for the user. Treat it as immutable once returned.
type Error struct {
	Kind    Kind
	Code    int    // the number Cloudflare's v4 API documents for this fault; 0 lets control/api choose by Kind
	Field   string // path of the input at fault, such as "content" or "rules[3].expression"; empty if none
	Message string // for the user: plain, says what to do next, no internals
	cause   error
}

// New returns a fault with a sentence for the user.
func New(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// Wrap returns a fault whose cause goes to the log only.
func Wrap(cause error, kind Kind, format string, args ...any) *Error {
	e := New(kind, format, args...)
	e.cause = cause
	return e
}

// WithCode returns a copy of e that carries a documented v4 error code.
func (e *Error) WithCode(code int) *Error {
	c := *e
	c.Code = code
	return &c
}

// At returns a copy of e that names the input field at fault.
func (e *Error) At(field string) *Error {
	c := *e
	c.Field = field
	return &c
}

// Error returns the sentence for the user, then the cause if there is one.
func (e *Error) Error() string {
	s := e.Message
	if e.Field != "" {
		s = e.Field + ": " + s
	}
	if e.cause != nil {
		s += " (" + e.cause.Error() + ")"
	}
	return s
}

// Unwrap returns the cause, or nil.
func (e *Error) Unwrap() error { return e.cause }

// KindOf returns the kind of the first fault in err's chain, Internal if there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// All returns every fault in err, looking into errors.Join; errors without a kind are left out.
// Validation reports all of its findings at once, this takes them apart again.
func All(err error) []*Error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*Error); ok {
		return []*Error{e}
	}
	switch u := err.(type) {
	case interface{ Unwrap() []error }:
		var all []*Error
		for _, sub := range u.Unwrap() {
			all = append(all, All(sub)...)
		}
		return all
	case interface{ Unwrap() error }:
		return All(u.Unwrap())
	}
	return nil
}
