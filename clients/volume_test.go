package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestVolumes runs the suite of engine/volume, and R2's objects compared with a model, against S3 services
// that are none of the volume's own: versitygw, and a node's R2.
func TestVolumes(t *testing.T) {
	t.Run("versitygw", func(t *testing.T) {
		// Building it takes minutes the first time.
		out, err := exec.CommandContext(t.Context(), "go", "-C", "versitygw", "tool", "-n", "versitygw").Output()
		if err != nil {
			t.Fatalf("build versitygw: %v", err)
		}
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "bucket"), 0o700); err != nil {
			t.Fatal(err)
		}
		address := "127.0.0.1:" + freePort(t)
		cmd := exec.Command(strings.TrimSpace(string(out)), "--port", address, "posix", dir)
		cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY=user", "ROOT_SECRET_KEY=password")
		start(t, cmd, address)
		volumeSuite(t, "s3+http://"+address+"/bucket?region=us-east-1", "user", "password")
	})
	t.Run("R2", func(t *testing.T) {
		s := startS3(t)
		s.call(t, "POST", "/accounts/"+s.AccountID+"/r2/buckets", map[string]any{"name": "volume"})
		volumeSuite(t, "s3+http://"+s.host()+"/volume?region=auto", s.id, s.secret)
	})
}

// volumeSuite runs it at a place.
func volumeSuite(t *testing.T, place, id, secret string) {
	t.Helper()
	env := []string{"SELVAGE_TEST_VOLUME=" + place, "AWS_ACCESS_KEY_ID=" + id, "AWS_SECRET_ACCESS_KEY=" + secret}
	run(t, env, "go", "-C", "..", "test", "-count=1", "-run", "^TestAgainstModel$", "./product/r2/store")
	if out := run(t, env, "go", "-C", "..", "test", "-count=1", "-tags", "service", "-run", "^TestService$", "-v", "./engine/volume"); !strings.Contains(out, "PASS: TestService") {
		t.Errorf("the suite did not run:\n%s", out)
	}
}
