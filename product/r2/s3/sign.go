package s3

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Names and bounds of Signature Version 4.
// Source: docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html.
const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	amzTime    = "20060102T150405Z"
	maxExpires = 7 * 24 * 3600    // seconds that a presigned URL may live
	maxSkew    = 15 * time.Minute // between the client's clock and ours
)

// Payload hashes that are no hash of the body.
const (
	unsignedPayload  = "UNSIGNED-PAYLOAD"
	signedChunks     = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	signedTrailer    = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	unsignedTrailer  = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	streamingPrefix  = "STREAMING-"
	emptySHA256      = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	headerSHA256     = "X-Amz-Content-Sha256"
	headerToken      = "X-Amz-Security-Token"
	queryCredential  = "X-Amz-Credential"
	querySignature   = "X-Amz-Signature"
	queryToken       = "X-Amz-Security-Token"
	querySHA256      = "X-Amz-Content-Sha256"
	queryUserAgent   = "X-Amz-User-Agent"
	canonicalExtraKB = 1024
)

// signature is what a request says of who sent it, read but not yet verified.
type signature struct {
	presigned bool
	id        string // access key ID
	session   string // token of a temporary credential; empty if none
	day       string // of the scope: 20060102
	region    string
	time      string   // as sent: 20060102T150405Z
	headers   []string // that are signed, in lower case and in their order
	provided  string   // the signature in hex
	payload   string   // hash of the body or what stands for it

	key [sha256.Size]byte // that chunks are signed with; set by verify
}

// readSignature reads how a request is signed and refuses what is malformed, outside its time or not
// of this service, with R2's errors in R2's order.
func readSignature(r *http.Request, query url.Values, now time.Time) (*signature, *Error) {
	if auth := r.Header.Get("Authorization"); auth != "" {
		return readHeader(r.Header, auth, now)
	}
	if query.Has(queryCredential) {
		return readPresigned(r.Header, query, now)
	}
	if query.Has("AWSAccessKeyId") && query.Has("Signature") { // presigned by version 2, as AWS's tools do for us-east-1
		return nil, invalidRequest("The authorization mechanism you have provided is not supported. Please use %s.", algorithm)
	}
	return nil, invalidArgument("Authorization")
}

func readHeader(h http.Header, auth string, now time.Time) (*signature, *Error) {
	s := &signature{payload: h.Get(headerSHA256), session: h.Get(headerToken)}
	if s.payload == "" {
		return nil, invalidRequest("Missing x-amz-content-sha256")
	}
	source := "x-amz-date"
	if s.time = h.Get("X-Amz-Date"); s.time == "" {
		source, s.time = "date", h.Get("Date")
	}
	if s.time == "" {
		return nil, invalidArgument("No date provided in x-amz-date nor date header")
	}
	at, err := parseTime(s.time)
	if err != nil {
		return nil, invalidArgument("Date provided in '%s' header (%s) didn't parse successfully", source, s.time)
	}
	if skew := now.Sub(at); skew > maxSkew || skew < -maxSkew {
		return nil, refuse(http.StatusForbidden, "RequestTimeTooSkewed", "The difference between the request time and the server's time is too large.")
	}
	rest, ok := strings.CutPrefix(auth, algorithm+" ")
	var credential, headers string
	for ok && rest != "" {
		var part string
		part, rest, _ = strings.Cut(rest, ",")
		name, value, _ := strings.Cut(part, "=")
		switch strings.TrimSpace(name) {
		case "Credential":
			credential = strings.TrimSpace(value)
		case "SignedHeaders":
			headers = strings.TrimSpace(value)
		case "Signature":
			s.provided = strings.TrimSpace(value)
		}
	}
	if credential == "" || headers == "" || s.provided == "" {
		return nil, invalidRequest("Please use %s", algorithm)
	}
	if e := s.readScope(credential); e != nil {
		return nil, e
	}
	return s, s.readSigned(headers)
}

func readPresigned(h http.Header, query url.Values, now time.Time) (*signature, *Error) {
	var missing []string
	for _, name := range []string{"X-Amz-Algorithm", querySignature, "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Expires"} {
		if !query.Has(name) {
			missing = append(missing, name)
		}
	}
	switch {
	case len(missing) == 1:
		return nil, invalidArgument("Required search parameter %s missing", missing[0])
	case len(missing) > 1:
		return nil, invalidArgument("Required search parameters %s missing", strings.Join(missing, ",  "))
	case query.Get("X-Amz-Algorithm") != algorithm:
		return nil, invalidRequest("Please use %s", algorithm)
	}
	s := &signature{presigned: true, time: query.Get("X-Amz-Date"), provided: query.Get(querySignature), session: query.Get(queryToken), payload: unsignedPayload}
	if s.session == "" {
		s.session = h.Get(headerToken)
	}
	if hash := query.Get(querySHA256); hash != "" {
		s.payload = hash
	}
	at, err := parseTime(s.time)
	if err != nil {
		return nil, invalidArgument("Date provided in X-Amz-Date (%s) didn't parse successfully", s.time)
	}
	if e := s.readScope(query.Get(queryCredential)); e != nil {
		return nil, e
	}
	expires, err := strconv.ParseInt(strings.TrimSpace(query.Get("X-Amz-Expires")), 10, 64)
	switch {
	case err != nil:
		return nil, invalidArgument("X-Amz-Expires should be a number")
	case expires > maxExpires:
		return nil, invalidArgument("X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than %d seconds", maxExpires)
	case expires < 1 || now.After(at.Add(time.Duration(expires)*time.Second)):
		return nil, refuse(http.StatusForbidden, "ExpiredRequest", "Request has expired")
	case at.Sub(now) > maxSkew:
		return nil, refuse(http.StatusForbidden, "RequestTimeTooSkewed", "The difference between the request time and the server's time is too large.")
	}
	return s, s.readSigned(query.Get("X-Amz-SignedHeaders"))
}

