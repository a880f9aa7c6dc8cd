package volume_test

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"selvage/engine/volume"
	"selvage/engine/volume/volumetest"
	"selvage/foundation/fault"
)

// service is a small S3 service in memory, with faults. Real ones are run by clients/volume_test.go.
type service struct {
	*httptest.Server
	t *testing.T

	mu      sync.Mutex // guards the fields below
	objects map[string][]byte
	uploads map[string]*upload
	begun   time.Time

	busy     atomic.Int32 // so many requests are answered with 503
	breaking atomic.Int32 // so many bodies break off after 100,000 bytes
	full     atomic.Bool
	lose     atomic.Bool // the answer to the next completion
}

type upload struct {
	key   string
	parts map[string][]byte
}

func newService(t *testing.T) *service {
	s := &service{t: t, objects: map[string][]byte{}, uploads: map[string]*upload{}, begun: time.Now()}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *service) open(t *testing.T) *volume.S3 {
	t.Helper()
	v, err := volume.OpenS3(t.Context(), volume.S3Options{Endpoint: s.URL, Bucket: "bucket", Prefix: "of node/1+", AccessKeyID: "key", SecretAccessKey: "secret", Attempts: 4})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>no</Message></Error>", code)
}

// ServeHTTP answers.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=key/") {
		refuse(w, 403, "AccessDenied")
		return
	}
	body, _ := io.ReadAll(r.Body)
	if got := fmt.Sprintf("%x", sha256.Sum256(body)); got != r.Header.Get("X-Amz-Content-Sha256") {
		s.t.Errorf("the body of %s %s is not what was signed", r.Method, r.URL)
	}
	if s.busy.Add(-1) >= 0 {
		refuse(w, 503, "SlowDown")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q, key := r.URL.Query(), strings.TrimPrefix(r.URL.Path, "/bucket/")
	switch {
	case key == "" && q.Has("uploads"):
		fmt.Fprint(w, "<ListMultipartUploadsResult>")
		for id, u := range s.uploads {
			fmt.Fprintf(w, "<Upload><Key>%s</Key><UploadId>%s</UploadId><Initiated>%s</Initiated></Upload>", u.key, id, s.begun.UTC().Format(time.RFC3339))
		}
		fmt.Fprint(w, "</ListMultipartUploadsResult>")
	case key == "":
		s.list(w, q.Get("prefix"), q.Get("continuation-token"))
	case r.Method == "GET" || r.Method == "HEAD":
		s.get(w, r, key)
	case r.Method == "DELETE" && q.Has("uploadId"):
		delete(s.uploads, q.Get("uploadId"))
		w.WriteHeader(204)
	case r.Method == "DELETE":
		delete(s.objects, key)
		w.WriteHeader(204)
	case s.full.Load():
		refuse(w, 507, "XMinioStorageFull")
	case r.Method == "POST" && q.Has("uploads"):
		id := fmt.Sprint("upload", len(s.uploads), time.Now().UnixNano())
		s.uploads[id] = &upload{key, map[string][]byte{}}
		fmt.Fprintf(w, "<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>", id)
	case r.Method == "POST":
		s.complete(w, key, q.Get("uploadId"), body)
	case q.Has("uploadId"):
		s.uploads[q.Get("uploadId")].parts[q.Get("partNumber")] = body
		w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprintf("%x", md5.Sum(body))))
	default:
		s.objects[key] = body
	}
}

