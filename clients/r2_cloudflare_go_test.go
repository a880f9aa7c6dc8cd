package clients

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudflare/cloudflare-go/v6"
	"github.com/cloudflare/cloudflare-go/v6/r2"
)

// TestR2CloudflareGo walks through a bucket's life with Cloudflare's Go SDK.
func TestR2CloudflareGo(t *testing.T) {
	n := startNode(t)
	c, ctx, account := sdk(n), t.Context(), cloudflare.F(n.AccountID)
	made, err := c.R2.Buckets.New(ctx, r2.BucketNewParams{AccountID: account, Name: cloudflare.F("sdk"), LocationHint: cloudflare.F(r2.BucketNewParamsLocationHintWeur)})
	if err != nil || made.Name != "sdk" || made.Location != "weur" || made.StorageClass != r2.BucketStorageClassStandard || made.Jurisdiction != r2.BucketJurisdictionDefault {
		t.Fatalf("New() = %+v, %v", made, err)
	}
	if _, err := c.R2.Buckets.New(ctx, r2.BucketNewParams{AccountID: account, Name: cloudflare.F("sdk")}); err == nil || !strings.Contains(err.Error(), "10004") {
		t.Errorf("New() of a name that is taken = %v", err)
	}
	listed, err := c.R2.Buckets.List(ctx, r2.BucketListParams{AccountID: account, NameContains: cloudflare.F("sd")})
	if err != nil || len(listed.Buckets) != 1 || listed.Buckets[0].CreationDate == "" {
		t.Errorf("List() = %+v, %v", listed, err)
	}
	rule := r2.BucketLockUpdateParamsRule{ID: cloudflare.F("keep"), Enabled: cloudflare.F(true), Prefix: cloudflare.F("kept/"),
		Condition: cloudflare.F[r2.BucketLockUpdateParamsRulesConditionUnion](r2.BucketLockUpdateParamsRulesConditionR2LockRuleAgeCondition{
			MaxAgeSeconds: cloudflare.F(int64(60)), Type: cloudflare.F(r2.BucketLockUpdateParamsRulesConditionR2LockRuleAgeConditionTypeAge)})}
	if _, err := c.R2.Buckets.Locks.Update(ctx, "sdk", r2.BucketLockUpdateParams{AccountID: account, Rules: cloudflare.F([]r2.BucketLockUpdateParamsRule{rule})}); err != nil {
		t.Error(err)
	}
	locks, err := c.R2.Buckets.Locks.Get(ctx, "sdk", r2.BucketLockGetParams{AccountID: account})
	if err != nil || len(locks.Rules) != 1 || locks.Rules[0].Condition.MaxAgeSeconds != 60 {
		t.Errorf("Locks.Get() = %+v, %v", locks, err)
	}
	life, err := c.R2.Buckets.Lifecycle.Get(ctx, "sdk", r2.BucketLifecycleGetParams{AccountID: account})
	if err != nil || len(life.Rules) != 1 || life.Rules[0].AbortMultipartUploadsTransition.Condition.MaxAge != 604800 {
		t.Errorf("Lifecycle.Get() = %+v, %v", life, err)
	}
	metrics, err := c.R2.Buckets.Metrics.List(ctx, r2.BucketMetricListParams{AccountID: account})
	if err != nil || metrics.Standard.Published.Objects != 0 {
		t.Errorf("Metrics.List() = %+v, %v", metrics, err)
	}
	if _, err := c.R2.Buckets.Delete(ctx, "sdk", r2.BucketDeleteParams{AccountID: account}); err != nil {
		t.Error(err)
	}
	if _, err := c.R2.Buckets.Get(ctx, "sdk", r2.BucketGetParams{AccountID: account}); err == nil || !strings.Contains(err.Error(), "10006") {
		t.Errorf("Get() of a deleted bucket = %v", err)
	}
}

// TestR2CloudflareGoOwn runs the tests that come with the SDK, also those that it skips. They name an
// account, a bucket, a zone and a queue that are nobody's: before each of their requests what it names
// is made on the node. Sippy and the slurper, which this node refuses, are left out.
func TestR2CloudflareGoOwn(t *testing.T) {
	n := startNode(t)
	front := &sdkFront{t: t, n: n}
	front.zone = n.call(t, "POST", "/zones", map[string]any{"name": "example.com", "account": map[string]any{"id": n.AccountID}})["id"].(string)
	front.queue = n.call(t, "POST", "/accounts/"+n.AccountID+"/queues", map[string]any{"queue_name": "own"})["queue_id"].(string)
	server := httptest.NewServer(front)
	defer server.Close()
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "-run", "TestBucket|TestTemporary", "-skip", "Sippy", unskipped(t))
	cmd.Env = append(os.Environ(), "TEST_API_BASE_URL="+server.URL)
	out, err := cmd.CombinedOutput()
	if passed := strings.Count(string(out), "--- PASS"); err != nil || passed < 25 {
		t.Errorf("%d tests of the SDK pass, %v:\n%s", passed, err, out[max(0, len(out)-6000):])
	}
}

