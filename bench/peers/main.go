// Command caddy is Caddy with its standard modules, at the version that go.mod pins: a peer of the
// benchmarks. It is a module of its own so that nothing of it enters Selvage's.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

func main() { caddycmd.Main() }
