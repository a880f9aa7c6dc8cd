package edge

import (
	"context"
	"encoding/json"
	"errors"
	"html"
	"net/http"
	"strconv"
	"strings"
	"time"

	"selvage/foundation/fault"
)

// fail replaces the response by an error page for err.
func (cv *conversation) fail(err error) {
	ex := &cv.ex
	if cv.r.Context().Err() != nil {
		// Nobody reads it. The log should not show an origin's failure for a client that left.
		ex.Response.Close()
		ex.Response = Response{Status: statusGone}
		ex.Note.Reason = "client_gone"
		return
	}
	f := failureOf(err)
	if f.Status == http.StatusInternalServerError && f.Code == 0 { // with a code it is a Worker's own fault
		cv.s.log.Error("request failed", "ray", ex.ID, "host", ex.Request.Host, "error", err)
	}
	ex.Note.Reason = f.Reason
	RespondFailure(ex, f, cv.s.pop)
}

// failureOf finds or makes the Failure for an error.
func failureOf(err error) *Failure {
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	var fl *fault.Error
	switch {
	case errors.As(err, &fl) && fl.Kind == fault.TooMuch:
		return &Failure{Status: http.StatusRequestEntityTooLarge, Reason: "body_too_large", Detail: fl.Message, Cause: err}
	case errors.Is(err, context.DeadlineExceeded):
		return &Failure{Status: http.StatusGatewayTimeout, Reason: "timeout", Detail: "The request took too long.", Cause: err}
	}
	return &Failure{Status: http.StatusInternalServerError, Reason: "internal", Detail: "Something broke here, not at the site. The Ray ID leads the operator to the cause.", Cause: err}
}

// RespondFailure gives ex an error page: HTML for browsers, JSON where the client prefers it, text
// for everything else. Nothing of the request stands in it unescaped.
func RespondFailure(ex *Exchange, f *Failure, pop string) {
	ray := ex.ID + "-" + pop
	h := NewHeader("Cache-Control", "private, no-store", "X-Content-Type-Options", "nosniff")
	if f.Status == http.StatusMethodNotAllowed {
		h.Add("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	}
	var body []byte
	switch preferred(ex.Request.Header.Joined("Accept")) {
	case "html":
		h.Add("Content-Type", "text/html; charset=utf-8")
		h.Add("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		body = pageHTML(ex, f, ray)
	case "json":
		h.Add("Content-Type", "application/json")
		body = pageJSON(ex, f, ray)
	default:
		h.Add("Content-Type", "text/plain; charset=utf-8")
		body = []byte("error " + number(f) + ": " + titleOf(f) + " (" + f.Reason + ")\n" + f.Detail + "\nray " + ray + "\n")
	}
	ex.Respond(f.Status, h, body)
}

// preferred picks a form from an Accept field: what it names first of HTML and JSON.
func preferred(accept string) string {
	page := strings.Index(accept, "text/html")
	data := strings.Index(accept, "application/json")
	if data < 0 {
		data = strings.Index(accept, "application/problem+json")
	}
	switch {
	case page >= 0 && (data < 0 || page < data):
		return "html"
	case data >= 0:
		return "json"
	}
	return "text"
}

// number is the status, or Cloudflare's four-digit code where there is one.
func number(f *Failure) string {
	if f.Code != 0 {
		return strconv.Itoa(f.Code)
	}
	return strconv.Itoa(f.Status)
}

// titleOf names a failure, by Cloudflare's code before the status. 520 to 530 are what Cloudflare
// made of them.
func titleOf(f *Failure) string {
	for _, n := range []int{f.Code, f.Status} {
		if t, ok := titles[n]; ok {
			return t
		}
	}
	if t := http.StatusText(f.Status); t != "" {
		return t
	}
	return "Error"
}

var titles = map[int]string{
	1000: "DNS points to this edge",
	1001: "No such site here",
	1003: "Direct IP access not allowed",
	1016: "Origin DNS error",
	1042: "No Worker here",
	1101: "Worker threw exception",
	1102: "Worker exceeded resource limits",
	1019: "Compute server error",
	520:  "Web server returned an unknown response",
	521:  "Web server is down",
	522:  "Connection timed out",
	523:  "Origin is unreachable",
	524:  "A timeout occurred",
	525:  "SSL handshake failed",
	526:  "Invalid SSL certificate",
	530:  "Origin DNS error",
}

// pageJSON has the members of RFC 9457 and ours beside them.
func pageJSON(ex *Exchange, f *Failure, ray string) []byte {
	body, err := json.Marshal(struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
		Reason string `json:"reason"`
		Code   int    `json:"code,omitempty"`
		Host   string `json:"host,omitempty"`
		Ray    string `json:"ray_id"`
	}{titleOf(f), f.Status, f.Detail, f.Reason, f.Code, ex.Request.Host, ray})
	if err != nil {
		return []byte("{}")
	}
	return append(body, '\n')
}

const pageStyle = `:root{color-scheme:light dark;--ink:#1d2430;--soft:#5b6675;--line:#d9dee6;--paper:#fbfbf9;--card:#fff;--mark:#0b6e4f;--warm:#b3541e;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e8ebf0;--soft:#9aa5b4;--line:#2c3440;--paper:#14181f;--card:#1b212a;--mark:#4fc59a;--warm:#e39a68;--bad:#ff8a80}}
body{font:16px/1.55 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:0}
body:before{content:"";display:block;height:6px;background:repeating-linear-gradient(90deg,var(--mark) 0 14px,transparent 14px 18px,var(--warm) 18px 24px,transparent 24px 28px)}
main{max-width:46rem;margin:0 auto;padding:9vh 1.25rem 3rem}
h1{font-size:2rem;line-height:1.2;margin:0}h1+p{color:var(--soft);margin:.3rem 0 1.6rem}
section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:1.1rem 1.25rem}section p{margin:0}
ol{display:flex;list-style:none;margin:0 0 1.1rem;padding:0 0 1.1rem;border-bottom:1px solid var(--line)}
li{flex:1;text-align:center;overflow-wrap:anywhere;padding:0 .3rem}b{display:block;font-size:1.5rem;line-height:1.3}.ok{color:var(--mark)}.bad{color:var(--bad)}small{color:var(--soft);display:block}
footer{color:var(--soft);font-size:.85rem;margin-top:1.1rem;overflow-wrap:anywhere}`

// pageHTML is one small page that needs nothing else.
func pageHTML(ex *Exchange, f *Failure, ray string) []byte {
	host := html.EscapeString(ex.Request.Host)
	if host == "" {
		host = "this site"
	}
	title := html.EscapeString(titleOf(f))
	var b strings.Builder
	b.WriteString("<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><meta name=robots content=noindex><title>" +
		number(f) + ": " + title + "</title><style>" + pageStyle + "</style><main><h1>" + title + "</h1><p>Error " + number(f) + "</p><section>")
	if f.Status >= 520 {
		b.WriteString("<ol><li><b class=ok>\u2713</b>You<small>working</small><li><b class=ok>\u2713</b>Selvage<small>working</small><li><b class=bad>\u2717</b>" + host + "<small>error</small></ol>")
	}
	b.WriteString("<p>" + html.EscapeString(f.Detail) + "</p></section><footer>Ray ID <code>" + html.EscapeString(ray) + "</code> · " +
		html.EscapeString(f.Reason) + " · " + host + " · " + time.Now().UTC().Format("2006-01-02 15:04:05 UTC") + "</footer></main></html>\n")
	return []byte(b.String())
}
