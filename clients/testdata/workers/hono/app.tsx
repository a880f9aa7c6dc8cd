// Twenty routes of what people build with Hono. npm/hono.mjs asks them of a Worker and of this file in Node.js.
import { Hono } from "hono";
import { accepts } from "hono/accepts";
import { basicAuth } from "hono/basic-auth";
import { bearerAuth } from "hono/bearer-auth";
import { bodyLimit } from "hono/body-limit";
import { deleteCookie, getCookie, getSignedCookie, setCookie, setSignedCookie } from "hono/cookie";
import { cors } from "hono/cors";
import { csrf } from "hono/csrf";
import { etag } from "hono/etag";
import { html } from "hono/html";
import { HTTPException } from "hono/http-exception";
import { jwt, sign } from "hono/jwt";
import { poweredBy } from "hono/powered-by";
import { secureHeaders } from "hono/secure-headers";
import { stream, streamSSE, streamText } from "hono/streaming";
import { trimTrailingSlash } from "hono/trailing-slash";
import { validator } from "hono/validator";

type Env = { Bindings: { GREETING: string }; Variables: { seen: string[] } };

const app = new Hono<Env>();

app.use(trimTrailingSlash());
app.use(poweredBy());
app.use("/middleware/*", async (c, next) => {
  c.set("seen", ["outer"]);
  await next();
  c.header("X-After", c.get("seen").join(" "));
});

app.get("/text", (c) => c.text(`${c.env.GREETING} Hono`));
app.get("/json", (c) => c.json({ text: "ä", list: [1, null, true], nested: { a: {} } }));
app.get("/params/:one/:two{[0-9]+}", (c) => c.json(c.req.param()));
app.get("/optional/:name?", (c) => c.text(c.req.param("name") ?? "nobody"));
app.get("/wildcard/*", (c) => c.text(c.req.path));
app.get("/query", (c) => c.json({ q: c.req.query("q"), tags: c.req.queries("tag") }));
app.get("/middleware/inner", (c) => {
  c.get("seen").push("inner");
  return c.text("seen", 201, { "X-Own": "1" });
});
app.use("/cors/*", cors({ origin: ["https://a.test"], allowMethods: ["GET", "PUT"], maxAge: 60, credentials: true }));
app.all("/cors/data", (c) => c.json({ method: c.req.method }));
app.get("/jsx", (c) =>
  c.html(
    <html>
      <body class="page">
        {["a", "<b>", "c&d"].map((item) => <li data-item={item}>{item}</li>)}
      </body>
    </html>,
  ));
app.get("/html", (c) => c.html(html`<p>${"<escaped>"}</p>`));
app.get("/stream/text", (c) =>
  streamText(c, async (s) => {
    for (const word of ["one", "two", "three"]) {
      await s.writeln(word);
      await s.sleep(5);
    }
  }));
app.get("/stream/events", (c) =>
  streamSSE(c, async (s) => {
    for (let i = 0; i < 3; i++) await s.writeSSE({ event: "tick", id: String(i), data: `n ${i}` });
  }));
app.get("/stream/bytes", (c) => stream(c, async (s) => void (await s.write(new Uint8Array([0, 255, 10])))));
app.post(
  "/validated",
  validator("json", (value, c) => typeof value.name === "string" ? { name: value.name } : c.json({ error: "name must be text" }, 422)),
  (c) => c.json({ hello: c.req.valid("json").name }, 201),
);
app.post("/form", async (c) => {
  const { file, ...rest } = await c.req.parseBody({ all: true });
  return c.json({ ...rest, file: file instanceof File ? [file.name, file.type, await file.text()] : null });
});
app.get("/cookies", async (c) => {
  setCookie(c, "plain", "yes; no", { path: "/", httpOnly: true, sameSite: "Lax", maxAge: 60 });
  await setSignedCookie(c, "signed", "value", "secret");
  deleteCookie(c, "old");
  return c.json({ plain: getCookie(c, "plain"), signed: await getSignedCookie(c, "secret", "signed") });
});
app.get("/etag", etag(), (c) => c.text("tagged"));
app.use("/secure", secureHeaders());
app.get("/secure", (c) => c.text("secure"));
app.get("/basic", basicAuth({ username: "u", password: "p" }), (c) => c.text("basic"));
app.get("/bearer", bearerAuth({ token: "token" }), (c) => c.text("bearer"));
app.get("/jwt/make", async (c) => c.text(await sign({ sub: "ann" }, "secret", "HS256")));
app.get("/jwt/read", jwt({ secret: "secret", alg: "HS256" }), (c) => c.json(c.get("jwtPayload")));
app.post("/limited", bodyLimit({ maxSize: 10, onError: (c) => c.text("too long", 413) }), async (c) => c.text(await c.req.text()));
app.post("/csrf", csrf({ origin: "https://a.test" }), (c) => c.text("sent"));
app.get("/accepts", (c) => c.text(accepts(c, { header: "Accept-Language", supports: ["en", "de"], default: "en" })));
app.get("/redirect", (c) => c.redirect("/text", 307));
app.get("/exception", () => {
  throw new HTTPException(418, { message: "a teapot" });
});
app.get("/fail", () => {
  throw new Error("unforeseen");
});
app.on(["PUT", "DELETE"], "/methods", async (c) => c.text(`${c.req.method} ${await c.req.text()}`));
app.route("/nested", new Hono().basePath("/deep").get("/end", (c) => c.text(c.req.routePath)));
app.mount("/mounted", (request: Request) => new Response(new URL(request.url).pathname));
app.notFound((c) => c.json({ missing: c.req.path }, 404));
app.onError((err, c) => err instanceof HTTPException ? err.getResponse() : c.text(`caught: ${err.message}`, 500));

export default app;
