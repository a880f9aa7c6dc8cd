package workers

import (
	"testing"

	"selvage/edge"
	"selvage/spec"
)

func TestPatternsMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, scheme, host, path string
		want                        bool
	}{
		{"example.com/*", "http", "example.com", "/", true},
		{"example.com/*", "https", "example.com", "/a/b", true},
		{"example.com/*", "http", "www.example.com", "/", false},
		{"*example.com/*", "http", "www.example.com", "/", true},
		{"*example.com/*", "http", "notexample.com", "/", true},
		{"*.example.com/*", "http", "www.example.com", "/x", true},
		{"*.example.com/*", "http", "example.com", "/x", false},
		{"example.com", "http", "example.com", "/", true},
		{"example.com", "http", "example.com", "/x", false},
		{"example.com/images*", "http", "example.com", "/images", true},
		{"example.com/images*", "http", "example.com", "/images-old/1.png", true},
		{"example.com/images/*", "http", "example.com", "/images", false},
		{"https://example.com/*", "http", "example.com", "/", false},
		{"https://example.com/*", "https", "example.com", "/", true},
		{"EXAMPLE.com/Path", "http", "example.com", "/Path", true},
		{"EXAMPLE.com/Path", "http", "example.com", "/path", false},
	} {
		p, err := parsePattern(c.pattern)
		if err != nil {
			t.Fatalf("parsePattern(%q): %v", c.pattern, err)
		}
		if got := p.matches(&edge.Request{Scheme: c.scheme, Host: c.host, Path: c.path}); got != c.want {
			t.Errorf("%q matches %s://%s%s: got %v, want %v", c.pattern, c.scheme, c.host, c.path, got, c.want)
		}
	}
}

func TestBadPatternsAreRefused(t *testing.T) {
	for _, s := range []string{"", "/", "*", "*/*", "exa*mple.com/", "example.com/a*b", "example.com/?q", "ftp://example.com/", "example.com:8080/", "-a.com/", "a..b/"} {
		if p, err := parsePattern(s); err == nil {
			t.Errorf("parsePattern(%q) = %+v, want an error", s, p)
		}
	}
}

func TestTheMostSpecificRouteWins(t *testing.T) {
	routes, err := compileRoutes([]*spec.WorkerRoute{
		{Pattern: "*example.com/*", Script: "wide"}, {Pattern: "example.com/*", Script: "all"}, {Pattern: "example.com/images/*", Script: "images"},
		{Pattern: "example.com/images/secret/*", Script: ""}, {Pattern: "*.example.com/*", Script: "sub"}, {Pattern: "https://example.com/images/*", Script: "secure"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for url, want := range map[[3]string]string{
		{"http", "example.com", "/"}: "all", {"http", "example.com", "/images/a"}: "images", {"https", "example.com", "/images/a"}: "secure",
		{"http", "example.com", "/images/secret/a"}: "", {"http", "a.example.com", "/images/a"}: "sub", {"http", "badexample.com", "/"}: "wide",
	} {
		got := "none"
		for i := range routes {
			if routes[i].matches(&edge.Request{Scheme: url[0], Host: url[1], Path: url[2]}) {
				got = routes[i].script
				break
			}
		}
		if got != want {
			t.Errorf("%v leads to %q, want %q", url, got, want)
		}
	}
}
