package volume

import (
	"bufio"
	"context"
	"net/url"
	"os"
	"strings"

	"selvage/foundation/clock"
	"selvage/foundation/fault"
)

// OpenOptions say how a volume is found.
type OpenOptions struct {
	// Credentials is a file in the form of ~/.aws/credentials, of which the lines aws_access_key_id,
	// aws_secret_access_key and aws_session_token count. Default: the variables of these names, in capitals.
	Credentials string
	Getenv      func(name string) string // default: os.Getenv
	Clock       clock.Clock
}

// Open opens the volume at a place: a path, file:///path, or an S3 service as
//
//	s3+https://host:port/bucket/prefix/?region=eu-central-1&style=virtual
//
// where s3+http, prefix, region (us-east-1) and style (path) may be chosen. A place that cannot be
// understood is a fault.Invalid.
func Open(ctx context.Context, place string, o OpenOptions) (Volume, error) {
	if !strings.Contains(place, "://") {
		return OpenLocal(place, LocalOptions{Clock: o.Clock})
	}
	u, err := url.Parse(place)
	if err != nil {
		return nil, fault.New(fault.Invalid, "The place of a volume is not a URL that can be read: use a path or s3+https://host/bucket/prefix/.")
	}
	switch u.Scheme {
	case "file":
		return OpenLocal(u.Path, LocalOptions{Clock: o.Clock})
	case "s3+http", "s3+https":
		return openService(ctx, u, o)
	}
	return nil, fault.New(fault.Invalid, "A volume cannot be at %s://: use a path or s3+https://host/bucket/prefix/.", u.Scheme)
}

func openService(ctx context.Context, u *url.URL, o OpenOptions) (Volume, error) {
	if u.User != nil {
		return nil, fault.New(fault.Invalid, "The URL of a volume must not hold credentials: put them into a file or the environment.")
	}
	bucket, prefix, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	s := S3Options{Endpoint: strings.TrimPrefix(u.Scheme, "s3+") + "://" + u.Host, Bucket: bucket, Prefix: prefix, Clock: o.Clock}
	for name, values := range u.Query() {
		switch {
		case name == "region":
			s.Region = values[0]
		case name == "style" && (values[0] == "path" || values[0] == "virtual"):
			s.VirtualHost = values[0] == "virtual"
		default:
			return nil, fault.New(fault.Invalid, "The URL of a volume has no setting %.40q: there are region and style, which is path or virtual.", name+"="+values[0])
		}
	}
	if s.Prefix != "" && !strings.HasSuffix(s.Prefix, "/") {
		s.Prefix += "/"
	}
	if err := s.credentials(o); err != nil {
		return nil, err
	}
	return OpenS3(ctx, s)
}

func (s *S3Options) credentials(o OpenOptions) error {
	if o.Credentials == "" {
		getenv := o.Getenv
		if getenv == nil {
			getenv = os.Getenv
		}
		s.AccessKeyID, s.SecretAccessKey, s.SessionToken = getenv("AWS_ACCESS_KEY_ID"), getenv("AWS_SECRET_ACCESS_KEY"), getenv("AWS_SESSION_TOKEN")
		if s.AccessKeyID == "" || s.SecretAccessKey == "" {
			return fault.New(fault.Invalid, "The S3 service of the volume wants credentials: name a file that has them, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
		}
		return nil
	}
	f, err := os.Open(o.Credentials)
	if err != nil {
		return fault.Wrap(err, fault.Invalid, "The file %s with the credentials of the volume cannot be read.", o.Credentials)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), "=")
		value = strings.TrimSpace(value)
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "aws_access_key_id":
			s.AccessKeyID = value
		case "aws_secret_access_key":
			s.SecretAccessKey = value
		case "aws_session_token":
			s.SessionToken = value
		}
	}
	if s.AccessKeyID == "" || s.SecretAccessKey == "" {
		return fault.New(fault.Invalid, "The file %s has no aws_access_key_id and aws_secret_access_key.", o.Credentials)
	}
	return nil
}
