package edge

import (
	"errors"
	"fmt"
)

// Failure is an error that becomes an error page on purpose: the origin cannot be reached, the
// host is unknown, the request is refused. A phase that returns one is not broken.
type Failure struct {
	Status int    // of the page: 400, 403, 409, 520-530, ...
	Code   int    // Cloudflare's four-digit number where there is one (1001, 1016, ...); 0 if not
	Reason string // a word for machines and logs: "origin_refused", "unknown_host"
	Detail string // a sentence for people: what happened and what to do
	Cause  error  // for the log only
}

// Error returns reason, detail and cause.
func (f *Failure) Error() string {
	if f.Cause != nil {
		return fmt.Sprintf("%d %s: %v", f.Status, f.Reason, f.Cause)
	}
	return fmt.Sprintf("%d %s", f.Status, f.Reason)
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Cause }

func isVerdict(err error) bool {
	var f *Failure
	return errors.As(err, &f)
}
