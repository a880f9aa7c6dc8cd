package edge_test

import (
	"crypto/tls"
	"net/netip"
	"testing"
	"time"

	"selvage/edge"
	"selvage/engine/filter"
	"selvage/spec"
)

func filtered() *edge.Exchange {
	return &edge.Exchange{
		ID:      "0123456789abcdef",
		Start:   time.UnixMilli(1484063137857),
		Client:  netip.MustParseAddrPort("[2001:db8::7]:4711"),
		TLS:     &edge.TLS{Version: tls.VersionTLS13, Cipher: tls.TLS_AES_128_GCM_SHA256},
		Country: "DE",
		Zone:    &spec.ZoneConfig{Zone: &spec.Zone{Name: "example.com"}},
		Request: edge.Request{
			Method: "GET", Scheme: "https", Host: "www.example.com", Port: "8443", Path: "/a/Photo.JPG", Query: "x=1&y=2&x=%33&flag", Proto: "HTTP/2",
			Header: edge.NewHeader("User-Agent", "curl/8", "Accept", "text/html", "accept", "*/*", "Cookie", "app%31=test; b=c=d", "X-Forwarded-For", "192.0.2.1",
				"X-Forwarded-For", "192.0.2.2", "Accept-Language", "de;q=0.5, en, fr;q=0", "Referer", "https://r.test/"),
		},
		Response: edge.Response{Status: 404, Header: edge.NewHeader("Content-Type", "Text/HTML; charset=utf-8", "X-A", "1", "x-a", "2")},
	}
}

func TestFilterValues(t *testing.T) {
	ex := filtered()
	for src, want := range map[string]string{
		`http.host`:                                  "www.example.com",
		`http.request.method`:                        "GET",
		`http.request.uri`:                           "/a/Photo.JPG?x=1&y=2&x=%33&flag",
		`http.request.uri.path`:                      "/a/Photo.JPG",
		`http.request.uri.path.extension`:            "jpg",
		`http.request.uri.query`:                     "x=1&y=2&x=%33&flag",
		`http.request.full_uri`:                      "https://www.example.com:8443/a/Photo.JPG?x=1&y=2&x=%33&flag",
		`join(http.request.uri.args["x"], ",")`:      "1,%33",
		`join(http.request.uri.args["flag"], ",")`:   "",
		`join(http.request.uri.args.names, ",")`:     "x,y,x,flag",
		`join(http.request.uri.args.values, ",")`:    "1,2,%33,",
		`join(http.request.headers["ACCEPT"], ",")`:  "text/html,*/*",
		`http.request.headers["accept"][1]`:          "*/*",
		`http.request.headers["host"][0]`:            "www.example.com",
		`join(http.request.headers["host"], ",")`:    "www.example.com",
		`http.request.headers.names[1]`:              "User-Agent",
		`http.request.headers.values[1]`:             "curl/8",
		`http.cookie`:                                "app%31=test; b=c=d",
		`http.request.cookies["app1"][0]`:            "test",
		`http.request.cookies["b"][0]`:               "c=d",
		`http.user_agent`:                            "curl/8",
		`http.referer`:                               "https://r.test/",
		`http.x_forwarded_for`:                       "192.0.2.1, 192.0.2.2",
		`http.request.version`:                       "HTTP/2",
		`join(http.request.accepted_languages, ",")`: "en,de",
		`http.request.timestamp.sec`:                 "1484063137",
		`http.request.timestamp.msec`:                "857",
		`ip.src`:                                     "2001:db8::7",
		`ip.src.country`:                             "DE",
		`ssl`:                                        "true",
		`cf.tls_version`:                             "TLSv1.3",
		`cf.tls_cipher`:                              "AEAD-AES128-GCM-SHA256",
		`cf.zone.name`:                               "example.com",
		`cf.ray_id`:                                  "0123456789abcdef",
		`http.response.code`:                         "404",
		`http.response.content_type.media_type`:      "text/html",
		`http.response.headers["x-a"][1]`:            "2",
		`join(http.response.headers["x-a"], ",")`:    "1,2",
		`join(http.response.headers.names, ",")`:     "Content-Type,X-A,x-a",
		`join(http.response.headers.values, ",")`:    "Text/HTML; charset=utf-8,1,2",
		`raw.http.request.uri.path`:                  "/a/Photo.JPG",
	} {
		x, err := filter.CompileValue(src, filter.ResponseSchema())
		if err != nil {
			t.Error(err)
			continue
		}
		if got, ok := x.Text(edge.FilterValues(ex)); got != want || !ok {
			t.Errorf("%s = %q, %v, want %q", src, got, ok, want)
		}
	}
	for _, src := range []string{`http.request.headers["nope"][0]`, `http.request.headers["host"][1]`, `http.request.uri.args["nope"][0]`, `http.request.headers.names[99]`} {
		x, err := filter.CompileValue(src, filter.ResponseSchema())
		if err != nil {
			t.Error(err)
			continue
		}
		if got, ok := x.Text(edge.FilterValues(ex)); ok {
			t.Errorf("%s = %q, want it missing", src, got)
		}
	}
}

func TestFilterValuesOfLittle(t *testing.T) {
	ex := &edge.Exchange{Request: edge.Request{Path: "/.mp3"}}
	for src, want := range map[string]bool{
		`ssl`: false, `cf.tls_version eq "none"`: true, `cf.zone.name eq ""`: true, `ip.src eq 0.0.0.0`: false, `ip.src ne 0.0.0.0`: false,
		`http.request.uri.path.extension eq ""`: true, `any(http.request.headers["x"][*] ne "")`: false,
	} {
		e, err := filter.Compile(src, filter.RequestSchema())
		if err != nil {
			t.Error(err)
			continue
		}
		if got := e.Match(edge.FilterValues(ex)); got != want {
			t.Errorf("%s = %v, want %v", src, got, want)
		}
	}
}

func BenchmarkFilterValues(b *testing.B) {
	ex := filtered()
	for _, src := range []string{
		`http.host eq "www.example.com" and starts_with(http.request.uri.path, "/a/")`,
		`http.request.uri.path.extension in {"jpg" "png"}`,
		`any(http.request.headers["accept"][*] eq "*/*")`,
		`http.request.cookies["b"][0] eq "c=d"`,
	} {
		b.Run(src, func(b *testing.B) {
			e, err := filter.Compile(src, filter.RequestSchema())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				e.Match(edge.FilterValues(ex))
			}
		})
	}
}