// parseTime takes ISO 8601's basic format and nothing else.
func parseTime(s string) (time.Time, error) {
	if len(s) != len(amzTime) {
		return time.Time{}, fmt.Errorf("%q is not of the form %s", s, amzTime)
	}
	return time.Parse(amzTime, s)
}

// readScope reads ID/day/region/s3/aws4_request; the ID may hold slashes.
func (s *signature) readScope(credential string) *Error {
	parts := strings.Split(credential, "/")
	n := len(parts)
	if n < 5 {
		return invalidArgument("Credential sigv4 header should have at least 5 slash-separated parts, not %d", n)
	}
	if parts[n-2] != "s3" {
		return invalidArgument("Credential service should be s3, not %s", parts[n-2])
	}
	if parts[n-1] != terminator {
		return invalidArgument("Credential termination string should be aws4_request, not %s", parts[n-1])
	}
	s.id, s.day, s.region = strings.Join(parts[:n-4], "/"), parts[n-4], parts[n-3]
	if s.day != s.time[:len("20060102")] {
		return invalidArgument("Credential signed date %s does not match %s from 'x-amz-date' header", s.day, s.time[:len("20060102")])
	}
	if !slices.Contains(regions, s.region) {
		return invalidRegion(s.region)
	}
	return nil
}

// regions are those that a client may sign for. This node is one place: they are all the same.
var regions = []string{"auto", "us-east-1", "", "wnam", "enam", "weur", "eeur", "apac", "oc"}

func invalidRegion(name string) *Error {
	return refuse(http.StatusBadRequest, "InvalidRegionName", "The region name '%s' is not valid. Must be one of: wnam, enam, weur, eeur, apac, oc, auto", name)
}

// readSigned reads which headers are signed. The host always has to be.
func (s *signature) readSigned(list string) *Error {
	s.headers = strings.Split(strings.ToLower(list), ";")
	if len(s.headers) > 100 || !slices.Contains(s.headers, "host") {
		return unauthorized()
	}
	return nil
}

// everythingSigned refuses headers of S3 that somebody could have added to a request after it was
// signed: a presigned PUT must not become a copy of another object.
func (s *signature) everythingSigned(h http.Header) *Error {
	for name := range h {
		if !strings.HasPrefix(name, "X-Amz-") || name == queryUserAgent {
			continue
		}
		if s.presigned && (name == headerSHA256 || name == "X-Amz-Date") {
			continue // not believed: the query says it
		}
		if lower := strings.ToLower(name); !slices.Contains(s.headers, lower) {
			e := accessDenied("there were headers present in the request which were not signed")
			e.Details = [][2]string{{"HeadersNotSigned", lower}}
			return e
		}
	}
	return nil
}

// verify tells whether the request was signed with secret.
func (s *signature) verify(r *http.Request, target *target, keys *keyCache, secret string) *Error {
	s.key = keys.signingKey(secret, s.day, s.region)
	var first computed
	for i, path := range target.canonicalPaths() {
		c := s.compute(r, path, target.rawQuery)
		if subtle.ConstantTimeCompare(c.signature, []byte(s.provided)) == 1 {
			return nil
		}
		if i == 0 {
			first = c
		}
	}
	e := refuse(http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your secret access key and signing method.")
	e.Details = [][2]string{
		{"StringToSign", string(first.toSign)}, {"StringToSignBytes", spacedHex(first.toSign)},
		{"CanonicalRequest", string(first.request)}, {"CanonicalRequestBytes", spacedHex(first.request)},
		{"SignatureProvided", s.provided},
	}
	return e
}

// computed is a signature and what it is made of.
type computed struct {
	request, toSign []byte
	signature       []byte // in hex
}

func (s *signature) compute(r *http.Request, path, rawQuery string) (c computed) {
	c.request = make([]byte, 0, canonicalExtraKB)
	c.request = append(append(append(c.request, r.Method...), '\n'), path...)
	c.request = append(c.request, '\n')
	c.request = appendQuery(c.request, rawQuery, s.presigned)
	c.request = append(c.request, '\n')
	for _, name := range s.headers {
		c.request = append(append(c.request, name...), ':')
		c.request = appendHeader(c.request, r, name)
		c.request = append(c.request, '\n')
	}
	c.request = append(c.request, '\n')
	for i, name := range s.headers {
		if i > 0 {
			c.request = append(c.request, ';')
		}
		c.request = append(c.request, name...)
	}
	c.request = append(append(c.request, '\n'), s.payload...)
	sum := sha256.Sum256(c.request)
	c.toSign = s.appendToSign(make([]byte, 0, 160), algorithm)
	c.toSign = hex.AppendEncode(c.toSign, sum[:])
	mac := hmacSHA256(s.key[:], c.toSign)
	c.signature = hex.AppendEncode(nil, mac[:])
	return c
}

// appendToSign appends the lines that begin each string to sign of a request.
func (s *signature) appendToSign(b []byte, kind string) []byte {
	for _, line := range []string{kind, s.time} {
		b = append(append(b, line...), '\n')
	}
	for _, part := range []string{s.day, s.region, "s3"} {
		b = append(append(b, part...), '/')
	}
	return append(append(b, terminator...), '\n')
}

func spacedHex(b []byte) string {
	const digits = "0123456789abcdef"
	out := make([]byte, 0, 3*len(b))
	for i, c := range b {
		if i > 0 {
			out = append(out, ' ')
		}
		out = append(out, digits[c>>4], digits[c&15])
	}
	return string(out)
}
