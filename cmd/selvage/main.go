// Command selvage is the whole edge cloud in one program.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"selvage/control/cli"
	"selvage/engine/isolate/sandbox"
	"selvage/node"
)

func main() {
	if sandbox.Main() {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	// After the first signal the program ends in its own time, with the second at once.
	context.AfterFunc(ctx, stop)
	root := cli.Root(node.Version, node.DefaultData(), node.Command())
	os.Exit(cli.Run(ctx, root, os.Stderr))
}
