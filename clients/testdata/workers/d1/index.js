export default { fetch: async (request, env) => Response.json((await env.DB.prepare("SELECT count(*) AS n, max(name) AS last FROM people").all()).results) };
