addEventListener("fetch", (event) => {
  event.respondWith(event.request.text().then((body) => new Response(`${WHO} heard ${body}`)));
});
