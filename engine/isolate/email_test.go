package isolate_test

import "testing"

func TestEmailModule(t *testing.T) {
	h := start(t, nil)
	h.Set(h.module("u", `import { EmailMessage } from "cloudflare:email";
		export default { fetch() {
			const m = new EmailMessage("a@site.test", "b@site.test", "raw");
			return new Response([m.from, m.to, m.raw, JSON.stringify(m)].join(" "));
		} }`))
	h.want("u", "/", `a@site.test b@site.test raw {"from":"a@site.test","to":"b@site.test"}`)
	h.Set(h.module("v", `import("cloudflare-internal:email").catch(() => {}); export default { async fetch() {
		return import("cloudflare-internal:email").then(() => new Response("imported"), () => new Response("refused"));
	} }`))
	h.want("v", "/", "refused")
}
