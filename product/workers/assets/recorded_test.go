package assets_test

import (
	"bufio"
	"cmp"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"
	"testing"

	"selvage/edge"
	"selvage/product/workers/assets"
	"selvage/spec"
)

// recordedGroup is a site of testdata/recorded.jsonl. What answered there were Cloudflare's own
// asset and router workers in miniflare 4.20261117, over http.
type recordedGroup struct {
	Files     []string // of the first line: paths, which are the content, too
	Name      string
	Config    map[string]any
	Redirects string
	Headers   string
	Worker    bool
	Date      string
	Flags     []string
}

type recordedCase struct {
	Target, Method string
	With           map[string]string
	Status         int
	Header         map[string]string // "*" for what miniflare makes in another way
	Body           string            // "WORKER" where the script answered
}

func TestAnswersAsRecorded(t *testing.T) {
	f, err := os.Open("testdata/recorded.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	k := newKit(t)
	var files []string
	var group recordedGroup
	var site *assets.Site
	cases := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.Contains(lines.Text(), `"target"`) {
			var c recordedCase
			if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
				t.Fatal(err)
			}
			checkRecorded(t, site, &group, &c)
			cases++
			continue
		}
		group = recordedGroup{}
		if err := json.Unmarshal(lines.Bytes(), &group); err != nil {
			t.Fatal(err)
		}
		if group.Files != nil {
			files = group.Files
			continue
		}
		config, err := json.Marshal(group.Config)
		if err != nil {
			t.Fatal(err)
		}
		v := spec.WorkerVersion{CompatibilityDate: cmp.Or(group.Date, "2025-01-01"), CompatibilityFlags: group.Flags}
		if group.Worker {
			v.Main = "index.mjs"
		}
		// Configure would refuse what miniflare only leaves out.
		site = k.siteOf(files, &spec.WorkerAssets{Config: config, Redirects: group.Redirects, Headers: group.Headers}, v)
	}
	if cases < 4000 {
		t.Errorf("%d cases, want 4000", cases)
	}
}

func checkRecorded(t *testing.T, site *assets.Site, g *recordedGroup, c *recordedCase) {
	t.Helper()
	ex := exchange(cmp.Or(c.Method, "GET"), c.Target, c.With)
	ex.Request.Scheme = "http"
	served, err := site.Serve(t.Context(), ex)
	if err != nil {
		t.Errorf("%s: %s: %v", g.Name, c.Target, err)
		return
	}
	if decision, err := site.Decide(&ex.Request); (decision == assets.ToAssets) != served || err != nil {
		t.Errorf("%s: %s: Decide = %v, %v, but served is %v", g.Name, c.Target, decision, err, served)
	}
	got := recordedCase{Target: c.Target, Body: "WORKER", Status: http.StatusOK}
	if c.Method == http.MethodHead {
		got.Body = ""
	}
	if served {
		got = answerOf(t, ex, c, g.Headers != "")
	}
	if got.Status != c.Status || got.Body != c.Body || !maps.Equal(got.Header, c.Header) {
		t.Errorf("%s: %s %s %v:\ngot  %d %q %q\nwant %d %q %q", g.Name, c.Method, c.Target, c.With, got.Status, got.Header, got.Body, c.Status, c.Header, c.Body)
	}
}

// answerOf reads a response in the form of the recording: with all headers, or the location only.
func answerOf(t *testing.T, ex *edge.Exchange, c *recordedCase, all bool) recordedCase {
	t.Helper()
	got := recordedCase{Status: ex.Response.Status}
	for _, f := range ex.Response.Header.Fields() {
		name, value := strings.ToLower(f.Name), f.Value
		if !all && name != "location" {
			continue
		}
		if c.Header[name] == "*" {
			value = "*"
		}
		if got.Header == nil {
			got.Header = map[string]string{}
		}
		if old, ok := got.Header[name]; ok {
			value = old + " | " + value
		}
		got.Header[name] = value
	}
	if ex.Response.Body != nil {
		body, err := io.ReadAll(ex.Response.Body)
		if err != nil || int64(len(body)) != ex.Response.Length {
			t.Errorf("%s: body of %d bytes, %v; Length says %d", c.Target, len(body), err, ex.Response.Length)
		}
		got.Body = string(body)
		ex.Response.Close()
	}
	return got
}