// unskipped copies the SDK's tests of R2, without what makes them skip themselves, into a package of
// this module, which has the same dependencies.
func unskipped(t *testing.T) string {
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(run(t, nil, "go", "list", "-f", "{{.Dir}}", "github.com/cloudflare/cloudflare-go/v6/r2")), "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the SDK has no tests of R2: %v", err)
	}
	out, err := os.MkdirTemp(".", "_r2sdk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(out) })
	change := strings.NewReplacer("\tt.Skip(", "\tt.Log(", `"github.com/cloudflare/cloudflare-go/v6/internal/testutil"`, "", "!testutil.CheckTestServer(t, baseURL)", `baseURL == ""`)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(out, filepath.Base(file)), []byte(change.Replace(string(data))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return "./" + out
}

// sdkFront stands before a node and makes what the SDK's tests take for granted.
type sdkFront struct {
	t           *testing.T
	n           *node
	zone, queue string
	count       int
}

// ServeHTTP makes a bucket for the request and sends it on.
func (f *sdkFront) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.count++
	bucket := fmt.Sprint("own-", f.count)
	account := "/accounts/" + f.n.AccountID
	body, _ := io.ReadAll(r.Body)
	creates := r.Method == "POST" && strings.HasSuffix(r.URL.Path, "/r2/buckets")
	if !creates {
		f.n.call(f.t, "POST", account+"/r2/buckets", map[string]any{"name": bucket})
	}
	switch host := fmt.Sprintf("d%d.example.com", f.count); {
	case strings.Contains(r.URL.Path, "/cors") && r.Method == "GET":
		f.n.call(f.t, "PUT", account+"/r2/buckets/"+bucket+"/cors", map[string]any{"rules": []any{map[string]any{"allowed": map[string]any{"origins": []string{"*"}, "methods": []string{"GET"}}}}})
	case strings.Contains(r.URL.Path, "/domains/custom/"):
		f.n.call(f.t, "POST", account+"/r2/buckets/"+bucket+"/domains/custom", map[string]any{"domain": host, "enabled": true})
		before, _, _ := strings.Cut(r.URL.Path, "/domains/custom/") // theirs is "example-domain/custom-domain.com"
		r.URL.Path = before + "/domains/custom/" + host
	case strings.HasSuffix(r.URL.Path, "/domains/custom") && r.Method == "POST":
		body = bytes.ReplaceAll(body, []byte(`"prefix.example-domain.com"`), []byte(`"`+host+`"`))
	case strings.Contains(r.URL.Path, "/configuration") && r.Method != "PUT":
		f.n.call(f.t, "PUT", account+"/event_notifications/r2/"+bucket+"/configuration/queues/"+f.queue, map[string]any{"rules": []any{map[string]any{"actions": []string{"PutObject"}}}})
	}
	names := strings.NewReplacer("023e105f4ecef8ad9ca31a8372d0c353", f.n.AccountID, "example-bucket", bucket, "36ca64a6d92827b8a6b90be344bb1bfd", f.zone, "queue_id", f.queue)
	path := names.Replace(r.URL.Path)
	if r.URL.RawQuery != "" {
		path += "?" + r.URL.RawQuery
	}
	req, err := http.NewRequest(r.Method, f.n.API+path, strings.NewReader(names.Replace(string(body))))
	if err != nil {
		f.t.Error(err)
		return
	}
	req.Header = r.Header.Clone()
	for _, name := range []string{"X-Auth-Key", "X-Auth-Email", "Content-Length", "Cf-R2-Jurisdiction"} {
		req.Header.Del(name)
	}
	req.Header.Set("Authorization", "Bearer "+f.n.Token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Error(err)
		return
	}
	defer res.Body.Close()
	w.Header().Set("Content-Type", res.Header.Get("Content-Type"))
	w.WriteHeader(res.StatusCode)
	io.Copy(w, res.Body)
}
