export default { fetch: async (request, env) => new Response(await env.KV.get("a")) };
