package node_test

import (
	"flag"
	"os"
	"os/exec"
	"testing"
)

var update = flag.Bool("update", false, "write docs/api.md anew")

// The page of the API is printed from the table that requests are routed by.
func TestAPIPageIsUpToDate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	up(t, dir)
	got, err := exec.Command(program, "api", "--markdown", "--data", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	const page = "../docs/api.md"
	if *update {
		if err := os.WriteFile(page, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Error("docs/api.md is not what the API's table says; write it anew with: go test ./node -run TestAPIPage -update")
	}
}
