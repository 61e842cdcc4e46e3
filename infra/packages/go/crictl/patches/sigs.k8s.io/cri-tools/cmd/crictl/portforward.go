package main

import (
	"errors"

	"github.com/urfave/cli/v2"
)

// The one command left out: it needs a newer client-go than the one that the other tools share.
var runtimePortForwardCommand = &cli.Command{
	Name:  "port-forward",
	Usage: "Not in this build: use kubectl port-forward",
	Action: func(*cli.Context) error {
		return errors.New("this build of crictl has no port-forward; use kubectl port-forward")
	},
}
