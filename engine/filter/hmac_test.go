package filter_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"
	"testing"

	"selvage/engine/filter"
)

func TestTimedHMAC(t *testing.T) {
	const issued = 1484063137
	sum := hmac.New(sha256.New, []byte("mysecretkey"))
	fmt.Fprintf(sum, "/download/cat.jpg%d", issued)
	mac := sum.Sum(nil)
	standard := fmt.Sprintf("/download/cat.jpg?verify=%d-%s", issued, url.QueryEscape(base64.StdEncoding.EncodeToString(mac)))
	urlSafe := fmt.Sprintf("/download/cat.jpg?verify=%d-%s", issued, base64.RawURLEncoding.EncodeToString(mac))
	tests := []struct {
		token, key string
		now        int64
		flags      string
		want       bool
	}{
		{standard, "mysecretkey", issued + 100, "", true},
		{standard, "mysecretkey", issued + 10801, "", false}, // expired
		{standard, "otherkey", issued, "", false},
		{"/x" + standard, "mysecretkey", issued, "", false},
		{urlSafe, "mysecretkey", issued, `, "s"`, true},
		{urlSafe + "A", "mysecretkey", issued, `, "s"`, false},
		{"", "mysecretkey", issued, "", false},
		{"-", "mysecretkey", issued, `, "s"`, false},
		{"/a?verify=notanumber-" + urlSafe[len(urlSafe)-43:], "mysecretkey", issued, `, "s"`, false},
	}
	for _, test := range tests {
		src := fmt.Sprintf(`is_timed_hmac_valid_v0(%q, http.request.uri, 10800, http.request.timestamp.sec, 8%s)`, test.key, test.flags)
		e, err := filter.Compile(src, filter.RequestSchema())
		if err != nil {
			t.Fatal(err)
		}
		r := &request{texts: map[filter.Field]string{filter.HTTPURI: test.token}, code: test.now}
		if got := e.Match(r); got != test.want {
			t.Errorf("%s for %q at %d = %v, want %v", src, test.token, test.now, got, test.want)
		}
	}
}
