// Logs and fails where a source map is needed to say so.
import { failIfAsked, type Wish } from "./fail";

export default {
  async fetch(request: Request): Promise<Response> {
    const wish: Wish = { path: new URL(request.url).pathname };
    console.log("asked for", wish);
    failIfAsked(wish);
    return new Response("tailed");
  },
};
