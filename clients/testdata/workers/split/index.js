// Says which version answers, and which of its secrets are there.
export default {
  fetch: (request, env) => Response.json({
    which: env.WHICH, version: env.VERSION.id, tag: env.VERSION.tag,
    secrets: Object.fromEntries(Object.entries(env).filter(([name]) => name.startsWith("SECRET"))),
  }),
};
