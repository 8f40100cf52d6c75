// SPDX-License-Identifier: Apache-2.0

// The study's Go design, as programs that the benchmarks run beside this project's.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	verbs := map[string]func(*flag.FlagSet) func(context.Context) error{
		"service":  serviceCommand,
		"client":   clientCommand,
		"listener": listenerCommand,
		"operator": operatorCommand,
		"worker":   workerCommand,
		"load":     loadCommand,
	}
	if len(os.Args) < 2 || verbs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: peer service|client|listener|operator|worker|load [flags]")
		os.Exit(2)
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	run := verbs[os.Args[1]](flags)
	flags.Parse(os.Args[2:]) // Ends the program where it fails.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}
