package proxy

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"

	"selvage/edge"
)

// tracePath answers on every site with what the edge knows of the request, one key=value a line in
// the form that Cloudflare's has.
const tracePath = "/cdn-cgi/trace"

func trace(ex *edge.Exchange) {
	version, sni := "off", "off"
	if ex.TLS != nil {
		version = strings.Replace(tls.VersionName(ex.TLS.Version), "TLS ", "TLSv", 1)
		sni = "plaintext"
	}
	q := &ex.Request
	body := fmt.Sprintf("h=%s\nip=%s\nts=%d.%03d\nvisit_scheme=%s\nuag=%s\nhttp=%s\nloc=%s\ntls=%s\nsni=%s\n",
		q.Host, ex.Client.Addr(), ex.Start.Unix(), ex.Start.UnixMilli()%1000, q.Scheme, q.Header.Get("User-Agent"),
		strings.ToLower(q.Proto), ex.Country, version, sni)
	ex.Respond(http.StatusOK, edge.NewHeader("Content-Type", "text/plain", "Cache-Control", "no-cache", "Access-Control-Allow-Origin", "*"), []byte(body))
}