func (s *service) list(w io.Writer, prefix, after string) {
	var keys []string
	for k := range s.objects {
		if strings.HasPrefix(k, prefix) && k > after {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	fmt.Fprint(w, "<ListBucketResult>")
	if len(keys) > 3 {
		keys = keys[:3]
		fmt.Fprintf(w, "<IsTruncated>true</IsTruncated><NextContinuationToken>%s</NextContinuationToken>", keys[2])
	}
	for _, k := range keys {
		fmt.Fprintf(w, "<Contents><Key>%s</Key><Size>%d</Size><LastModified>%s</LastModified></Contents>", k, len(s.objects[k]), s.begun.UTC().Format(time.RFC3339))
	}
	fmt.Fprint(w, "</ListBucketResult>")
}

func (s *service) get(w http.ResponseWriter, r *http.Request, key string) {
	b, ok := s.objects[key]
	if !ok {
		refuse(w, 404, "NoSuchKey")
		return
	}
	if s.breaking.Add(-1) >= 0 {
		w = &breaking{w, 100_000}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

// breaking breaks off.
type breaking struct {
	http.ResponseWriter
	left int
}

// Write writes until nothing is left.
func (b *breaking) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		panic(http.ErrAbortHandler)
	}
	return b.ResponseWriter.Write(p)
}

func (s *service) complete(w http.ResponseWriter, key, id string, body []byte) {
	u := s.uploads[id]
	if u == nil {
		refuse(w, 404, "NoSuchUpload")
		return
	}
	var list struct {
		Part []struct{ PartNumber string }
	}
	if err := xml.Unmarshal(body, &list); err != nil {
		s.t.Error(err)
	}
	var all []byte
	for i, p := range list.Part {
		if i < len(list.Part)-1 && len(u.parts[p.PartNumber]) < 5<<20 {
			s.t.Errorf("part %s has only %d bytes", p.PartNumber, len(u.parts[p.PartNumber]))
		}
		all = append(all, u.parts[p.PartNumber]...)
	}
	s.objects[key] = all
	delete(s.uploads, id)
	if s.lose.Swap(false) {
		refuse(w, 500, "InternalError")
		return
	}
	fmt.Fprint(w, "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>")
}

func TestS3(t *testing.T) {
	volumetest.Run(t, func(t *testing.T) volumetest.Place {
		s := newService(t)
		return volumetest.Place{
			Volume: s.open(t),
			Reopen: func(t *testing.T) volume.Volume { return s.open(t) },
			Change: func(t *testing.T, name string, edit func([]byte) []byte) {
				s.mu.Lock()
				defer s.mu.Unlock()
				key := "of node/1+" + name
				if b := edit(bytes.Clone(s.objects[key])); b == nil {
					delete(s.objects, key)
				} else {
					s.objects[key] = b
				}
			},
		}
	})
}

func TestS3IsTriedAgain(t *testing.T) {
	s := newService(t)
	v := s.open(t)
	content := volumetest.Noise(1, 9<<20)
	s.busy.Store(2)
	s.lose.Store(true)
	c, err := write(t.Context(), v, "again", content)
	if err != nil {
		t.Fatal(err)
	}
	s.busy.Store(2)
	s.breaking.Store(3)
	if got, err := read(v, c); err != nil || !bytes.Equal(got, content) {
		t.Errorf("reading over connections that break = %d bytes, %v", len(got), err)
	}
	s.busy.Store(1000)
	if _, err := read(v, c); fault.KindOf(err) != fault.Unavailable || volume.IsDamage(err) {
		t.Errorf("reading from a service that is busy for good: %v, want fault.Unavailable", err)
	}
	s.busy.Store(0)
	s.full.Store(true)
	for _, n := range []int{10, 20 << 20} {
		if _, err := write(t.Context(), v, "full", volumetest.Noise(2, n)); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("writing %d bytes to a full service: %v, want fault.Unavailable", n, err)
		}
	}
	if got, err := read(v, c); err != nil || !bytes.Equal(got, content) {
		t.Errorf("reading from a full service = %d bytes, %v", len(got), err)
	}
}

func TestS3TidiesUp(t *testing.T) {
	s := newService(t)
	v := s.open(t)
	s.uploads["left"] = &upload{"of node/1+left", map[string][]byte{}}
	s.uploads["other"] = &upload{"of node/2+left", map[string][]byte{}}
	if err := v.Tidy(t.Context()); err != nil || len(s.uploads) != 2 {
		t.Errorf("Tidy() = %v, %d uploads are left; want 2 that are young", err, len(s.uploads))
	}
	s.begun = time.Now().Add(-25 * time.Hour)
	if err := v.Tidy(t.Context()); err != nil || len(s.uploads) != 1 || s.uploads["other"] == nil {
		t.Errorf("Tidy() = %v, left %v; want the one under another prefix", err, s.uploads)
	}
}

func TestPlaces(t *testing.T) {
	s := newService(t)
	dir := t.TempDir()
	place := strings.Replace(s.URL, "http://", "s3+http://", 1) + "/bucket/nodes/1?region=auto"
	file := dir + "/credentials"
	if err := os.WriteFile(file, []byte("[default]\naws_access_key_id = key\naws_secret_access_key=secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		place, file, key string
		want             fault.Kind
		ok               bool
	}{
		{place: dir + "/a", ok: true},
		{place: "file://" + dir + "/b", ok: true},
		{place: place, file: file, ok: true},
		{place: place, key: "key", ok: true},
		{place: place, want: fault.Invalid},
		{place: place, key: "other", want: fault.Unavailable},
		{place: place, file: dir + "/none", want: fault.Invalid},
		{place: place + "&colour=red", key: "key", want: fault.Invalid},
		{place: place + "&style=round", key: "key", want: fault.Invalid},
		{place: "ftp://host/bucket", want: fault.Invalid},
		{place: "s3+https://user:word@host/bucket", key: "key", want: fault.Invalid},
		{place: "s3+https://host/", key: "key", want: fault.Invalid},
	} {
		v, err := volume.Open(t.Context(), c.place, volume.OpenOptions{Credentials: c.file, Getenv: func(string) string { return c.key }})
		if (err == nil) != c.ok || !c.ok && fault.KindOf(err) != c.want {
			t.Errorf("Open(%q) = %v, want kind %v", c.place, err, c.want)
		}
		if c.ok && err == nil {
			if _, err := write(t.Context(), v, "placed", []byte("x")); err != nil {
				t.Errorf("Open(%q): %v", c.place, err)
			}
		}
	}
	if s.objects["nodes/1/placed"] == nil {
		t.Errorf("the object is not under the prefix: there is %v", s.objects)
	}
}
